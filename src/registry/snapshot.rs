//! A model file as it was read: nothing in it ever changes.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::{manifest::Manifest, name::Name};

/// The file in a model's folder that the model is in.
pub const MODEL: &str = "model.onnx";
/// The file in a model's folder that its own gradient graph is in.
pub const GRADIENT: &str = "gradient.onnx";

/// SHA-256 of some bytes. Displays as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    /// The digest that 64 hexadecimal digits stand for.
    pub fn parse(text: &str) -> Option<Digest> {
        let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
        let bytes: Vec<u8> = digits.as_chunks().0.iter().map(|[high, low]| high << 4 | low).collect();
        if digits.len() == 64 { bytes.try_into().ok().map(Digest) } else { None }
    }

    /// The digest that a hasher has come to.
    pub fn finish(hasher: Sha256) -> Digest {
        Digest(hasher.finalize().into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// One version of a model. Clones of the bytes share memory; they are not yet parsed.
#[derive(Clone, Debug)]
pub struct Snapshot {
    name: Name,
    bytes: Bytes,
    /// Files beside the model that its tensors lie in, and [`GRADIENT`], by their paths in its folder.
    external: BTreeMap<String, Bytes>,
    digest: Digest,
    manifest: Manifest,
}

impl Snapshot {
    /// Takes a model's bytes and those of the files beside it, and digests them.
    pub fn new(name: Name, bytes: impl Into<Bytes>, external: BTreeMap<String, Bytes>, manifest: Manifest) -> Snapshot {
        let bytes = bytes.into();
        let mut hasher = Sha256::new_with_prefix(&bytes);
        for (path, contents) in &external {
            // The digest of each file, so that bytes cannot move from one to the next unseen.
            hasher.update(path.as_bytes());
            hasher.update(Sha256::digest(contents));
        }
        Snapshot { name, digest: Digest::finish(hasher), bytes, external, manifest }
    }

    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// The ONNX file.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The contents of a file beside the model.
    ///
    /// # Errors
    /// Where it was not there when the model was read.
    pub fn external(&self, path: &str) -> Result<Bytes, String> {
        self.external.get(path).cloned().ok_or_else(|| format!("`{path}` is not in the model's folder; put it there"))
    }

    /// The model's own gradient graph, where its folder has one.
    pub fn gradient(&self) -> Option<&Bytes> {
        self.external.get(GRADIENT)
    }

    /// SHA-256 of the ONNX file, and of the files beside it where there are any.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Size of the ONNX file and of those beside it, in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.external.values().fold(self.bytes.len() as u64, |sum, file| sum + file.len() as u64)
    }
}
