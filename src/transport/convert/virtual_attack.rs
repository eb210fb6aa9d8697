//! The virtual attack's settings, and how well its directions were found.

use super::field::{count, finite, known, positive};
use crate::{
    error::Result,
    scoring::types::{Solver, SolverReport, VirtualAttackOptions},
    transport::proto,
};

/// The settings as asked for.
pub fn virtual_attack(options: Option<proto::VirtualAttackOptions>) -> Result<VirtualAttackOptions> {
    let options = options.unwrap_or_default();
    Ok(VirtualAttackOptions {
        solver: match known("attack.virtual_attack.solver", options.solver)? {
            proto::VirtualSolver::Unspecified => Solver::Auto,
            proto::VirtualSolver::Exact => Solver::Exact,
            proto::VirtualSolver::Lanczos => Solver::Lanczos,
        },
        levels: options.levels,
        tolerance: positive("attack.virtual_attack.tolerance", options.tolerance)?,
        max_steps: options.max_steps,
    })
}

/// The settings that were used; absent where all are defaults.
pub fn virtual_attack_used(options: &VirtualAttackOptions) -> Option<proto::VirtualAttackOptions> {
    (*options != VirtualAttackOptions::default()).then(|| proto::VirtualAttackOptions {
        solver: solver(options.solver).into(),
        levels: options.levels,
        tolerance: options.tolerance,
        max_steps: options.max_steps,
    })
}

/// How well directions were found.
///
/// # Errors
/// Internal, when a number is not finite.
pub fn solver_report(report: &SolverReport) -> Result<proto::SolverReport> {
    Ok(proto::SolverReport {
        solver: solver(report.solver).into(),
        n_converged: count(report.n_converged),
        mean_residual: finite("a residual", report.mean_residual)?,
        max_residual: finite("a residual", report.max_residual)?,
        mean_steps: finite("a number of steps", report.mean_steps)?,
    })
}

fn solver(solver: Solver) -> proto::VirtualSolver {
    match solver {
        Solver::Auto => proto::VirtualSolver::Unspecified,
        Solver::Exact => proto::VirtualSolver::Exact,
        Solver::Lanczos => proto::VirtualSolver::Lanczos,
    }
}
