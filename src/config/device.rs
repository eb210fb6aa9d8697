//! Where models run, on the processor or on graphics cards, and how precisely.

use std::{fmt, str::FromStr};

use super::{ConfigError, within};
use crate::limits;

/// Raw arguments: what models run on.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Device")]
pub struct DeviceArgs {
    /// What models run on: auto, cpu, cuda, or graphics cards by number, as cuda:0,cuda:1; auto is cuda where that works,
    /// else cpu
    #[arg(long, value_name = "DEVICE", env = "TRANSFERSCORE_DEVICE", default_value_t)]
    pub device: DeviceChoice,
    /// Memory that sessions may take on each graphics card, in MiB [default: what there is]
    #[arg(long, value_name = "MIB", env = "TRANSFERSCORE_DEVICE_MEMORY")]
    pub device_memory: Option<u64>,
    /// What graphics cards compute in
    #[arg(long, value_enum, value_name = "TYPE", env = "TRANSFERSCORE_PRECISION", default_value_t)]
    pub precision: Precision,
    /// Let graphics cards convolve with channels last
    #[arg(long, env = "TRANSFERSCORE_CHANNELS_LAST", value_parser = clap::builder::BoolishValueParser::new())]
    pub channels_last: bool,
    /// Let graphics cards repeat the steps of attacks as CUDA graphs
    #[arg(long, env = "TRANSFERSCORE_CUDA_GRAPHS", value_parser = clap::builder::BoolishValueParser::new())]
    pub cuda_graphs: bool,
}

/// What was asked for. The first card is number 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first graphics card where one works, else the processor.
    #[default]
    Auto,
    Cpu,
    /// These graphics cards, at least one, each once.
    Cuda(Vec<u32>),
    /// The processor, in the way in which graphics cards are used: for trying that out where there is none.
    Rehearsal,
}

/// What models compute in on graphics cards; on the processor it is float32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Precision {
    /// Single precision throughout.
    #[default]
    Float32,
    /// Products of matrices and convolutions round their factors to 10 bits.
    Tf32,
    /// Half precision between a model's input and output.
    Float16,
}

/// Where and how models run: checked but for the devices themselves, which the runtime looks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceConfig {
    pub choice: DeviceChoice,
    /// What sessions may take on each card, in bytes; `None` for what there is.
    pub memory_bytes: Option<u64>,
    pub precision: Precision,
    pub channels_last: bool,
    pub cuda_graphs: bool,
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => return Ok(DeviceChoice::Auto),
            "cpu" => return Ok(DeviceChoice::Cpu),
            "cuda" => return Ok(DeviceChoice::Cuda(vec![0])),
            "rehearsal" => return Ok(DeviceChoice::Rehearsal),
            _ => {}
        }
        let mut cards = Vec::new();
        for name in text.split(',') {
            let number = name.strip_prefix("cuda:").and_then(|number| number.parse().ok());
            let number = number.filter(|&number: &u32| number < limits::DEVICES);
            let number = number.ok_or_else(|| {
                format!(
                    "{name:?} is no device; give auto, cpu, cuda, or cards from cuda:0 to cuda:{}",
                    limits::DEVICES - 1
                )
            })?;
            if cards.contains(&number) {
                return Err(format!("{name} is there twice; name each card once"));
            }
            cards.push(number);
        }
        Ok(DeviceChoice::Cuda(cards))
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Auto => f.write_str("auto"),
            DeviceChoice::Cpu => f.write_str("cpu"),
            DeviceChoice::Rehearsal => f.write_str("rehearsal"),
            DeviceChoice::Cuda(cards) => {
                let names: Vec<String> = cards.iter().map(|card| format!("cuda:{card}")).collect();
                f.write_str(&names.join(","))
            }
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::Float32 => "float32",
            Precision::Tf32 => "tf32",
            Precision::Float16 => "float16",
        })
    }
}

impl DeviceConfig {
    /// Checks the arguments against each other and the limits.
    ///
    /// # Errors
    /// The first thing wrong, with its flag.
    pub fn new(args: DeviceArgs) -> Result<Self, ConfigError> {
        if let Some(mebibytes) = args.device_memory {
            within("--device-memory", mebibytes, limits::MIN_DEVICE_MEBIBYTES, u64::MAX >> 20)?;
        }
        if args.device == DeviceChoice::Cpu {
            let set = [
                ("--device-memory", args.device_memory.is_some()),
                ("--precision", args.precision != Precision::default()),
                ("--channels-last", args.channels_last),
                ("--cuda-graphs", args.cuda_graphs),
            ];
            if let Some((flag, _)) = set.into_iter().find(|(_, is_set)| *is_set) {
                return Err(ConfigError::ForCards { flag });
            }
        }
        if args.cuda_graphs && matches!(&args.device, DeviceChoice::Cuda(cards) if cards.len() > 1) {
            return Err(ConfigError::ForOneCard { flag: "--cuda-graphs" });
        }
        Ok(DeviceConfig {
            choice: args.device,
            memory_bytes: args.device_memory.map(|mebibytes| mebibytes << 20),
            precision: args.precision,
            channels_last: args.channels_last,
            cuda_graphs: args.cuda_graphs,
        })
    }
}
