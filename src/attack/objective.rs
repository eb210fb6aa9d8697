//! What an attack ascends at some rows: losses of one model or of several, seen through input transformations.

use ndarray::{Array2, ArrayView2, Zip, s};

use super::{LossTarget, Model, Pullback, Transforms, loss::loss_and_cotangents, model::mean, transform::Views};

/// A model, and the loss of it that counts.
pub struct Term<'a, E> {
    pub model: &'a dyn Model<Error = E>,
    pub target: LossTarget,
}

/// The mean of the terms' losses: one term for one model or for [`super::MeanOutputs`], several for an ensemble in losses
/// (Dong et al. 2018, section 3.3, equation 10).
pub struct Objective<'a, E> {
    terms: Vec<Term<'a, E>>,
    sign: f64,
    views: Views,
}

/// What is known at some samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Rows x d: the mean of the terms' outputs; of the last transformed view where there are transformations.
    pub outputs: Array2<f32>,
    /// The loss to ascend, one a row.
    pub losses: Vec<f64>,
    /// Its gradient, rows x n.
    pub gradients: Array2<f32>,
}

impl<'a, E> Objective<'a, E> {
    /// `descends` where the losses are to become small, as in targeted attacks. `shape` is that of one sample, and
    /// `samples` the rows' indices in the probe set, which with the seed determine what the transformations draw.
    pub fn new(
        terms: Vec<Term<'a, E>>,
        descends: bool,
        transforms: &Transforms,
        shape: &[usize],
        seed: u64,
        samples: &[usize],
    ) -> Self {
        let views = Views::new(transforms, shape, seed, samples);
        Objective { terms, sign: if descends { -1.0 } else { 1.0 }, views }
    }

    /// Loss and gradient at `samples`, rows x n. Draws anew what is random in the transformations.
    ///
    /// # Errors
    /// Those of the models.
    pub fn evaluate(&mut self, samples: ArrayView2<'_, f32>) -> Result<Evaluation, E> {
        if self.views.is_plain() {
            return self.evaluate_plainly(samples);
        }
        let mut losses = vec![0.0; samples.nrows()];
        let mut gradients = Array2::<f32>::zeros(samples.dim());
        let mut outputs = Array2::zeros((0, 0));
        let count = self.views.count();
        for index in 0..count {
            let view = self.views.draw(index);
            let seen = self.evaluate_plainly(self.views.seen(&view, samples).view())?;
            let pulled = self.views.pulled_back(&view, seen.gradients.view());
            Zip::from(&mut gradients).and(&pulled).for_each(|sum, value| *sum += value / count as f32);
            losses.iter_mut().zip(seen.losses).for_each(|(sum, value)| *sum += value / count as f64);
            outputs = seen.outputs;
        }
        Ok(Evaluation { outputs, losses, gradients: self.views.smoothed(gradients) })
    }

    /// The loss to ascend and the outputs at `samples` themselves, without a gradient and without transformations.
    ///
    /// # Errors
    /// Those of the models.
    pub fn losses(&self, samples: ArrayView2<'_, f32>) -> Result<(Vec<f64>, Array2<f32>), E> {
        let mut outputs = Vec::with_capacity(self.terms.len());
        let mut losses = vec![0.0; samples.nrows()];
        for Term { model, target } in &self.terms {
            let given = model.outputs(samples)?;
            let (values, _) = loss_and_cotangents(target.loss, given.view(), target.target.view());
            self.add(&mut losses, values);
            outputs.push(given);
        }
        Ok((losses, mean(outputs)))
    }

    fn evaluate_plainly(&self, samples: ArrayView2<'_, f32>) -> Result<Evaluation, E> {
        let (mut outputs, mut gradients) = (Vec::new(), Vec::new());
        let mut losses = vec![0.0; samples.nrows()];
        for Term { model, target } in &self.terms {
            let mut values = Vec::with_capacity(samples.nrows());
            let Pullback { outputs: given, gradients: pulled } = model.pullback(samples, &mut |rows, outputs| {
                let (found, cotangents) = loss_and_cotangents(target.loss, outputs, target.target.slice(s![rows, ..]));
                values.extend(found);
                Ok(vec![cotangents * self.sign as f32])
            })?;
            self.add(&mut losses, values);
            outputs.push(given);
            gradients.extend(pulled);
        }
        Ok(Evaluation { outputs: mean(outputs), losses, gradients: mean(gradients) })
    }

    fn add(&self, losses: &mut [f64], values: Vec<f64>) {
        let weight = self.sign / self.terms.len() as f64;
        losses.iter_mut().zip(values).for_each(|(sum, value)| *sum += weight * value);
    }
}
