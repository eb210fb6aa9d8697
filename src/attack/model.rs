//! A model as attacks see it, and several as one.

use std::ops::Range;

use ndarray::{Array2, ArrayView2, Zip, s};

/// Chooses, for some rows and their outputs (rows x d), the cotangents to pull back: arrays of the outputs' shape, always
/// as many of them for any rows of one call. Each costs a backward pass.
pub type Choose<'a, E> = dyn FnMut(Range<usize>, ArrayView2<'_, f32>) -> Result<Vec<Array2<f32>>, E> + 'a;

/// Outputs at some samples, and what was pulled back through them.
#[derive(Clone, Debug, PartialEq)]
pub struct Pullback {
    /// Rows x d.
    pub outputs: Array2<f32>,
    /// Jᵀc of each array of cotangents c, rows x n.
    pub gradients: Vec<Array2<f32>>,
}

/// A differentiable function of flattened pixels. Rows are samples, each treated by itself.
pub trait Model {
    type Error;

    /// Outputs of samples, rows x n: rows x d.
    ///
    /// # Errors
    /// Where the model cannot be run, or gives what is not finite.
    fn outputs(&self, samples: ArrayView2<'_, f32>) -> Result<Array2<f32>, Self::Error>;

    /// One forward pass, and a backward pass for each array of cotangents that is chosen. `choose` may be called several
    /// times, each for the next rows.
    ///
    /// # Errors
    /// As [`Model::outputs`]; those of `choose`.
    fn pullback(
        &self,
        samples: ArrayView2<'_, f32>,
        choose: &mut Choose<'_, Self::Error>,
    ) -> Result<Pullback, Self::Error>;
}

/// Models whose outputs are averaged: an ensemble in logits (Dong et al. 2018, section 3.3, equation 8; Liu et al. 2017
/// average what comes after the softmax). The models have outputs of one size.
pub struct MeanOutputs<'a, E> {
    models: Vec<&'a dyn Model<Error = E>>,
}

impl<'a, E> MeanOutputs<'a, E> {
    /// `None` without a model.
    pub fn new(models: Vec<&'a dyn Model<Error = E>>) -> Option<Self> {
        (!models.is_empty()).then_some(MeanOutputs { models })
    }
}

impl<E> Model for MeanOutputs<'_, E> {
    type Error = E;

    fn outputs(&self, samples: ArrayView2<'_, f32>) -> Result<Array2<f32>, E> {
        let outputs = self.models.iter().map(|model| model.outputs(samples)).collect::<Result<Vec<_>, E>>()?;
        Ok(mean(outputs))
    }

    /// Runs the models forward twice, as cotangents are chosen by the mean of all.
    fn pullback(&self, samples: ArrayView2<'_, f32>, choose: &mut Choose<'_, E>) -> Result<Pullback, E> {
        let outputs = self.outputs(samples)?;
        let cotangents = choose(0..samples.nrows(), outputs.view())?;
        let mut gradients: Vec<Vec<Array2<f32>>> = vec![Vec::new(); cotangents.len()];
        for model in &self.models {
            let mut same = |rows: Range<usize>, _: ArrayView2<'_, f32>| {
                Ok(cotangents.iter().map(|cotangent| cotangent.slice(s![rows.clone(), ..]).to_owned()).collect())
            };
            let pulled = model.pullback(samples, &mut same)?;
            gradients.iter_mut().zip(pulled.gradients).for_each(|(all, gradient)| all.push(gradient));
        }
        Ok(Pullback { outputs, gradients: gradients.into_iter().map(mean).collect() })
    }
}

/// The mean of arrays of one shape. Of outputs that differ in size, as an ensemble in squared deviations may have, it means
/// nothing and is looked at by nobody.
pub(super) fn mean(arrays: Vec<Array2<f32>>) -> Array2<f32> {
    let count = arrays.len() as f32;
    let mut arrays = arrays.into_iter();
    let Some(mut sum) = arrays.next() else { return Array2::zeros((0, 0)) };
    for array in arrays {
        if array.dim() == sum.dim() {
            Zip::from(&mut sum).and(&array).for_each(|sum, value| *sum += value);
        }
    }
    sum / count
}
