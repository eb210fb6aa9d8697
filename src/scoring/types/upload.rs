//! Files that clients send.

/// What a client says of a file before sending it. Nothing in it is checked yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upload {
    pub name: String,
    /// SHA-256 of the file in hexadecimal digits.
    pub sha256: String,
    /// `None`: not said.
    pub size_bytes: Option<u64>,
    /// Text of the `model.toml` or `dataset.toml`; may be empty.
    pub manifest: String,
    /// Whether an upload of that name is replaced.
    pub overwrite: bool,
}

/// What an upload has become.
#[derive(Clone, Debug, PartialEq)]
pub struct Uploaded<T> {
    pub description: T,
    /// Whether it took the place of an earlier one.
    pub replaced: bool,
}
