//! What can go wrong in an attack.

/// What makes Jacobians unusable.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum JacobianError {
    #[error("the Jacobian of sample {sample} is not finite; leave the sample out or mend the model")]
    NotFinite { sample: usize },
    #[error("level {level} of the virtual attack needs Jacobians of at least {0} rows and columns, not {rank}", level + 1)]
    Level { level: usize, rank: usize },
    #[error(
        "{found} Jacobians of {found_rows} rows came where {expected} of {rows} rows are needed; give those of the same samples"
    )]
    Shape { expected: usize, rows: usize, found: usize, found_rows: usize },
    #[error(
        "Jacobians over {right} pixels came with Jacobians over {left} pixels; take both in the probe's own pixel space"
    )]
    Pixels { left: usize, right: usize },
    #[error(transparent)]
    Decomposition(#[from] crate::stats::Error),
}

/// An error of an attack; `E` is the error of the function that gives gradients.
#[derive(Debug, thiserror::Error)]
pub enum Error<E> {
    #[error("epsilon {0} is not a positive finite number; give a radius in pixel units, such as 0.03")]
    Epsilon(f64),
    #[error("step size {0} is not a positive finite number; 2.5 epsilon / steps is usual")]
    StepSize(f64),
    #[error("0 attack steps; give at least 1")]
    NoSteps,
    #[error("gradients of shape {found:?} came for samples of shape {expected:?}; give one number for each pixel")]
    GradientShape { expected: Vec<usize>, found: Vec<usize> },
    #[error("the gradient of sample {sample} is not finite; leave the sample out or mend the model")]
    GradientNotFinite { sample: usize },
    #[error("{found} outputs are too few classes; the attack needs {needed} or more")]
    FewClasses { needed: usize, found: usize },
    #[error(transparent)]
    Gradient(E),
}

/// An error of an iteration on products with Jacobians; `E` is the error of the products.
#[derive(Debug, thiserror::Error)]
pub enum IterationError<E> {
    #[error(transparent)]
    Decomposition(#[from] crate::stats::Error),
    #[error("{0}")]
    Product(E),
}
