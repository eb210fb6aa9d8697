//! Files on their way to a server, for `models upload` and `datasets upload`.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use indicatif::ProgressBar;
use sha2::{Digest, Sha256};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{Failure, options::ServerArgs, progress};
use crate::{limits, registry, transport::client::ClientError};

#[derive(Debug, clap::Args)]
pub struct FileArgs {
    /// File to send
    file: PathBuf,
    /// Name that it gets on the server [default: the file's without its extension; of a model.onnx, its folder's]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Manifest to go with it [default: the model.toml beside a file named model.onnx]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Replace an earlier upload of that name
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    pub server: ServerArgs,
}

/// What the server is told before the file comes.
pub struct Header {
    pub name: String,
    pub sha256: String,
    pub size_bytes: u64,
    pub manifest: String,
    pub overwrite: bool,
}

/// A file that is being sent.
pub struct Sending {
    reading: JoinHandle<io::Result<()>>,
    bar: ProgressBar,
}

/// Reads the file once, for its size and digest.
///
/// # Errors
/// A file that cannot be read.
pub async fn header(args: &FileArgs) -> Result<Header, Failure> {
    let manifest = match (&args.manifest, args.file.file_name()) {
        (Some(manifest), _) => text(manifest)?,
        (None, Some(name)) if name == "model.onnx" => {
            let beside = args.file.with_file_name("model.toml");
            if beside.exists() { text(&beside)? } else { String::new() }
        }
        _ => String::new(),
    };
    let name = args.name.clone().unwrap_or_else(|| own_name(&args.file));
    let file = args.file.clone();
    let digested = tokio::task::spawn_blocking(move || {
        let (mut hasher, mut size_bytes) = (Sha256::new(), 0);
        read(&file, |chunk| {
            size_bytes += chunk.len() as u64;
            hasher.update(&chunk);
            true
        })?;
        Ok((registry::Digest::finish(hasher).to_string(), size_bytes))
    });
    let (sha256, size_bytes) = joined(digested).await?.map_err(|error| unreadable(&args.file, &error))?;
    Ok(Header { name, sha256, size_bytes, manifest, overwrite: args.overwrite })
}

/// Reads the file again, as fast as its chunks are taken.
pub fn chunks(args: &FileArgs, size_bytes: u64) -> (mpsc::Receiver<Vec<u8>>, Sending) {
    let (sender, receiver) = mpsc::channel(limits::UPLOAD_CHUNKS);
    let bar = progress::bar();
    bar.set_length(size_bytes);
    let (file, shown) = (args.file.clone(), bar.clone());
    let reading = tokio::task::spawn_blocking(move || {
        read(&file, |chunk| {
            shown.inc(chunk.len() as u64);
            // A server that has refused takes no more.
            sender.blocking_send(chunk).is_ok()
        })
    });
    (receiver, Sending { reading, bar })
}

impl Sending {
    /// The server's answer, unless the file could not be read to its end.
    ///
    /// # Errors
    /// What went wrong first.
    pub async fn end<T>(self, answer: Result<T, ClientError>, args: &FileArgs) -> Result<T, Failure> {
        self.bar.finish_and_clear();
        joined(self.reading).await?.map_err(|error| unreadable(&args.file, &error))?;
        Ok(answer?)
    }
}

/// The name that a model or dataset has by its file.
fn own_name(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default();
    let folder = file.parent().and_then(Path::file_name).filter(|_| file.ends_with("model.onnx"));
    folder.unwrap_or(stem).to_string_lossy().into_owned()
}

/// Hands a file's bytes on in chunks, until its end or until `take` wants no more.
fn read(path: &Path, mut take: impl FnMut(Vec<u8>) -> bool) -> io::Result<()> {
    let mut file = File::open(path)?;
    loop {
        let mut chunk = Vec::with_capacity(limits::CHUNK_BYTES);
        file.by_ref().take(limits::CHUNK_BYTES as u64).read_to_end(&mut chunk)?;
        if chunk.is_empty() || !take(chunk) {
            return Ok(());
        }
    }
}

fn text(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::Work(format!("cannot read {}: {error}", path.display()))
}

async fn joined<T>(task: JoinHandle<T>) -> Result<T, Failure> {
    task.await.map_err(|error| Failure::Work(format!("reading broke: {error}")))
}
