//! Settings: raw arguments (flags over environment over a file over defaults) and the validated configuration made of them.
//!
//! Everything is checked here, before a port is bound or a model read. ONNX Runtime is only looked for; loading it and
//! checking its version is the runtime's.

mod device;
pub mod file;
mod security;
mod traces;

use std::{
    env,
    net::SocketAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

pub use self::{
    device::{DeviceArgs, DeviceChoice, DeviceConfig, Precision},
    security::{SecurityArgs, SecurityConfig, TlsConfig},
    traces::TracesArgs,
};
use crate::limits;

/// The version of ONNX Runtime that is looked for; the one that [`crate::runtime`] is made for.
pub const ONNXRUNTIME_VERSION: &str = "1.31.1";

/// The folder into which `make setup` unpacks ONNX Runtime.
pub const ONNXRUNTIME_FOLDER: &str = ".onnxruntime";

/// Raw arguments: where things are and how to run models. `serve` and embedded commands share them.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Models and data")]
pub struct SourceArgs {
    /// Folder of models; repeat for several, or separate by ':'
    #[arg(long, value_name = "DIR", env = "TRANSFERSCORE_MODELS", value_delimiter = ':', default_value = "models")]
    pub models: Vec<PathBuf>,
    /// Folder of datasets; repeat for several, or separate by ':'
    #[arg(
        long,
        value_name = "DIR",
        env = "TRANSFERSCORE_DATASETS",
        value_delimiter = ':',
        default_value = "models/datasets"
    )]
    pub datasets: Vec<PathBuf>,
    /// ONNX Runtime's library, or the folder it is in [env: ORT_DYLIB_PATH] [default: next to the binary, .onnxruntime]
    #[arg(long, value_name = "PATH")]
    pub onnxruntime: Option<PathBuf>,
    /// Threads that run models [default: all cores]
    #[arg(long, value_name = "N", env = "TRANSFERSCORE_THREADS")]
    pub threads: Option<NonZeroUsize>,
    /// Samples that pass through models at once, over all threads; never changes results [default: 64 for each thread]
    #[arg(long, value_name = "N", env = "TRANSFERSCORE_BATCH_SIZE")]
    pub batch_size: Option<usize>,
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// Raw arguments: what one server may spend.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// Most samples of a probe set that one request uses
    #[arg(long, value_name = "N", env = "TRANSFERSCORE_SAMPLE_LIMIT", default_value_t = limits::SAMPLES)]
    pub sample_limit: usize,
    /// Memory for what one request keeps of a probe set, in MiB
    #[arg(long, value_name = "MIB", env = "TRANSFERSCORE_REQUEST_MEMORY", default_value_t = limits::REQUEST_BYTES >> 20)]
    pub request_memory: u64,
    /// Memory for what all requests keep, in MiB; a quarter is left to small ones
    #[arg(long, value_name = "MIB", env = "TRANSFERSCORE_MEMORY", default_value_t = limits::MEMORY_BYTES >> 20)]
    pub memory: u64,
    /// Memory for compiled models between requests, in MiB
    #[arg(
        long,
        value_name = "MIB",
        env = "TRANSFERSCORE_SESSION_MEMORY",
        default_value_t = limits::NETWORK_CACHE_BYTES >> 20
    )]
    pub session_memory: u64,
    /// Requests that compute at once
    #[arg(
        long,
        value_name = "N",
        env = "TRANSFERSCORE_CONCURRENT_REQUESTS",
        default_value_t = limits::CONCURRENT_REQUESTS
    )]
    pub concurrent_requests: usize,
    /// Requests that wait for their turn; more are refused
    #[arg(long, value_name = "N", env = "TRANSFERSCORE_QUEUED_REQUESTS", default_value_t = limits::QUEUED_REQUESTS)]
    pub queued_requests: usize,
    /// Seconds that calls get to finish when the server is told to stop
    #[arg(long, value_name = "N", env = "TRANSFERSCORE_DRAIN_SECONDS", default_value_t = limits::DRAIN_SECONDS)]
    pub drain_seconds: u64,
}

/// Raw arguments: whether clients may send models and datasets, and how much of them.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Uploads")]
pub struct UploadArgs {
    /// Let clients upload models and datasets, and delete what was uploaded
    #[arg(long, env = "TRANSFERSCORE_ALLOW_UPLOADS", value_parser = clap::builder::BoolishValueParser::new())]
    pub allow_uploads: bool,
    /// Folder that uploaded models go to [default: the first of --models]
    #[arg(long, value_name = "DIR", env = "TRANSFERSCORE_UPLOAD_MODELS", requires = "allow_uploads")]
    pub upload_models: Option<PathBuf>,
    /// Folder that uploaded datasets go to [default: the first of --datasets]
    #[arg(long, value_name = "DIR", env = "TRANSFERSCORE_UPLOAD_DATASETS", requires = "allow_uploads")]
    pub upload_datasets: Option<PathBuf>,
    /// Largest file that is uploaded, in MiB
    #[arg(long, value_name = "MIB", env = "TRANSFERSCORE_UPLOAD_LIMIT", default_value_t = limits::UPLOAD_BYTES >> 20)]
    pub upload_limit: u64,
    /// Space on disk for all uploaded models, and as much for all uploaded datasets, in MiB
    #[arg(
        long,
        value_name = "MIB",
        env = "TRANSFERSCORE_UPLOAD_SPACE",
        default_value_t = limits::UPLOAD_SPACE_BYTES >> 20
    )]
    pub upload_space: u64,
}

/// Where uploads go, and what they may take: the folders exist, the numbers are in range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadConfig {
    /// One of the folders of models.
    pub models: PathBuf,
    /// One of the folders of datasets.
    pub datasets: PathBuf,
    /// Largest file, in bytes.
    pub file_bytes: u64,
    /// What all uploads of a folder take on disk, in bytes.
    pub space_bytes: u64,
}

impl LimitArgs {
    /// What a server started for one command may spend.
    pub fn embedded() -> Self {
        LimitArgs {
            sample_limit: limits::SAMPLES,
            request_memory: limits::REQUEST_BYTES >> 20,
            memory: limits::MEMORY_BYTES >> 20,
            session_memory: limits::NETWORK_CACHE_BYTES >> 20,
            concurrent_requests: limits::CONCURRENT_REQUESTS,
            queued_requests: limits::QUEUED_REQUESTS,
            drain_seconds: limits::DRAIN_SECONDS,
        }
    }
}

/// A server's settings: folders exist, numbers are in range, ONNX Runtime's library is a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeConfig {
    /// Folders of models, at least one.
    pub models: Vec<PathBuf>,
    /// Folders of datasets, at least one.
    pub datasets: Vec<PathBuf>,
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Threads that run models, 1 or more.
    pub threads: usize,
    /// Samples that pass through models at once, over all threads; never changes results.
    pub batch_size: usize,
    /// What models run on.
    pub device: DeviceConfig,
    /// Most samples of a probe set that one request uses, at least [`limits::MIN_SAMPLES`].
    pub sample_limit: usize,
    /// Memory for what one request keeps of a probe set, in bytes.
    pub request_bytes: u64,
    /// Memory for what all requests keep, in bytes.
    pub memory_bytes: u64,
    /// Memory for compiled models between requests, in bytes.
    pub session_bytes: u64,
    /// Requests that compute at once, 1 or more.
    pub concurrent_requests: usize,
    /// `None`: uploads are refused.
    pub uploads: Option<UploadConfig>,
    /// Requests that wait for their turn.
    pub queued_requests: usize,
    /// Seconds that calls get to finish when the server stops.
    pub drain_seconds: u64,
    /// ONNX Runtime's library.
    pub onnxruntime: PathBuf,
    /// Folder that jobs are kept in; `None` for a server that keeps none.
    pub jobs: Option<PathBuf>,
    /// Who may connect and call.
    pub security: SecurityConfig,
    /// Address of the collector of traces; `None` where nothing is traced.
    pub traces: Option<String>,
}

/// What is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("{flag} {}: not a folder; give an existing one", path.display())]
    NotAFolder { flag: &'static str, path: PathBuf },
    #[error("{flag} is {value}; give {allowed}")]
    OutOfRange { flag: &'static str, value: u64, allowed: String },
    #[error(
        "uploaded models and uploaded datasets would both go to {}; name a folder of its own for one of them with \
         --upload-models or --upload-datasets",
        path.display()
    )]
    OneFolder { path: PathBuf },
    #[error("{flag} takes {missing} too; give both")]
    Missing { flag: &'static str, missing: &'static str },
    #[error(
        "--web-origin {origin}: not the origin of a web page; give one such as https://example.org, without a path"
    )]
    NotAnOrigin { origin: String },
    #[error("--traces {text}: not the address of a collector; give one such as http://localhost:4317, without a path")]
    NotACollector { text: String },
    #[error("{flag}: this program was built without it; build it with --features {feature}")]
    BuiltWithout { flag: &'static str, feature: &'static str },
    #[error("{flag} is for graphics cards, and --device is cpu; leave one of them out")]
    ForCards { flag: &'static str },
    #[error("{flag} is for one graphics card; name one with --device, or leave it out")]
    ForOneCard { flag: &'static str },
    #[error("{}: {cause}", path.display())]
    File { path: PathBuf, cause: String },
    #[error("{}: there is no setting {key}; those there are: {known}", path.display())]
    UnknownSetting { path: PathBuf, key: String, known: String },
    #[error("ONNX Runtime {ONNXRUNTIME_VERSION} not found; run \"make setup\" or pass --onnxruntime PATH")]
    RuntimeNotFound,
    #[error("{origin} {}: no ONNX Runtime library there; give the path of libonnxruntime.so, or of its folder", path.display())]
    RuntimeNotThere { origin: &'static str, path: PathBuf },
}

impl ServeConfig {
    /// Checks the arguments against each other, the disk and the limits.
    ///
    /// # Errors
    /// The first thing wrong, with its flag.
    pub fn new(sources: SourceArgs, limits_of: LimitArgs, listen: SocketAddr) -> Result<Self, ConfigError> {
        existing("--models", &sources.models)?;
        existing("--datasets", &sources.datasets)?;
        let threads =
            sources.threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
        if let Some(samples) = sources.batch_size {
            within("--batch-size", samples as u64, 1, limits::MAX_BATCH_SAMPLES as u64)?;
        }
        within("--sample-limit", limits_of.sample_limit as u64, limits::MIN_SAMPLES as u64, u64::from(u32::MAX))?;
        within("--request-memory", limits_of.request_memory, 1, u64::MAX >> 20)?;
        within("--memory", limits_of.memory, 1, u64::MAX >> 20)?;
        within("--session-memory", limits_of.session_memory, 0, u64::MAX >> 20)?;
        within(
            "--concurrent-requests",
            limits_of.concurrent_requests as u64,
            1,
            limits::MAX_CONCURRENT_REQUESTS as u64,
        )?;
        within("--queued-requests", limits_of.queued_requests as u64, 0, limits::MAX_QUEUED_REQUESTS as u64)?;
        within("--drain-seconds", limits_of.drain_seconds, 0, limits::MAX_DRAIN_SECONDS)?;
        Ok(ServeConfig {
            onnxruntime: RuntimeSearch::from_environment(sources.onnxruntime).find()?,
            models: sources.models,
            datasets: sources.datasets,
            listen,
            threads,
            device: DeviceConfig::new(sources.device)?,
            batch_size: sources.batch_size.unwrap_or(threads.saturating_mul(limits::BATCH_SAMPLES)),
            sample_limit: limits_of.sample_limit,
            request_bytes: limits_of.request_memory << 20,
            memory_bytes: limits_of.memory << 20,
            session_bytes: limits_of.session_memory << 20,
            concurrent_requests: limits_of.concurrent_requests,
            queued_requests: limits_of.queued_requests,
            drain_seconds: limits_of.drain_seconds,
            jobs: None,
            uploads: None,
            security: SecurityConfig::default(),
            traces: None,
        })
    }

    /// Takes uploads where the arguments say so.
    ///
    /// # Errors
    /// The first thing wrong, with its flag.
    pub fn with_uploads(mut self, uploads: UploadArgs) -> Result<Self, ConfigError> {
        if !uploads.allow_uploads {
            return Ok(self);
        }
        within("--upload-limit", uploads.upload_limit, 1, limits::DATASET_BYTES >> 20)?;
        within("--upload-space", uploads.upload_space, 1, u64::MAX >> 20)?;
        let models = among("--upload-models", uploads.upload_models, &mut self.models)?;
        let datasets = among("--upload-datasets", uploads.upload_datasets, &mut self.datasets)?;
        if models.canonicalize().ok().is_some_and(|folder| datasets.canonicalize().is_ok_and(|other| other == folder)) {
            return Err(ConfigError::OneFolder { path: datasets });
        }
        self.uploads = Some(UploadConfig {
            models,
            datasets,
            file_bytes: uploads.upload_limit << 20,
            space_bytes: uploads.upload_space << 20,
        });
        Ok(self)
    }

    /// The settings as a file of settings has them.
    pub fn to_toml(&self) -> String {
        let text = |path: &Path| toml::Value::from(path.display().to_string());
        let texts = |paths: &[PathBuf]| toml::Value::from(paths.iter().map(|path| text(path)).collect::<Vec<_>>());
        let number = |number: u64| toml::Value::from(i64::try_from(number).unwrap_or(i64::MAX));
        let mut table = toml::Table::new();
        let mut set = |key: &str, value: toml::Value| drop(table.insert(key.to_owned(), value));
        set("models", texts(&self.models));
        set("datasets", texts(&self.datasets));
        set("listen", self.listen.to_string().into());
        set("onnxruntime", text(&self.onnxruntime));
        set("threads", number(self.threads as u64));
        set("batch-size", number(self.batch_size as u64));
        set("sample-limit", number(self.sample_limit as u64));
        set("request-memory", number(self.request_bytes >> 20));
        set("memory", number(self.memory_bytes >> 20));
        set("session-memory", number(self.session_bytes >> 20));
        set("concurrent-requests", number(self.concurrent_requests as u64));
        set("queued-requests", number(self.queued_requests as u64));
        set("drain-seconds", number(self.drain_seconds));
        set("device", self.device.choice.to_string().into());
        if let Some(bytes) = self.device.memory_bytes {
            set("device-memory", number(bytes >> 20));
        }
        set("precision", self.device.precision.to_string().into());
        set("channels-last", self.device.channels_last.into());
        set("cuda-graphs", self.device.cuda_graphs.into());
        if let Some(uploads) = &self.uploads {
            set("allow-uploads", true.into());
            set("upload-limit", number(uploads.file_bytes >> 20));
            set("upload-space", number(uploads.space_bytes >> 20));
        }
        let tls = self.security.tls.as_ref();
        let files = [
            ("jobs", self.jobs.as_ref()),
            ("tls-cert", tls.map(|tls| &tls.certificate)),
            ("tls-key", tls.map(|tls| &tls.key)),
            ("tls-client-ca", tls.and_then(|tls| tls.client_ca.as_ref())),
            ("tokens", self.security.tokens.as_ref()),
            ("upload-models", self.uploads.as_ref().map(|uploads| &uploads.models)),
            ("upload-datasets", self.uploads.as_ref().map(|uploads| &uploads.datasets)),
        ];
        for (key, path) in files {
            if let Some(path) = path {
                set(key, text(path));
            }
        }
        if !self.security.web_origins.is_empty() {
            set("web-origin", self.security.web_origins.clone().into());
        }
        if let Some(collector) = &self.traces {
            set("traces", collector.clone().into());
        }
        table.to_string()
    }
}

/// Where ONNX Runtime may be, in the order of looking. Places that were named must have it; the others may.
#[derive(Clone, Debug, Default)]
pub struct RuntimeSearch {
    /// `--onnxruntime`.
    pub flag: Option<PathBuf>,
    /// `ORT_DYLIB_PATH`.
    pub variable: Option<PathBuf>,
    /// The folder of this program's binary.
    pub binary_folder: Option<PathBuf>,
    /// The working directory.
    pub working_directory: Option<PathBuf>,
}

impl RuntimeSearch {
    pub fn from_environment(flag: Option<PathBuf>) -> Self {
        let binary = env::current_exe().and_then(|binary| binary.canonicalize());
        RuntimeSearch {
            flag,
            variable: env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()).map(PathBuf::from),
            binary_folder: binary.ok().and_then(|binary| binary.parent().map(Path::to_owned)),
            working_directory: env::current_dir().ok(),
        }
    }

    /// The library's path.
    ///
    /// # Errors
    /// When a place that was named does not have it, or no place has.
    pub fn find(&self) -> Result<PathBuf, ConfigError> {
        for (origin, named) in [("--onnxruntime", &self.flag), ("ORT_DYLIB_PATH", &self.variable)] {
            if let Some(path) = named {
                let found = if path.is_file() { Some(path.clone()) } else { library_in(path) };
                return found.ok_or_else(|| ConfigError::RuntimeNotThere { origin, path: path.clone() });
            }
        }
        let beside = self.binary_folder.iter().cloned();
        let here = self.working_directory.iter().map(|folder| folder.join(ONNXRUNTIME_FOLDER));
        let above = self.binary_folder.iter().flat_map(|folder| folder.ancestors());
        let above = above.map(|folder| folder.join(ONNXRUNTIME_FOLDER));
        beside.chain(here).chain(above).find_map(|folder| library_in(&folder)).ok_or(ConfigError::RuntimeNotFound)
    }
}

/// The library in a folder; of several, the first by name that has the right version in it, else the first.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let mut libraries: Vec<PathBuf> = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let is_library = name == "libonnxruntime.so"
                || name.starts_with("libonnxruntime.so.")
                || (name.starts_with("libonnxruntime.") && name.ends_with(".dylib"));
            is_library && path.is_file()
        })
        .collect();
    libraries.sort();
    let of_version = libraries.iter().find(|path| path.to_string_lossy().contains(ONNXRUNTIME_VERSION)).cloned();
    of_version.or_else(|| libraries.into_iter().next())
}

fn existing(flag: &'static str, folders: &[PathBuf]) -> Result<(), ConfigError> {
    match folders.iter().find(|folder| !folder.is_dir()) {
        Some(path) => Err(ConfigError::NotAFolder { flag, path: path.clone() }),
        None => Ok(()),
    }
}

/// The folder that is named, which then is one of the folders, or else their first.
fn among(flag: &'static str, named: Option<PathBuf>, folders: &mut Vec<PathBuf>) -> Result<PathBuf, ConfigError> {
    let Some(named) = named else {
        return folders.first().cloned().ok_or(ConfigError::NotAFolder { flag, path: PathBuf::new() });
    };
    existing(flag, std::slice::from_ref(&named))?;
    // The same folder twice is one folder.
    folders.push(named.clone());
    Ok(named)
}

fn within(flag: &'static str, value: u64, lowest: u64, highest: u64) -> Result<(), ConfigError> {
    if (lowest..=highest).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::OutOfRange { flag, value, allowed: format!("{lowest} to {highest}") })
}
