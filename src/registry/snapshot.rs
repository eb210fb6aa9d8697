//! A model file as it was read: nothing in it ever changes.

use std::fmt;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::{manifest::Manifest, name::Name};

/// SHA-256 of some bytes. Displays as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
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
    digest: Digest,
    manifest: Manifest,
}

impl Snapshot {
    /// Takes a model's bytes and digests them.
    pub fn new(name: Name, bytes: impl Into<Bytes>, manifest: Manifest) -> Snapshot {
        let bytes = bytes.into();
        Snapshot { name, digest: Digest::of(&bytes), bytes, manifest }
    }

    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// The ONNX file.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// SHA-256 of the ONNX file.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Size of the ONNX file, in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }
}
