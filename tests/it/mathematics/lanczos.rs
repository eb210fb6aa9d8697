//! Singular triples from products with a Jacobian, against those of the Jacobian written down.

use std::convert::Infallible;

use ndarray::{Array2, Array3, ArrayView2, Axis, s};
use transferscore::attack::{
    JacobianProducts, LanczosSettings, SingularTriples, singular_levels, singular_triples, top_singular,
};

use super::support::{close, normal_jacobians};

/// Jacobians that are written down, (rows, d, n).
struct Written(Array3<f32>);

impl JacobianProducts for Written {
    type Error = Infallible;

    fn jvp(&self, tangents: ArrayView2<'_, f32>) -> Result<Array2<f32>, Infallible> {
        let (rows, d, _) = self.0.dim();
        Ok(Array2::from_shape_fn((rows, d), |(x, a)| self.0.slice(s![x, a, ..]).dot(&tangents.row(x))))
    }

    fn vjp(&self, cotangents: ArrayView2<'_, f32>) -> Result<Array2<f32>, Infallible> {
        let (rows, _, n) = self.0.dim();
        Ok(Array2::from_shape_fn((rows, n), |(x, i)| self.0.slice(s![x, .., i]).dot(&cotangents.row(x))))
    }
}

const SETTINGS: LanczosSettings = LanczosSettings { levels: 3, tolerance: 1e-6, max_steps: 64, seed: 3 };

fn triples(jacobians: &Array3<f32>, samples: &[usize], settings: LanczosSettings) -> SingularTriples {
    singular_triples(&Written(jacobians.clone()), samples, jacobians.dim().1, &settings).unwrap()
}

/// Compares every level's direction and deviation with the exact ones, by sign as well.
fn agrees_with_the_exact(jacobians: &Array3<f32>, levels: usize, tolerance: f64) {
    let samples: Vec<usize> = (0..jacobians.dim().0).collect();
    let found = triples(jacobians, &samples, LanczosSettings { levels, ..SETTINGS });
    for (level, exact) in singular_levels(jacobians.view(), levels).unwrap().iter().enumerate() {
        let right = exact.directions(jacobians.view()).unwrap();
        for sample in 0..samples.len() {
            let cosine = right.row(sample).dot(&found.right[level].row(sample));
            close(f64::from(cosine), 1.0, tolerance);
            let length = found.deviations[level].row(sample).dot(&found.deviations[level].row(sample)).sqrt();
            close(length / exact.sigma[sample], 1.0, tolerance);
        }
    }
}

#[test]
fn triples_are_those_of_the_whole_jacobian() {
    agrees_with_the_exact(&normal_jacobians((4, 10, 50), 1), 3, 1e-5);
    agrees_with_the_exact(&normal_jacobians((4, 50, 10), 2), 3, 1e-5);
    agrees_with_the_exact(&normal_jacobians((3, 1, 20), 3), 1, 1e-5);
    agrees_with_the_exact(&normal_jacobians((3, 20, 1), 4), 1, 1e-5);
    // Large enough that the iteration ends before the space does.
    agrees_with_the_exact(&normal_jacobians((2, 200, 300), 5), 2, 1e-4);
}

#[test]
fn jacobians_with_fewer_directions_than_levels_have_zeros_for_the_others() {
    let mut jacobians = normal_jacobians((3, 6, 30), 6);
    // Of rank 1 and of rank 0.
    let row = jacobians.slice(s![1, 0, ..]).to_owned();
    for (a, mut to) in jacobians.index_axis_mut(Axis(0), 1).rows_mut().into_iter().enumerate() {
        to.assign(&(&row * (a as f32 - 2.5)));
    }
    jacobians.index_axis_mut(Axis(0), 2).fill(0.0);
    let found = triples(&jacobians, &[0, 1, 2], SETTINGS);
    let exact = top_singular(jacobians.view(), 0).unwrap();
    let length = |level: usize, sample: usize| {
        found.deviations[level].row(sample).dot(&found.deviations[level].row(sample)).sqrt()
    };
    close(length(0, 1), exact.sigma[1], 1e-4 * exact.sigma[1]);
    for (level, sample) in [(1, 1), (2, 1), (0, 2), (1, 2), (2, 2)] {
        assert_eq!(length(level, sample), 0.0, "level {level} of sample {sample}");
        assert!(found.right[level].row(sample).iter().all(|&x| x == 0.0));
    }
    assert_eq!(found.residuals[2], 0.0);
    assert!(length(2, 0) > 0.0);
}

#[test]
fn a_sample_ends_alike_in_any_company() {
    let jacobians = normal_jacobians((5, 40, 60), 7);
    let all = triples(&jacobians, &[10, 11, 12, 13, 14], SETTINGS);
    let one = triples(&jacobians.slice(s![3..4, .., ..]).to_owned(), &[13], SETTINGS);
    for level in 0..SETTINGS.levels {
        assert_eq!(all.right[level].row(3), one.right[level].row(0));
        assert_eq!(all.deviations[level].row(3), one.deviations[level].row(0));
    }
    assert_eq!((all.residuals[3], all.steps[3]), (one.residuals[0], one.steps[0]));
}

#[test]
fn the_residual_tells_how_far_an_unfinished_iteration_is() {
    let jacobians = normal_jacobians((4, 200, 300), 8);
    let settings = LanczosSettings { levels: 1, max_steps: 4, ..SETTINGS };
    let found = triples(&jacobians, &[0, 1, 2, 3], settings);
    for sample in 0..4 {
        // ‖Jᵀu − σv‖/σ from its definition, u being J v/σ.
        let deviation = found.deviations[0].row(sample);
        let sigma = deviation.dot(&deviation).sqrt();
        let jacobian = jacobians.index_axis(Axis(0), sample).mapv(f64::from);
        let rest = jacobian.t().dot(&deviation) / sigma - found.right[0].row(sample).mapv(f64::from) * sigma;
        close(found.residuals[sample], rest.dot(&rest).sqrt() / sigma, 1e-5);
        assert!(found.residuals[sample] > 1e-3, "{}", found.residuals[sample]);
        assert_eq!(found.steps[sample], 4);
    }
}
