//! Both sides of the theorems for a pair: what is known of the task beside the Jacobians, and what cannot be checked.

use ndarray::Axis;

use crate::{
    dataset::Dataset,
    error::{Error, Reason, Result},
    metric::{self, TaskOutputs, theory_checks},
    scoring::{
        knowledge,
        network::Network,
        pair::Call,
        passes::Meeting,
        types::{TheoryOptions, TheoryScores},
    },
};

/// Samples whose lengths are taken at once.
const SAMPLES: usize = 256;

/// Refuses a smoothness that is none, before any work is done.
///
/// # Errors
/// [`Reason::OptionOutOfRange`].
pub fn check(options: Option<&TheoryOptions>) -> Result<()> {
    match options.and_then(|options| options.smoothness) {
        Some(smoothness) if !(smoothness.is_finite() && smoothness >= 0.0) => {
            let message = format!("{smoothness} is no smoothness; give 0 or more, or leave it out");
            Err(Error::new(Reason::OptionOutOfRange, message).at("theory_checks.smoothness"))
        }
        _ => Ok(()),
    }
}

/// The checks, where the call asks for them.
///
/// # Errors
/// [`Reason::Internal`] where arrays do not belong together, which the passes rule out.
pub fn scores(call: &Call<'_>, source: &Network, meeting: &Meeting) -> Result<Option<TheoryScores>> {
    let Some(options) = call.options.theory else { return Ok(None) };
    let mut skipped = Vec::new();
    let moments = match &meeting.theory {
        Some(Ok(moments)) => moments,
        Some(Err(cause)) => return Ok(Some(TheoryScores { checks: None, skipped: vec![cause.to_string()] })),
        None => {
            let reason = "the theory checks need whole Jacobians, and those of one of the models are too large";
            return Ok(Some(TheoryScores { checks: None, skipped: vec![reason.to_owned()] }));
        }
    };
    let probe = call.setting.probe;
    let truth = knowledge::targets(probe);
    let (outputs, d) = (call.reference_record.outputs.view(), call.reference.n_outputs());
    let task = match options.smoothness {
        _ if truth.ncols() != d || truth.is_empty() => {
            skipped.push(format!("theorem 3 needs targets of the reference's {d} outputs, and the probe set has none"));
            None
        }
        None => {
            skipped.push("theorem 3 needs the smoothness of both models; give theory_checks.smoothness".to_owned());
            None
        }
        Some(smoothness) => Some(TaskOutputs {
            source: meeting.source.outputs.view(),
            target: outputs,
            truth: truth.view(),
            radius: radius(probe),
            smoothness,
        }),
    };
    if d != 1 || source.n_outputs() != 1 {
        skipped.push("theorem 1 is of models with a single output".to_owned());
    }
    match theory_checks(moments, task.as_ref()) {
        Ok(checks) => Ok(Some(TheoryScores { checks: Some(checks), skipped })),
        Err(cause @ (metric::Error::NoGradients | metric::Error::AllDead)) => {
            Ok(Some(TheoryScores { checks: None, skipped: vec![cause.to_string()] }))
        }
        Err(cause) => Err(Error::new(Reason::Internal, format!("theory checks: {cause}"))),
    }
}

/// The largest ‖x‖₂ of a sample.
fn radius(probe: &Dataset) -> f64 {
    let n = probe.n_samples();
    let squares = (0..n).step_by(SAMPLES).flat_map(|start| {
        let samples = probe.tile(start..(start + SAMPLES).min(n)).mapv(f64::from);
        samples.map_axis(Axis(1), |sample| sample.dot(&sample))
    });
    squares.fold(0.0_f64, f64::max).sqrt()
}
