//! Attacks on tiles of real networks, and what they do to networks.

use ndarray::{Array2, ArrayView2};

use crate::{
    attack,
    error::{Error, Reason, Result},
    metric,
    scoring::{attack_plan::AttackPlan, jacobian_rows::JacobianRows, network::Network},
};

/// Samples that run together, with what a network gives for them when clean. One row each.
pub struct CleanTile {
    /// Rows x inputs.
    pub samples: Array2<f32>,
    /// Rows x outputs.
    pub outputs: Array2<f32>,
    /// Rows of the Jacobians, where anything asks for them.
    pub jacobians: Option<JacobianRows>,
}

/// The change of a network's outputs under perturbations, rows x outputs: J δ at first order, else f(x + δ) − f(x).
///
/// # Errors
/// Those of [`Network`].
pub fn deviations(
    plan: &AttackPlan,
    network: &Network,
    tile: &CleanTile,
    perturbations: ArrayView2<'_, f32>,
) -> Result<Array2<f64>> {
    if plan.is_first_order() {
        return match tile.jacobians.as_ref().and_then(JacobianRows::whole) {
            Some(jacobians) => {
                metric::first_order_deviations(jacobians, perturbations).map_err(|cause| numeric(network, &cause))
            }
            None => Ok(network.jvp(tile.samples.view(), perturbations)?.mapv(f64::from)),
        };
    }
    let perturbed = network.outputs((&tile.samples + &perturbations).view())?.outputs;
    Ok(perturbed.mapv(f64::from) - tile.outputs.mapv(f64::from))
}

fn numeric(network: &Network, cause: &attack::JacobianError) -> Error {
    Error::new(Reason::ModelExecutionFailed, format!("model `{}`: {cause}", network.name()))
}
