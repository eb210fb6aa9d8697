//! Settings of who may connect and call.

use std::path::{Path, PathBuf};

use super::ConfigError;

/// Raw arguments: certificates, tokens, origins.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Security")]
pub struct SecurityArgs {
    /// File of the server's certificate and those between it and its authority, PEM; read again when it changes
    #[arg(long, value_name = "FILE", env = "TRANSFERSCORE_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,
    /// File of the certificate's key, PEM
    #[arg(long, value_name = "FILE", env = "TRANSFERSCORE_TLS_KEY")]
    pub tls_key: Option<PathBuf>,
    /// File of the authorities of clients' certificates, PEM; with it, clients must show one
    #[arg(long, value_name = "FILE", env = "TRANSFERSCORE_TLS_CLIENT_CA")]
    pub tls_client_ca: Option<PathBuf>,
    /// File of the tokens that may call, TOML; read again when it changes
    #[arg(long, value_name = "FILE", env = "TRANSFERSCORE_TOKENS")]
    pub tokens: Option<PathBuf>,
    /// Origin of web pages that may call, scheme and host without a path; repeat for several, or separate by ','
    #[arg(long = "web-origin", value_name = "ORIGIN", env = "TRANSFERSCORE_WEB_ORIGIN", value_delimiter = ',')]
    pub web_origins: Vec<String>,
}

/// Who may connect and call, checked as far as names go; the files are read by the transport.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecurityConfig {
    /// `None` for connections without TLS.
    pub tls: Option<TlsConfig>,
    /// File of tokens; `None` where everybody may call.
    pub tokens: Option<PathBuf>,
    /// Origins of web pages that may call, beside the server's own.
    pub web_origins: Vec<String>,
}

/// Files of certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// `None` where clients need no certificate.
    pub client_ca: Option<PathBuf>,
}

impl SecurityConfig {
    /// Checks that what belongs together is there.
    ///
    /// # Errors
    /// The first thing wrong.
    pub fn new(args: SecurityArgs) -> Result<Self, ConfigError> {
        let tls = match (args.tls_cert, args.tls_key, args.tls_client_ca) {
            (Some(certificate), Some(key), client_ca) => Some(TlsConfig { certificate, key, client_ca }),
            (None, None, None) => None,
            (Some(_), None, _) => return Err(ConfigError::Missing { flag: "--tls-cert", missing: "--tls-key" }),
            (None, Some(_), _) => return Err(ConfigError::Missing { flag: "--tls-key", missing: "--tls-cert" }),
            (None, None, Some(_)) => {
                return Err(ConfigError::Missing { flag: "--tls-client-ca", missing: "--tls-cert and --tls-key" });
            }
        };
        if let Some(origin) = args.web_origins.iter().find(|origin| !is_origin(origin)) {
            return Err(ConfigError::NotAnOrigin { origin: origin.clone() });
        }
        Ok(SecurityConfig { tls, tokens: args.tokens, web_origins: args.web_origins })
    }

    /// Every file that is named.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let tls = self.tls.iter().flat_map(|tls| [Some(&tls.certificate), Some(&tls.key), tls.client_ca.as_ref()]);
        tls.flatten().chain(&self.tokens).map(PathBuf::as_path)
    }
}

/// Whether a text is a scheme, a host and maybe a port, as browsers name where a page is from.
fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:[]".contains(&byte);
    host.is_some_and(|host| !host.is_empty() && host.bytes().all(is_plain))
}
