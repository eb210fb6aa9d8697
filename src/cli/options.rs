//! Arguments that several commands share, and the messages made of them.

use std::path::PathBuf;

use clap::ValueEnum;

use super::{Failure, attack_options::AttackArgs};
use crate::{
    config::SourceArgs,
    scoring::types,
    transport::{
        client::{Client, ClientSecurity},
        proto,
    },
};

/// Which server to ask, and how to print the answer.
#[derive(Clone, Debug, clap::Args)]
pub struct ClientArgs {
    /// Server to ask, HOST:PORT; without it the command runs its own on --models and --datasets
    #[arg(long, value_name = "ADDR", env = "TRANSFERSCORE_SERVER")]
    pub server: Option<String>,
    /// Print the answer's messages as JSON (the protocol buffers mapping), one on a line
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub connection: ConnectionArgs,
    #[command(flatten)]
    pub sources: SourceArgs,
}

/// Which server to tell, and how to print its answer.
#[derive(Clone, Debug, clap::Args)]
pub struct ServerArgs {
    /// Server to tell, HOST:PORT
    #[arg(long, value_name = "ADDR", env = "TRANSFERSCORE_SERVER")]
    pub server: String,
    /// Print the answer's message as JSON (the protocol buffers mapping)
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

impl ServerArgs {
    /// # Errors
    /// When the server cannot be reached, or a file cannot be read.
    pub async fn connect(&self) -> Result<Client, Failure> {
        Ok(Client::connect_with(&self.server, &self.connection.security()?).await?)
    }
}

/// How to speak with the server of `--server`.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Connection")]
pub struct ConnectionArgs {
    /// File of the authorities that may vouch for the server, PEM [default: the system's, for https://HOST:PORT]
    #[arg(long, value_name = "FILE", env = "TRANSFERSCORE_TLS_CA")]
    tls_ca: Option<PathBuf>,
    /// File of the certificate to show to the server, PEM
    #[arg(long, value_name = "FILE", env = "TRANSFERSCORE_CLIENT_CERT", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// File of that certificate's key, PEM
    #[arg(long, value_name = "FILE", env = "TRANSFERSCORE_CLIENT_KEY", requires = "client_cert")]
    client_key: Option<PathBuf>,
    /// File of the token to call with
    #[arg(long, value_name = "FILE", env = "TRANSFERSCORE_TOKEN_FILE")]
    token_file: Option<PathBuf>,
}

impl ConnectionArgs {
    /// Reads the files.
    ///
    /// # Errors
    /// One that cannot be read.
    pub fn security(&self) -> Result<ClientSecurity, Failure> {
        let read = |path: &Option<PathBuf>| match path {
            None => Ok(None),
            Some(path) => std::fs::read_to_string(path)
                .map(Some)
                .map_err(|error| Failure::Usage(format!("{}: cannot be read: {error}", path.display()))),
        };
        Ok(ClientSecurity {
            authorities: read(&self.tls_ca)?,
            identity: read(&self.client_cert)?.zip(read(&self.client_key)?),
            token: read(&self.token_file)?.map(|token| token.trim().to_owned()),
        })
    }
}

/// Settings of a score or a ranking. What is left out is the server's default.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Method")]
pub struct MethodArgs {
    /// Use at most this many samples, drawn by the seed; 0 means all
    #[arg(long, value_name = "N", default_value_t)]
    pub max_samples: u32,
    /// Seed of every random draw
    #[arg(long, value_name = "N", default_value_t)]
    pub seed: u64,
    #[command(flatten)]
    pub attack: AttackArgs,
    /// Leave gradient matching out, which is faster for FGSM and PGD
    #[arg(long)]
    pub no_gradient_matching: bool,
    /// Output probes of gradient matching where a Jacobian is too large [default: 32]
    #[arg(long, value_name = "N")]
    pub probes: Option<u32>,
    /// Knowledge measure to compute; repeat for several [default: all that the dataset allows]
    #[arg(long = "measure", value_name = "MEASURE", value_enum)]
    pub measures: Vec<KnowledgeMeasure>,
    /// Ridge strength of the affine measures [default: chosen by leave-one-out]
    #[arg(long, value_name = "STRENGTH", allow_negative_numbers = true)]
    pub ridge: Option<f64>,
    /// Folds that choose the ridge strength, in place of leave-one-out
    #[arg(long, value_name = "N")]
    pub ridge_folds: Option<u32>,
    /// Neighbours that vote in k-NN [default: 5]
    #[arg(long, value_name = "K")]
    pub neighbors: Option<u32>,
    /// Tensor of the sources that is read as their features [default: as model.toml says]
    #[arg(long, value_name = "NAME")]
    pub feature_tensor: Option<String>,
    /// What function matching fits [default: outputs]
    #[arg(long, value_name = "WHAT", value_enum)]
    pub function_matching_of: Option<HeadInput>,
    /// What affine transfer fits [default: features]
    #[arg(long, value_name = "WHAT", value_enum)]
    pub affine_transfer_of: Option<HeadInput>,
    /// Folds of the linear probe [default: 5]
    #[arg(long, value_name = "N")]
    pub folds: Option<u32>,
    #[command(flatten)]
    pub fine_tune: FineTuneMeasureArgs,
    #[command(flatten)]
    pub confidence: ConfidenceArgs,
}

/// How intervals are made.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct ConfidenceArgs {
    /// Coverage of the intervals [default: 0.95]
    #[arg(long, value_name = "LEVEL", allow_negative_numbers = true)]
    confidence: Option<f64>,
    /// Bootstrap resamples [default: 1000]
    #[arg(long, value_name = "N")]
    resamples: Option<u32>,
}

impl From<ConfidenceArgs> for proto::Confidence {
    fn from(args: ConfidenceArgs) -> Self {
        proto::Confidence { level: args.confidence, resamples: args.resamples.unwrap_or_default() }
    }
}

/// A fine-tuning in a score or a ranking, for `--measure fine-tune`; `finetune` has more settings.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct FineTuneMeasureArgs {
    /// What fine-tuning trains [default: head]
    #[arg(long, value_name = "WHAT", value_enum)]
    fine_tune_mode: Option<FineTuneMode>,
    /// How fine-tuned weights follow their gradients [default: sgd]
    #[arg(long, value_name = "OPTIMIZER", value_enum)]
    fine_tune_optimizer: Option<FineTuneOptimizer>,
    /// Epochs of fine-tuning [default: 20]
    #[arg(long, value_name = "N")]
    fine_tune_epochs: Option<u32>,
    /// Peak learning rate of fine-tuning [default: 0.01 for sgd, 0.001 for adamw]
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    fine_tune_learning_rate: Option<f64>,
    /// Fine-tune once for each of this many folds [default: once, a quarter of the samples held out]
    #[arg(long, value_name = "N")]
    fine_tune_folds: Option<u32>,
}

impl FineTuneMeasureArgs {
    fn options(&self) -> proto::FineTuneOptions {
        proto::FineTuneOptions {
            mode: self.fine_tune_mode.map_or(0, |mode| proto::FineTuneMode::from(mode).into()),
            optimizer: self.fine_tune_optimizer.map_or(0, |kind| proto::FineTuneOptimizer::from(kind).into()),
            epochs: self.fine_tune_epochs.unwrap_or_default(),
            learning_rate: self.fine_tune_learning_rate,
            folds: self.fine_tune_folds.unwrap_or_default(),
            ..proto::FineTuneOptions::default()
        }
    }
}

impl MethodArgs {
    pub fn gradient_matching(&self) -> proto::GradientMatchingOptions {
        proto::GradientMatchingOptions { skip: self.no_gradient_matching, n_probes: self.probes.unwrap_or_default() }
    }

    pub fn knowledge(&self) -> proto::KnowledgeOptions {
        proto::KnowledgeOptions {
            measures: self.measures.iter().map(|&measure| proto::KnowledgeMeasure::from(measure).into()).collect(),
            ridge: self.ridge,
            folds: self.folds.unwrap_or_default(),
            ridge_folds: self.ridge_folds.unwrap_or_default(),
            n_neighbors: self.neighbors.unwrap_or_default(),
            feature_tensor: self.feature_tensor.clone().unwrap_or_default(),
            function_matching_of: self.function_matching_of.map_or(0, |what| proto::HeadInput::from(what).into()),
            affine_transfer_of: self.affine_transfer_of.map_or(0, |what| proto::HeadInput::from(what).into()),
            fine_tune: Some(self.fine_tune.options()),
        }
    }
}

/// A choice on the command line, and its number on the wire.
macro_rules! choice {
    ($(#[doc = $doc:literal] $name:ident { $($(#[$attribute:meta])* $variant:ident,)+ })+) => {$(
        #[doc = $doc]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
        pub enum $name { $($(#[$attribute])* $variant,)+ }

        impl From<$name> for proto::$name {
            fn from(choice: $name) -> Self {
                match choice { $($name::$variant => proto::$name::$variant,)+ }
            }
        }
    )+};
}

choice! {
    /// A way to singular directions.
    VirtualSolver {
        /// Through the Gram matrix of the whole Jacobian
        Exact,
        /// From products with the Jacobian
        Lanczos,
    }
    /// An attack.
    AttackMethod { Virtual, Fgsm, Pgd, MiFgsm, Apgd, Deepfool, Ddn, Fmn, }
    /// A norm.
    Norm { L2, Linf, }
    /// What an empirical attack ascends.
    AttackLoss { CrossEntropy, CrossEntropyLabels, Kl, SquaredDeviation, Margin, LogitsRatio, }
    /// What is ascended of several models.
    Pooling { Losses, Outputs, }
    /// What momentum adds up.
    Accumulated { Gradients, Directions, }
    /// A measure of knowledge transferability.
    KnowledgeMeasure {
        FunctionMatching,
        AffineTransfer,
        LinearProbe,
        FineTune,
        Verification,
        Leep,
        NLeep,
        Nce,
        #[value(name = "logme")]
        LogMe,
        HScore,
        RegularizedHScore,
        #[value(name = "transrate")]
        TransRate,
        Gbc,
        Sfda,
        Parc,
        Knn,
    }
    /// What of a source an affine head is fitted to.
    HeadInput { Outputs, Features, }
    /// What a fine-tuning trains.
    FineTuneMode { Head, Whole, }
    /// How weights follow their gradients.
    FineTuneOptimizer { Sgd, Adamw, }
    /// How the learning rate goes on after the warm-up.
    FineTuneSchedule { Cosine, Constant, }
    /// A metric to rank by.
    RankingMetric {
        CombinedReferenceToSource,
        CombinedSourceToReference,
        Alpha1ReferenceToSource,
        Alpha1SourceToReference,
        Alpha2ReferenceToSource,
        Alpha2SourceToReference,
        Tau1,
        Explained,
        #[value(name = "function-matching-r2")]
        FunctionMatchingR2,
        LinearProbeAccuracy,
        Recommended,
        #[value(name = "affine-transfer-r2")]
        AffineTransferR2,
        VerificationAccuracy,
        FineTuneAccuracy,
        Leep,
        NLeep,
        Nce,
        LogMe,
        HScore,
        RegularizedHScore,
        TransRate,
        Gbc,
        Sfda,
        Parc,
        Knn,
        NParameters,
        CleanAccuracy,
    }
    /// A matrix of a comparison of tasks.
    TaskMatrix { Alpha1, Alpha2, Combined, Affinity, }
    /// Where a job is.
    JobState { Queued, Running, Succeeded, Failed, Cancelled, }
    /// A kind of gradient graph.
    GradientMode { Vjp, Jvp, }
}

impl From<GradientMode> for types::GradientMode {
    fn from(mode: GradientMode) -> Self {
        match mode {
            GradientMode::Vjp => types::GradientMode::Vjp,
            GradientMode::Jvp => types::GradientMode::Jvp,
        }
    }
}
