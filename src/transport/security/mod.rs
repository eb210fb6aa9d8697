//! Who may connect and who may call: certificates and tokens, read from files again and again while the server runs.
//!
//! Invariant: what is in use was read whole and makes sense. Files that cannot be used are told of in the log and leave the
//! former ones in use; at the start they are refused.

mod authorize;
mod tls;
mod tokens;

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::SystemTime,
};

use http::HeaderMap;
use tokio_rustls::rustls::ServerConfig;

pub use self::{authorize::AuthorizeLayer, tls::incoming};
use self::{authorize::presented, tokens::Tokens};
use crate::{
    config::SecurityConfig,
    error::{Error, Reason, Result},
    transport::methods::Access,
};

/// What is wrong with a file of certificates or tokens.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    #[error("{}: cannot be read: {cause}", path.display())]
    File { path: PathBuf, cause: std::io::Error },
    #[error("{}: {cause}; give a file in PEM format", path.display())]
    Pem { path: PathBuf, cause: String },
    #[error("{}: {cause}", path.display())]
    Certificate { path: PathBuf, cause: String },
    #[error("{}: {cause}", path.display())]
    Tokens { path: PathBuf, cause: String },
}

/// The certificates and tokens of a server.
#[derive(Debug)]
pub struct Security {
    config: SecurityConfig,
    in_use: RwLock<InUse>,
    /// The versions of the files when they were last read, usable or not.
    seen: Mutex<Vec<Stamp>>,
}

#[derive(Clone, Debug)]
struct InUse {
    tls: Option<Arc<ServerConfig>>,
    tokens: Option<Arc<Tokens>>,
}

/// Tells versions of a file apart; `None` where there is none.
type Stamp = Option<(SystemTime, u64, u64)>;

impl Security {
    /// A server that everybody may connect to and call.
    pub fn none() -> Arc<Self> {
        let in_use = RwLock::new(InUse { tls: None, tokens: None });
        Arc::new(Security { config: SecurityConfig::default(), in_use, seen: Mutex::default() })
    }

    /// Reads the files that a configuration names.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn open(config: SecurityConfig) -> std::result::Result<Arc<Self>, SecurityError> {
        let seen = stamps(&config);
        let in_use = read(&config)?;
        Ok(Arc::new(Security { config, in_use: RwLock::new(in_use), seen: Mutex::new(seen) }))
    }

    /// Reads the files again where one has changed since. Blocks for as long as the disk takes. Connections that are open
    /// stay so; tokens count from the next call on. `false` where nothing has changed.
    ///
    /// # Errors
    /// The first file that cannot be used; what was in use stays so.
    pub fn reload(&self) -> std::result::Result<bool, SecurityError> {
        // Held to the end: of two at once, the later reads what is there then.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamps(&self.config);
        if *seen == now {
            return Ok(false);
        }
        *seen = now;
        let read = read(&self.config)?;
        *self.in_use.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(true)
    }

    /// The same, told in the log.
    pub fn reload_and_tell(&self) {
        match self.reload() {
            Ok(true) => tracing::info!("certificates and tokens were read again"),
            Ok(false) => {}
            Err(error) => {
                tracing::error!(%error, "certificates or tokens cannot be read again; the former stay in use")
            }
        }
    }

    /// How to speak TLS with the next client; `None` for a server without.
    pub fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.in_use.read().unwrap_or_else(PoisonError::into_inner).tls.clone()
    }

    /// Origins of web pages that may call, beside the server's own.
    pub fn web_origins(&self) -> &[String] {
        &self.config.web_origins
    }

    /// Whether any file is in use.
    pub fn has_files(&self) -> bool {
        self.config.files().next().is_some()
    }

    /// The name of the caller's token, where the server asks for tokens.
    ///
    /// # Errors
    /// [`Reason::TokenInvalid`], [`Reason::ScopeMissing`].
    pub fn authorize(&self, headers: &HeaderMap, access: Access) -> Result<Option<String>> {
        let Access::With(scope) = access else { return Ok(None) };
        let tokens = self.in_use.read().unwrap_or_else(PoisonError::into_inner).tokens.clone();
        let Some(tokens) = tokens else { return Ok(None) };
        let Some(presented) = presented(headers) else {
            let message = "this server asks for a token; send the header authorization: Bearer TOKEN";
            return Err(Error::new(Reason::TokenInvalid, message));
        };
        let Some(token) = tokens.find(&presented) else {
            let message = "the server does not know this token; ask its operator for one";
            return Err(Error::new(Reason::TokenInvalid, message));
        };
        if !token.scopes.contains(&scope) {
            let message = format!(
                "the token {} has no scope {}, which this call takes; ask the server's operator for it",
                token.name,
                scope.name()
            );
            return Err(Error::new(Reason::ScopeMissing, message));
        }
        Ok(Some(token.name.clone()))
    }
}

fn read(config: &SecurityConfig) -> std::result::Result<InUse, SecurityError> {
    let tls = config.tls.as_ref().map(tls::server_config).transpose()?.map(Arc::new);
    let tokens = config.tokens.as_deref().map(Tokens::read).transpose()?.map(Arc::new);
    Ok(InUse { tls, tokens })
}

fn stamps(config: &SecurityConfig) -> Vec<Stamp> {
    config.files().map(stamp).collect()
}

fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

/// A file of at most so many bytes.
fn contents(path: &Path, most: u64) -> std::result::Result<Vec<u8>, SecurityError> {
    let failed = |cause| SecurityError::File { path: path.to_owned(), cause };
    let bytes = fs::metadata(path).map_err(failed)?.len();
    if bytes > most {
        let message = format!("it has {bytes} bytes, at most {most} make sense");
        return Err(failed(std::io::Error::other(message)));
    }
    fs::read(path).map_err(failed)
}
