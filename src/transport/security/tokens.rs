//! The tokens that a server knows: a TOML file of their digests.
//!
//! The file has no token itself, so that whoever reads it cannot call. Tokens are found by digest, so that the time of a
//! comparison tells nothing of them.

use std::{collections::HashMap, path::Path};

use sha2::{Digest as _, Sha256};

use super::{SecurityError, contents};
use crate::{limits, transport::methods::Scope};

/// A token's rights.
#[derive(Clone, Debug)]
pub struct Token {
    /// Who has it, for the log.
    pub name: String,
    pub scopes: Vec<Scope>,
}

/// Tokens by the SHA-256 of their characters.
#[derive(Debug)]
pub struct Tokens(HashMap<[u8; 32], Token>);

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    token: Vec<Entry>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    sha256: String,
    scopes: Vec<Scope>,
}

impl Tokens {
    /// Reads a file of tokens.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn read(path: &Path) -> Result<Self, SecurityError> {
        let failed = |cause: String| SecurityError::Tokens { path: path.to_owned(), cause };
        let text = String::from_utf8(contents(path, limits::TOKEN_FILE_BYTES)?)
            .map_err(|_| failed("is not text in UTF-8".to_owned()))?;
        let file: File = toml::from_str(&text).map_err(|cause| failed(cause.to_string()))?;
        let mut tokens = HashMap::new();
        for Entry { name, sha256, scopes } in file.token {
            let digest = digest(&sha256).ok_or_else(|| {
                failed(format!(
                    "sha256 of token {name} is not 64 hexadecimal digits; printf %s TOKEN | sha256sum gives them"
                ))
            })?;
            if scopes.is_empty() {
                return Err(failed(format!("token {name} has no scopes; give score, manage or both")));
            }
            if let Some(Token { name: other, .. }) = tokens.insert(digest, Token { name: name.clone(), scopes }) {
                return Err(failed(format!("tokens {other} and {name} are the same; give each its own")));
            }
        }
        Ok(Tokens(tokens))
    }

    /// The rights of a token; `None` where it is not known.
    pub fn find(&self, token: &str) -> Option<&Token> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        self.0.get(&digest)
    }
}

/// 64 hexadecimal digits as 32 bytes.
fn digest(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut digest = [0; 32];
    for (place, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * place..2 * place + 2)?, 16).ok()?;
    }
    Some(digest)
}
