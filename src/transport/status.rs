//! Domain errors to gRPC statuses: the one place that turns causes into codes.
//!
//! Every status carries `google.rpc.ErrorInfo` with a [`Reason`]; a field at fault is in `BadRequest`, a delay in
//! `RetryInfo`, the request's id in `RequestInfo`. What went wrong inside the server stays in its log.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::error::{Error, Kind, Reason};

/// The domain of every reason, as `ErrorInfo` carries it.
pub const ERROR_DOMAIN: &str = "transferscore";

/// When a client that was sent away may come back.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// The status of an error, which is logged here when the server is at fault.
pub fn to_status(error: &Error, request_id: &str) -> Status {
    let message = match error.kind() {
        Kind::Internal => {
            tracing::error!(request_id, error = %error, "internal error");
            format!("internal error; the server's log has the cause under request id {request_id}")
        }
        _ => error.message.clone(),
    };

    let mut details = ErrorDetails::new();
    details.set_error_info(error.reason.name(), ERROR_DOMAIN, HashMap::new());
    details.set_request_info(request_id, "");
    if let Some(field) = &error.field {
        details.add_bad_request_violation(field, &message);
    }
    if error.reason == Reason::ServerBusy {
        details.set_retry_info(Some(RETRY_DELAY));
    }
    Status::with_error_details(code(error.kind()), message, details)
}

fn code(kind: Kind) -> Code {
    match kind {
        Kind::InvalidArgument => Code::InvalidArgument,
        Kind::NotFound => Code::NotFound,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::FailedPrecondition => Code::FailedPrecondition,
        Kind::ResourceExhausted => Code::ResourceExhausted,
        Kind::Cancelled => Code::Cancelled,
        Kind::DeadlineExceeded => Code::DeadlineExceeded,
        Kind::Unavailable => Code::Unavailable,
        Kind::Unauthenticated => Code::Unauthenticated,
        Kind::PermissionDenied => Code::PermissionDenied,
        Kind::Internal => Code::Internal,
    }
}
