//! Sums of products of Jacobians over samples, in bounded memory, whatever the number of samples.
//!
//! Up to a fixed number of numbers the products of each sample are kept by themselves. Above it the samples are put into
//! equal groups at random, and the sums of each group are kept: groups are then resampled in place of samples. Which
//! samples share a group depends on the seed and the sizes alone.

use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, s};

use super::{
    CrossGrams, Error,
    error::{check_finite, check_samples},
};
use crate::{
    limits::MOMENT_NUMBERS,
    stats::{Purpose, Resamples, permutation, stream},
};

/// Fewest groups that samples are put into: an interval from fewer is unsteady.
const FEWEST_GROUPS: usize = 32;

/// What gradient matching needs of all samples: fed by chunks, in any chunks.
#[derive(Clone, Debug)]
pub struct GradientMoments {
    d_target: usize,
    d_source: usize,
    /// The group of each sample.
    groups: Vec<usize>,
    /// (groups, width): J_T J_Sᵀ by rows, the upper triangle of J_S J_Sᵀ by rows, the squared length of each row
    /// of J_T, the number of samples; each summed over the group.
    sums: Array2<f64>,
    /// (N) each; NaN until the sample comes.
    target_energies: Array1<f64>,
    source_energies: Array1<f64>,
    n_added: usize,
}

impl GradientMoments {
    /// Empty moments of the samples that `resamples` were drawn for, with `d_target` and `d_source` rows a Jacobian.
    pub fn new(resamples: &Resamples, d_target: usize, d_source: usize) -> Self {
        let n = resamples.n_samples();
        let width = width(d_target, d_source);
        let n_groups = n_groups(n, width);
        let groups = if n_groups == n {
            (0..n).collect()
        } else {
            let order = permutation(&mut stream(resamples.seed(), Purpose::Groups, 0), n);
            order.into_iter().map(|place| place % n_groups).collect()
        };
        GradientMoments {
            d_target,
            d_source,
            groups,
            sums: Array2::zeros((n_groups, width)),
            target_energies: Array1::from_elem(n, f64::NAN),
            source_energies: Array1::from_elem(n, f64::NAN),
            n_added: 0,
        }
    }

    /// What the sums take in memory, in bytes.
    pub fn bytes(n_samples: usize, d_target: usize, d_source: usize) -> usize {
        let width = width(d_target, d_source);
        n_groups(n_samples, width).saturating_mul(width).saturating_mul(size_of::<f64>())
    }

    /// Adds the products of some samples: row i of `grams` is that of the sample at `positions[i]` of the probe set.
    ///
    /// Samples may come in any order, each once. How they are cut into chunks changes no bit of the result; their order
    /// changes the last bits where samples share a group.
    ///
    /// # Errors
    /// When the products are of other models, a position is not one of the probe set or came before, or a number is not
    /// finite; nothing is added then.
    pub fn add(&mut self, positions: &[usize], grams: &CrossGrams) -> Result<(), Error> {
        self.check(positions, grams)?;
        let (target_energies, source_energies) = (grams.target_energy(), grams.source_energy());
        let (cross_end, own_end) = (self.cross().end, self.own().end);
        for (row, &position) in positions.iter().enumerate() {
            let group = self.groups.get(position).copied().unwrap_or_default();
            let mut sums = self.sums.row_mut(group);
            let (cross, mut rest) = sums.view_mut().split_at(Axis(0), cross_end);
            add_to(cross.into_iter(), grams.cross.row(row));
            let mut at = 0;
            for (index, gram) in grams.own.row(row).exact_chunks(self.d_source.max(1)).into_iter().enumerate() {
                let upper = gram.slice(s![index..]);
                add_to(rest.slice_mut(s![at..at + upper.len()]).iter_mut(), upper);
                at += upper.len();
            }
            let (energies, mut size) = sums.slice_mut(s![own_end..]).split_at(Axis(0), self.d_target);
            add_to(energies.into_iter(), grams.energies.row(row));
            size += 1.0;
            let entries = self.target_energies.get_mut(position).zip(self.source_energies.get_mut(position));
            let found = target_energies.get(row).zip(source_energies.get(row));
            if let (Some((target, source)), Some((&to_target, &to_source))) = (entries, found) {
                (*target, *source) = (to_target, to_source);
            }
        }
        self.n_added += positions.len();
        Ok(())
    }

    fn check(&self, positions: &[usize], grams: &CrossGrams) -> Result<(), Error> {
        let what = "products of Jacobians";
        let (cross, own) = (self.d_target * self.d_source, self.d_source * self.d_source);
        for (rows, length) in [(&grams.cross, cross), (&grams.own, own), (&grams.energies, self.d_target)] {
            check_samples(what, positions.len(), rows.nrows())?;
            if rows.ncols() != length {
                return Err(Error::RowLength { what, expected: length, found: rows.ncols() });
            }
            check_finite("the product of Jacobians", rows.view())?;
        }
        let mut sorted = positions.to_vec();
        sorted.sort_unstable();
        let twice = sorted.windows(2).find_map(|pair| match pair {
            [one, next] if one == next => Some(*one),
            _ => None,
        });
        let is_new = |position: &usize| self.target_energies.get(*position).is_some_and(|energy| energy.is_nan());
        match twice.or_else(|| positions.iter().find(|position| !is_new(position)).copied()) {
            Some(position) => Err(Error::Position { position, n_samples: self.n_samples() }),
            None => Ok(()),
        }
    }

    pub fn n_samples(&self) -> usize {
        self.groups.len()
    }

    /// Samples that were added so far.
    pub fn n_added(&self) -> usize {
        self.n_added
    }

    /// ‖J_T‖²_F of each sample, (N); NaN for a sample that did not come.
    pub fn target_energies(&self) -> ArrayView1<'_, f64> {
        self.target_energies.view()
    }

    /// ‖J_S‖²_F of each sample, (N); NaN for a sample that did not come.
    pub fn source_energies(&self) -> ArrayView1<'_, f64> {
        self.source_energies.view()
    }

    /// The number of rows of the Jacobians, of the target and of the source.
    pub(super) fn outputs(&self) -> (usize, usize) {
        (self.d_target, self.d_source)
    }

    /// (groups, width), see the field.
    pub(super) fn sums(&self) -> ArrayView2<'_, f64> {
        self.sums.view()
    }

    pub(super) fn n_groups(&self) -> usize {
        self.sums.nrows()
    }

    fn cross(&self) -> Range<usize> {
        0..self.d_target * self.d_source
    }

    fn own(&self) -> Range<usize> {
        let start = self.cross().end;
        start..start + triangle(self.d_source)
    }

    /// The parts of a row of sums, or of a mixture of rows.
    pub(super) fn parts(&self, row: ArrayView1<'_, f64>) -> MomentParts {
        let (cross, own) = (row.slice(s![self.cross()]), row.slice(s![self.own()]));
        let mut square = Array2::zeros((self.d_source, self.d_source));
        let mut at = 0;
        for index in 0..self.d_source {
            let length = self.d_source - index;
            let upper = own.slice(s![at..at + length]);
            square.slice_mut(s![index, index..]).assign(&upper);
            square.slice_mut(s![index.., index]).assign(&upper);
            at += length;
        }
        let end = self.own().end;
        let energies = row.slice(s![end..end + self.d_target]).to_owned();
        MomentParts {
            cross: super::gradient_matching::square(cross, self.d_target, self.d_source),
            own: square,
            energy: energies.sum(),
            energies,
            n_samples: row.last().copied().unwrap_or_default(),
        }
    }

    /// A number of each group: ⟨X, Σ J_T J_Sᵀ⟩ − ⟨Y, Σ J_S J_Sᵀ⟩ for X (d_T, d_S) and symmetric Y (d_S, d_S).
    pub(super) fn pairings(&self, cross: ArrayView2<'_, f64>, own: ArrayView2<'_, f64>) -> Array1<f64> {
        let mut weights = Array1::zeros(self.sums.ncols());
        weights.iter_mut().zip(cross).for_each(|(to, &weight): (&mut f64, _)| *to = weight);
        let mut at = self.own().start;
        for (index, row) in own.rows().into_iter().enumerate() {
            for (offset, &weight) in row.iter().skip(index).enumerate() {
                if let Some(to) = weights.get_mut(at) {
                    *to = if offset == 0 { -weight } else { -2.0 * weight };
                }
                at += 1;
            }
        }
        self.sums.dot(&weights)
    }

    /// ‖J_T‖²_F and the number of samples, summed over each group.
    pub(super) fn energies_and_sizes(&self) -> (Array1<f64>, ArrayView1<'_, f64>) {
        let start = self.own().end;
        let end = start + self.d_target;
        (self.sums.slice(s![.., start..end]).sum_axis(Axis(1)), self.sums.column(end))
    }
}

/// Sums over some samples.
pub(super) struct MomentParts {
    /// J_T J_Sᵀ, (d_T, d_S).
    pub cross: Array2<f64>,
    /// J_S J_Sᵀ, (d_S, d_S).
    pub own: Array2<f64>,
    /// Squared lengths of the rows of J_T, (d_T).
    pub energies: Array1<f64>,
    /// ‖J_T‖²_F.
    pub energy: f64,
    pub n_samples: f64,
}

fn n_groups(n_samples: usize, width: usize) -> usize {
    (MOMENT_NUMBERS / width).max(FEWEST_GROUPS).min(n_samples)
}

fn width(d_target: usize, d_source: usize) -> usize {
    d_target * d_source + triangle(d_source) + d_target + 1
}

fn triangle(d: usize) -> usize {
    d * (d + 1) / 2
}

fn add_to<'a>(to: impl Iterator<Item = &'a mut f64>, from: ArrayView1<'_, f64>) {
    to.zip(from).for_each(|(to, &from)| *to += from);
}
