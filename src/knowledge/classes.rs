//! Labels as class indices without gaps.

use ndarray::{Array2, ArrayView2, Axis};

use super::Error;
use crate::stats::{Purpose, permutation, stream};

/// The classes that a probe set has, numbered 0..C in the order of their labels; labels that no sample has take no part.
#[derive(Clone, Debug, PartialEq)]
pub struct Classes {
    of_samples: Vec<usize>,
    sizes: Vec<usize>,
    labels: Vec<u32>,
}

impl Classes {
    /// # Errors
    /// When there are fewer than two classes.
    pub fn new(labels: &[u32]) -> Result<Self, Error> {
        let mut present = labels.to_vec();
        present.sort_unstable();
        let (names, sizes): (Vec<u32>, Vec<usize>) =
            present.chunk_by(|a, b| a == b).filter_map(|run| run.first().map(|&name| (name, run.len()))).unzip();
        if names.len() < 2 {
            return Err(Error::SingleClass);
        }
        let of_samples = labels.iter().map(|label| names.partition_point(|name| name < label)).collect();
        Ok(Classes { of_samples, sizes, labels: names })
    }

    /// C, at least 2.
    pub fn count(&self) -> usize {
        self.sizes.len()
    }

    /// The class of each sample, in 0..C.
    pub fn of_samples(&self) -> &[usize] {
        &self.of_samples
    }

    /// Samples of each class, at least 1.
    pub fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// The label of each class.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The samples of each class, ascending.
    pub fn members(&self) -> Vec<Vec<usize>> {
        let mut members = vec![Vec::new(); self.count()];
        for (sample, &class) in self.of_samples.iter().enumerate() {
            if let Some(members) = members.get_mut(class) {
                members.push(sample);
            }
        }
        members
    }

    /// The same classes dealt to the samples at random: what labels that have nothing to do with the samples look like.
    #[must_use]
    pub fn shuffled(&self, seed: u64, shuffle: usize) -> Self {
        let order = permutation(&mut stream(seed, Purpose::LabelShuffle, shuffle as u64), self.of_samples.len());
        let of_samples = order.into_iter().filter_map(|sample| self.of_samples.get(sample).copied()).collect();
        Classes { of_samples, ..self.clone() }
    }

    /// The sum of the rows (N, d) of each class: (C, d).
    pub fn sums(&self, rows: ArrayView2<'_, f64>) -> Array2<f64> {
        let mut sums = Array2::zeros((self.count(), rows.ncols()));
        for (row, &class) in rows.rows().into_iter().zip(&self.of_samples) {
            let mut sum = sums.row_mut(class);
            sum += &row;
        }
        sums
    }

    /// The mean of the rows (N, d) of each class: (C, d).
    pub fn means(&self, rows: ArrayView2<'_, f64>) -> Array2<f64> {
        let sizes = ndarray::Array1::from_iter(self.sizes.iter().map(|&size| size as f64));
        self.sums(rows) / sizes.insert_axis(Axis(1))
    }
}
