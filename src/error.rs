//! The errors that reach a client.
//!
//! [`Kind`] is what code branches on and becomes the gRPC status; [`Reason`] is the closed list of causes that clients
//! see in `google.rpc.ErrorInfo`, documented in `docs/errors.md`. Modules below the service have small error types of
//! their own and say here what they mean to a client.

use std::{any::Any, fmt};

/// The class of an error: one gRPC status code each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    InvalidArgument,
    NotFound,
    AlreadyExists,
    FailedPrecondition,
    ResourceExhausted,
    Cancelled,
    DeadlineExceeded,
    Unavailable,
    Unauthenticated,
    PermissionDenied,
    Internal,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal => $kind:ident,)+) => {
        /// The cause of an error, from a closed list.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// Every reason, in the order of the documentation.
            pub const ALL: &[Reason] = &[$(Reason::$variant),+];

            /// The name that clients see.
            pub fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name),+ }
            }

            /// The class that the reason belongs to.
            pub fn kind(self) -> Kind {
                match self { $(Reason::$variant => Kind::$kind),+ }
            }
        }
    };
}

reasons! {
    /// The request's bytes are not the message that the call takes.
    RequestMalformed = "REQUEST_MALFORMED" => InvalidArgument,
    /// A required field is empty.
    FieldMissing = "FIELD_MISSING" => InvalidArgument,
    /// An option is outside its documented range.
    OptionOutOfRange = "OPTION_OUT_OF_RANGE" => InvalidArgument,
    /// Options contradict each other, or ask for what this model or probe set cannot give.
    OptionUnsupported = "OPTION_UNSUPPORTED" => InvalidArgument,
    /// Inline samples are malformed: wrong count, NaN, pixels outside 0..1.
    ProbeInvalid = "PROBE_INVALID" => InvalidArgument,
    /// The probe set does not fit a model: shape, classes, too few samples.
    ProbeMismatch = "PROBE_MISMATCH" => InvalidArgument,
    /// No model has this name.
    ModelNotFound = "MODEL_NOT_FOUND" => NotFound,
    /// No dataset has this name.
    DatasetNotFound = "DATASET_NOT_FOUND" => NotFound,
    /// No job has this name.
    JobNotFound = "JOB_NOT_FOUND" => NotFound,
    /// The request id made a job of another request.
    RequestIdTaken = "REQUEST_ID_TAKEN" => AlreadyExists,
    /// The server keeps no jobs.
    JobsNotKept = "JOBS_NOT_KEPT" => FailedPrecondition,
    /// The server ended again and again while it worked on the job.
    JobAbandoned = "JOB_ABANDONED" => FailedPrecondition,
    /// The model's file or manifest cannot be used.
    ModelInvalid = "MODEL_INVALID" => FailedPrecondition,
    /// The model has no gradient: an operator on the way cannot be differentiated.
    ModelNotDifferentiable = "MODEL_NOT_DIFFERENTIABLE" => FailedPrecondition,
    /// The model gave NaN or infinity, or ONNX Runtime could not run it.
    ModelExecutionFailed = "MODEL_EXECUTION_FAILED" => FailedPrecondition,
    /// The dataset's file cannot be used.
    DatasetInvalid = "DATASET_INVALID" => FailedPrecondition,
    /// The server takes no uploads.
    UploadsNotAllowed = "UPLOADS_NOT_ALLOWED" => FailedPrecondition,
    /// The bytes that came are not those that the upload's header announced.
    UploadMismatch = "UPLOAD_MISMATCH" => InvalidArgument,
    /// Something else has the name.
    NameTaken = "NAME_TAKEN" => AlreadyExists,
    /// What is to be replaced or deleted was not uploaded.
    NotUploaded = "NOT_UPLOADED" => FailedPrecondition,
    /// There is no room for an upload.
    StorageFull = "STORAGE_FULL" => ResourceExhausted,
    /// The call has no token, or one that the server does not know.
    TokenInvalid = "TOKEN_INVALID" => Unauthenticated,
    /// The call's token has not the scope that the call takes.
    ScopeMissing = "SCOPE_MISSING" => PermissionDenied,
    /// The request is larger than the server's limits allow.
    LimitExceeded = "LIMIT_EXCEEDED" => ResourceExhausted,
    /// The disk that jobs are kept on, or the share of it that they may take, is full.
    JobStoreFull = "JOB_STORE_FULL" => ResourceExhausted,
    /// The server is at its limit of concurrent work; try again later.
    ServerBusy = "SERVER_BUSY" => ResourceExhausted,
    /// A graphics card has not the memory for a model, even one sample at a time.
    DeviceMemoryExhausted = "DEVICE_MEMORY_EXHAUSTED" => ResourceExhausted,
    /// The client went away or cancelled.
    Cancelled = "CANCELLED" => Cancelled,
    /// The request's deadline passed, or an upload stood still.
    DeadlineExceeded = "DEADLINE_EXCEEDED" => DeadlineExceeded,
    /// The server is stopping.
    ShuttingDown = "SHUTTING_DOWN" => Unavailable,
    /// The graphics cards that models ran on do not work any more.
    DeviceLost = "DEVICE_LOST" => Unavailable,
    /// A defect of the server; the log has the details under the request's id.
    Internal = "INTERNAL" => Internal,
}

/// An error as a client sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    pub reason: Reason,
    /// The request's field at fault, by its path in the message.
    pub field: Option<String>,
    /// What is wrong, where, and what mends it. For [`Reason::Internal`] it stays in the log.
    pub message: String,
}

/// Results of the service's own functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Error { reason, field: None, message: message.into() }
    }

    /// Names the request's field at fault.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    pub fn kind(&self) -> Kind {
        self.reason.kind()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(f, "{field}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Error {}

/// The message of a panic.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}
