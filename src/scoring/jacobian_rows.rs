//! The rows that stand for a model's Jacobian: all of them, or products with random output probes where it is too large.

use std::ops::Range;

use ndarray::{Array2, Array3, ArrayView3, s};

use crate::{
    error::Result,
    scoring::network::{Linearised, Network},
    stats::{Purpose, random_sign, stream},
};

/// The cotangents that a model's Jacobian is multiplied with.
pub struct Probes {
    /// (r, d): the identity for whole Jacobians, else random signs over √r, so that E[WᵀW] = I.
    cotangents: Array2<f32>,
    are_all: bool,
}

/// W J of some samples.
pub struct JacobianRows {
    /// Samples x rows of W x inputs.
    rows: Array3<f32>,
    are_all: bool,
}

impl Probes {
    /// The probes of a network: `n_probes` random ones where its Jacobian is not computed whole, the same for all networks
    /// of that output size.
    pub fn of(network: &Network, n_probes: usize, seed: u64) -> Self {
        let d = network.n_outputs();
        if network.has_small_jacobian() {
            return Probes { cotangents: Array2::eye(d), are_all: true };
        }
        let mut rng = stream(seed, Purpose::OutputProbes, 0);
        let length = (n_probes as f64).sqrt();
        Probes {
            cotangents: Array2::from_shape_simple_fn((n_probes, d), || (random_sign(&mut rng) / length) as f32),
            are_all: false,
        }
    }

    pub fn n_rows(&self) -> usize {
        self.cotangents.nrows()
    }

    /// Whether they give the whole Jacobian.
    pub fn are_all(&self) -> bool {
        self.are_all
    }

    /// W J at the samples of a tile.
    ///
    /// # Errors
    /// Those of [`Linearised::jacobian_rows`].
    pub fn rows(&self, linearised: &Linearised<'_>) -> Result<JacobianRows> {
        Ok(JacobianRows { rows: linearised.jacobian_rows(self.cotangents.view())?, are_all: self.are_all })
    }

    /// Room for the rows of `n_samples` samples.
    pub fn room(&self, n_samples: usize, n_inputs: usize) -> JacobianRows {
        JacobianRows { rows: Array3::zeros((n_samples, self.n_rows(), n_inputs)), are_all: self.are_all }
    }
}

impl JacobianRows {
    /// W J, samples x rows x inputs.
    pub fn view(&self) -> ArrayView3<'_, f32> {
        self.rows.view()
    }

    pub fn n_rows(&self) -> usize {
        self.rows.dim().1
    }

    /// J, where the rows are all of it.
    pub fn whole(&self) -> Option<ArrayView3<'_, f32>> {
        self.are_all.then(|| self.rows.view())
    }

    /// Puts rows of the same probes in their place.
    pub fn put(&mut self, samples: Range<usize>, from: &JacobianRows) {
        self.rows.slice_mut(s![samples, .., ..]).assign(&from.rows);
    }

    /// The rows of some of the samples.
    pub fn part(&self, samples: Range<usize>) -> JacobianRows {
        JacobianRows { rows: self.rows.slice(s![samples, .., ..]).to_owned(), are_all: self.are_all }
    }
}
