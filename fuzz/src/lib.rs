//! The parsers of foreign bytes, each as a function that a fuzzer can call: bytes in, and out whether they were taken or
//! what was said of them. None may panic, whatever it is given, and what is taken must be what the documents promise.
//!
//! `fuzz_targets/` has a program for each, `corpus/` a folder to begin with, in which files named `valid…` are taken and
//! the others refused. `tests/it/fuzzing.rs` includes this file and runs the corpus with every test run.

use std::{fmt::Display, fs, io::Write as _, path::Path};

use bytes::Bytes;
use transferscore::{
    cancel::Cancel,
    dataset::{self, Dataset, DatasetStore},
    gradient::{self, Graph},
    registry::{Announced, Digest, IntakeBounds, Manifest},
    transport::REQUESTS,
};

/// A parser under test; the error is what a client would be told.
pub type Target = fn(&[u8]) -> Result<(), String>;

/// Every target by its name.
pub const TARGETS: &[(&str, Target)] = &[
    ("model", model),
    ("model_manifest", model_manifest),
    ("dataset_manifest", dataset_manifest),
    ("npz", npz),
    ("parquet", parquet),
    ("image", image),
    ("zip", zip),
    ("tar", tar),
    ("pickle", pickle),
    ("request", request),
];

/// Samples of a dataset that are decoded.
const SAMPLES: usize = 8;
/// What an upload may take. Small, as disks are slower than processors.
const BOUNDS: IntakeBounds = IntakeBounds { file_bytes: 1 << 20, space_bytes: 8 << 20 };

/// An ONNX model: read, checked, differentiated both ways and written.
pub fn model(bytes: &[u8]) -> Result<(), String> {
    let bytes = Bytes::copy_from_slice(bytes);
    Graph::external_files(&bytes);
    let graph = Graph::parse(bytes).map_err(text)?;
    gradient::check(&graph);
    assert!(!graph.to_onnx().is_empty());
    for derived in [gradient::vjp(&graph, &[], &[]), gradient::jvp(&graph, &[], &[])].iter().flatten() {
        assert!(!derived.to_onnx().is_empty());
    }
    Ok(())
}

/// A `model.toml`: what is read is what its own text gives again.
pub fn model_manifest(bytes: &[u8]) -> Result<(), String> {
    let manifest = Manifest::parse("model.toml", bytes).map_err(text)?;
    assert_eq!(Manifest::parse("model.toml", manifest.to_toml().as_bytes()), Ok(manifest));
    Ok(())
}

/// A `dataset.toml`.
pub fn dataset_manifest(bytes: &[u8]) -> Result<(), String> {
    dataset::upload::check_manifest(&String::from_utf8_lossy(bytes)).map_err(text)
}

/// An `.npz`, as a dataset and as arrays of any names.
pub fn npz(bytes: &[u8]) -> Result<(), String> {
    let folder = folder();
    let file = folder.path().join("d.npz");
    put(&file, bytes);
    let opened = fs::File::open(&file).expect("the file that was just written");
    let _arrays_or_refusal = dataset::npz::read_all("d.npz", opened);
    stored(folder.path())
}

/// A Parquet file of pictures and labels.
pub fn parquet(bytes: &[u8]) -> Result<(), String> {
    let folder = folder();
    put(&folder.path().join("d.parquet"), bytes);
    stored(folder.path())
}

/// An image file, of whichever kind its first bytes say.
pub fn image(bytes: &[u8]) -> Result<(), String> {
    let folder = folder();
    put(&folder.path().join("d/class/1.png"), bytes);
    stored(folder.path())
}

/// What a client uploads as a dataset: an archive that is unpacked, or one of the files above.
pub fn zip(bytes: &[u8]) -> Result<(), String> {
    let folder = folder();
    let intake = DatasetStore::open(&[folder.path().to_owned()]).map_err(text)?;
    let intake = intake.intake(folder.path(), BOUNDS).map_err(text)?;
    let mut staging = intake.begin("d", false).map_err(text)?;
    let announced = Announced { digest: Digest::of(bytes), bytes: None };
    let mut chunks = [Bytes::copy_from_slice(bytes)].into_iter().filter(|chunk| !chunk.is_empty());
    let received = staging.receive(announced, &mut || Ok(chunks.next()), &Cancel::default()).map_err(text)?;
    dataset::upload::settle(&mut staging, received, "").map_err(text)?;
    stored(&staging.root())
}

/// An archive in `.tar.gz`, before it is packed: damage in packed bytes would be noticed by their checksum.
pub fn tar(bytes: &[u8]) -> Result<(), String> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    packed.write_all(bytes).expect("memory takes what is written");
    let folder = folder();
    put(&folder.path().join("d/dataset.toml"), b"part = 'test'\npath = 'batches.tar.gz'");
    put(&folder.path().join("d/batches.tar.gz"), &packed.finish().expect("memory takes what is written"));
    stored(folder.path())
}

/// The pickle of a batch of CIFAR-10.
pub fn pickle(bytes: &[u8]) -> Result<(), String> {
    let folder = folder();
    put(&folder.path().join("d/dataset.toml"), b"part = 'test'");
    put(&folder.path().join("d/test_batch"), bytes);
    stored(folder.path())
}

/// A request message; the first byte chooses which.
pub fn request(bytes: &[u8]) -> Result<(), String> {
    let (&chosen, message) = bytes.split_first().ok_or("there is no byte that chooses a message")?;
    let (_, read) = REQUESTS[usize::from(chosen) % REQUESTS.len()];
    read(message).map_err(text)
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder for a dataset")
}

fn put(file: &Path, bytes: &[u8]) {
    fs::create_dir_all(file.parent().expect("a file in a folder")).expect("a folder can be made");
    fs::write(file, bytes).expect("a file can be written");
}

/// Reads some samples of the dataset `d`.
fn stored(folder: &Path) -> Result<(), String> {
    let store = DatasetStore::open(&[folder.to_owned()]).map_err(text)?;
    let found = store.find("d").map_err(text)?;
    assert!(found.n_samples() > 0);
    check(&store.load(&found, SAMPLES, 0).map_err(text)?);
    Ok(())
}

/// What every dataset promises of its samples.
fn check(dataset: &Dataset) {
    let is_good = |value: &f32| if dataset.is_pixels() { (0.0..=1.0).contains(value) } else { value.is_finite() };
    assert!((1..=SAMPLES).contains(&dataset.n_samples()));
    assert!(dataset.tile(0..SAMPLES).iter().all(is_good));
    assert!(dataset.labels().into_iter().flatten().all(|&label| (label as usize) < dataset.n_classes()));
    assert!(dataset.targets().into_iter().all(|targets| targets.iter().all(|value| value.is_finite())));
}

fn text(error: impl Display) -> String {
    error.to_string()
}
