//! Settings of where traces go.

use http::{Uri, uri::Scheme};

use super::ConfigError;

/// Raw arguments: the collector.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Traces")]
pub struct TracesArgs {
    /// Collector that traces are sent to by OTLP over gRPC, such as http://localhost:4317
    #[arg(long, value_name = "URL", env = "TRANSFERSCORE_TRACES")]
    pub traces: Option<String>,
}

impl TracesArgs {
    /// The collector's address, `http` or `https`; `None` where nothing is traced.
    ///
    /// # Errors
    /// What is no such address; any at all where this program was built without traces.
    pub fn collector(&self) -> Result<Option<String>, ConfigError> {
        let Some(text) = &self.traces else { return Ok(None) };
        let uri = text.parse::<Uri>().ok().filter(|uri| {
            let is_known = [&Scheme::HTTP, &Scheme::HTTPS].iter().any(|&scheme| uri.scheme() == Some(scheme));
            is_known && uri.host().is_some_and(|host| !host.is_empty()) && uri.path() == "/" && uri.query().is_none()
        });
        if uri.is_none() {
            return Err(ConfigError::NotACollector { text: text.clone() });
        }
        if cfg!(not(feature = "opentelemetry")) {
            return Err(ConfigError::BuiltWithout { flag: "--traces", feature: "opentelemetry" });
        }
        Ok(Some(text.clone()))
    }
}
