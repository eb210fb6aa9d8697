//! How well predictions do on samples that were not trained on.

use ndarray::{ArrayView1, ArrayView2};

/// What the task asks for, sample by sample.
#[derive(Clone, Copy, Debug)]
pub enum Truth<'a> {
    /// Class indices; predictions are logits.
    Classes(&'a [u32]),
    /// Rows of values; predictions are values.
    Values(ArrayView2<'a, f32>),
}

/// One sample's prediction, judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judgement {
    /// Cross-entropy in nats, or the mean of the squared errors of a row.
    pub loss: f64,
    /// Whether the class is the right one; of equal logits the first counts. `None` without classes.
    pub hit: Option<bool>,
}

impl Truth<'_> {
    /// Judges the prediction for a sample; `None` where the truth does not have it or the loss is not finite.
    pub fn judge(&self, sample: usize, prediction: ArrayView1<'_, f32>) -> Option<Judgement> {
        let judgement = match self {
            Truth::Classes(labels) => {
                let class = *labels.get(sample)? as usize;
                let largest = prediction.iter().fold(f64::NEG_INFINITY, |most, &logit| most.max(f64::from(logit)));
                let sum: f64 = prediction.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum();
                let own = f64::from(*prediction.get(class)?);
                let answer = prediction.iter().position(|&logit| f64::from(logit) == largest);
                Judgement { loss: largest + sum.ln() - own, hit: Some(answer == Some(class)) }
            }
            Truth::Values(values) => {
                let row = (sample < values.nrows()).then(|| values.row(sample))?;
                let squares = row.iter().zip(prediction).map(|(y, p)| (f64::from(*y) - f64::from(*p)).powi(2));
                Judgement { loss: squares.sum::<f64>() / row.len().max(1) as f64, hit: None }
            }
        };
        judgement.loss.is_finite().then_some(judgement)
    }
}
