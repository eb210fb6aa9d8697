//! Why a command failed, and with which exit code.

use std::{fmt, io, process::ExitCode};

use crate::{
    config::ConfigError,
    runtime::RuntimeError,
    transport::{client::ClientError, server::ServerError},
};

/// A failure, told in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The work could not be done: exit code 1.
    Work(String),
    /// The command line or the configuration is wrong: exit code 2.
    Usage(String),
}

impl Failure {
    pub fn usage(cause: impl fmt::Display) -> Self {
        Failure::Usage(cause.to_string())
    }

    pub fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Work(_) => ExitCode::from(1),
            Failure::Usage(_) => ExitCode::from(2),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Failure::Work(message) | Failure::Usage(message)) = self;
        // Foreign causes may have several lines; a failure has one.
        for (index, line) in message.lines().enumerate() {
            f.write_str(if index == 0 { "" } else { "; " })?;
            f.write_str(line.trim())?;
        }
        Ok(())
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Address(_) | ClientError::Tls(_) | ClientError::Token => Failure::Usage(error.to_string()),
            _ => Failure::Work(error.to_string()),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Failure::Usage(error.to_string())
    }
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Self {
        match error {
            RuntimeError::Library(_) | RuntimeError::Device(..) => Failure::Usage(error.to_string()),
            _ => Failure::Work(error.to_string()),
        }
    }
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Self {
        match error {
            ServerError::Bind { .. } => Failure::Usage(error.to_string()),
            _ => Failure::Work(error.to_string()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Work(error.to_string())
    }
}
