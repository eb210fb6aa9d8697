//! The virtual attack as it is made: settings filled in, and the solver that a network calls for.

use ndarray::{Array2, ArrayView2, ArrayView3, aview1};

use crate::{
    attack::{IterationError, LanczosSettings, singular_levels, singular_triples},
    error::{Error, Reason, Result},
    limits,
    scoring::{
        network::{Linearised, Network},
        types::{Solver, SolverReport, Variant, VirtualAttackOptions},
    },
};

/// The virtual attack, fully specified.
#[derive(Clone, Debug, PartialEq)]
pub struct VirtualPlan {
    /// Empty for first-order deviations.
    pub epsilons: Vec<f64>,
    /// At least 1.
    pub levels: usize,
    pub solver: Solver,
    /// On ‖Jᵀu − σv‖/σ₁.
    pub tolerance: f64,
    pub max_steps: usize,
}

/// Default of the residual at which Lanczos stops: float32 products give little more.
const TOLERANCE: f64 = 1e-5;
/// Least tolerance that float32 products can reach.
const LEAST_TOLERANCE: f64 = 1e-6;
/// Default of the most Lanczos steps.
const MAX_STEPS: usize = 64;

/// Unit directions of a tile, and how well they were found.
pub struct Directions {
    /// An array (rows, n) for each level.
    pub levels: Vec<Array2<f32>>,
    /// A number a row.
    pub residuals: Vec<f64>,
    /// A number a row.
    pub steps: Vec<usize>,
}

impl Directions {
    /// Residuals and steps, rows x 2.
    pub fn solver(&self) -> Array2<f64> {
        let mut table = Array2::zeros((self.residuals.len(), 2));
        for ((mut row, &residual), &steps) in table.rows_mut().into_iter().zip(&self.residuals).zip(&self.steps) {
            row.assign(&aview1(&[residual, steps as f64]));
        }
        table
    }
}

impl VirtualPlan {
    /// Fills in defaults.
    ///
    /// # Errors
    /// [`Reason::OptionOutOfRange`], naming the field.
    pub fn new(options: &VirtualAttackOptions, epsilons: Vec<f64>) -> Result<Self> {
        let wrong = |field: &str, message: String| {
            Err(Error::new(Reason::OptionOutOfRange, message).at(format!("attack.virtual_attack.{field}")))
        };
        let tolerance = options.tolerance.unwrap_or(TOLERANCE);
        if !(LEAST_TOLERANCE..1.0).contains(&tolerance) {
            return wrong("tolerance", format!("{tolerance} is no tolerance; give {LEAST_TOLERANCE} to 1"));
        }
        let levels = (options.levels as usize).max(1);
        if levels > limits::SINGULAR_LEVELS {
            return wrong("levels", format!("{levels} levels are too many; ask for 1 to {}", limits::SINGULAR_LEVELS));
        }
        let max_steps = if options.max_steps == 0 { MAX_STEPS } else { options.max_steps as usize };
        if max_steps > limits::LANCZOS_STEPS {
            let message = format!("{max_steps} steps are too many; ask for 1 to {}", limits::LANCZOS_STEPS);
            return wrong("max_steps", message);
        }
        Ok(VirtualPlan { epsilons, levels, solver: options.solver, tolerance, max_steps: max_steps.max(levels) })
    }

    /// Whether deviations are J δ, without running the models again.
    pub fn is_first_order(&self) -> bool {
        self.epsilons.is_empty()
    }

    /// The attacks of the call, the strongest direction first.
    pub fn variants(&self) -> Vec<Variant> {
        let radii: Vec<Option<f64>> = match self.epsilons.as_slice() {
            [] => vec![None],
            epsilons => epsilons.iter().copied().map(Some).collect(),
        };
        let levels = 0..self.levels;
        levels.flat_map(|level| radii.iter().map(move |&epsilon| Variant { epsilon, level })).collect()
    }

    /// The solver for a network.
    ///
    /// # Errors
    /// [`Reason::OptionUnsupported`] where exact Jacobians would be too large or the network has fewer directions.
    pub fn solver(&self, network: &Network) -> Result<Solver> {
        let refused = |field: &str, message| Err(Error::new(Reason::OptionUnsupported, message).at(field));
        let directions = network.n_outputs().min(network.n_inputs());
        if self.levels > directions {
            let message = format!(
                "model `{}` has {directions} singular directions; ask for as many levels or fewer",
                network.name()
            );
            return refused("attack.virtual_attack.levels", message);
        }
        match self.solver {
            Solver::Exact if !network.has_small_jacobian() => {
                let message = format!(
                    "the Jacobian of model `{}` is {} x {} a sample, too large to be written down; choose LANCZOS",
                    network.name(),
                    network.n_outputs(),
                    network.n_inputs()
                );
                refused("attack.virtual_attack.solver", message)
            }
            Solver::Auto if network.has_small_jacobian() => Ok(Solver::Exact),
            Solver::Auto => Ok(Solver::Lanczos),
            chosen => Ok(chosen),
        }
    }

    /// The directions at the samples of a tile, given by their index in the probe set, from the exact Jacobians where there
    /// are such and the plan allows it.
    ///
    /// # Errors
    /// As [`VirtualPlan::solver`], and [`Reason::ModelExecutionFailed`].
    pub fn directions(
        &self,
        network: &Network,
        linearised: &Linearised<'_>,
        jacobians: Option<ArrayView3<'_, f32>>,
        samples: &[usize],
        seed: u64,
    ) -> Result<Directions> {
        if let (Some(jacobians), Solver::Exact) = (jacobians, self.solver(network)?) {
            let levels = singular_levels(jacobians, self.levels).and_then(|levels| {
                levels.iter().map(|level| level.directions(jacobians)).collect::<Result<Vec<_>, _>>()
            });
            let levels = levels.map_err(|cause| failed(network, &cause))?;
            return Ok(Directions { levels, residuals: vec![0.0; samples.len()], steps: vec![0; samples.len()] });
        }
        let settings =
            LanczosSettings { levels: self.levels, tolerance: self.tolerance, max_steps: self.max_steps, seed };
        let triples = singular_triples(linearised, samples, network.n_outputs(), &settings);
        let triples = triples.map_err(|cause| match cause {
            IterationError::Product(error) => error,
            IterationError::Decomposition(cause) => failed(network, &cause),
        })?;
        Ok(Directions { levels: triples.right, residuals: triples.residuals, steps: triples.steps })
    }

    /// Sums up how well a network's directions were found, from [`Directions::solver`] of all samples.
    ///
    /// # Errors
    /// As [`VirtualPlan::solver`].
    pub fn report(&self, network: &Network, table: ArrayView2<'_, f64>) -> Result<SolverReport> {
        let n_samples = table.nrows().max(1) as f64;
        let residuals = || table.rows().into_iter().filter_map(|row| row.first().copied());
        Ok(SolverReport {
            solver: self.solver(network)?,
            n_converged: residuals().filter(|&residual| residual <= self.tolerance).count(),
            mean_residual: residuals().sum::<f64>() / n_samples,
            max_residual: residuals().fold(0.0, f64::max),
            mean_steps: table.rows().into_iter().filter_map(|row| row.get(1).copied()).sum::<f64>() / n_samples,
        })
    }
}

fn failed(network: &Network, cause: &dyn std::fmt::Display) -> Error {
    Error::new(Reason::ModelExecutionFailed, format!("model `{}`: {cause}", network.name()))
}
