//! The rule for names of models and datasets, and what to suggest for a name that nothing has.
//!
//! Invariant: a [`Name`] is one path component. Joining it to a folder never leaves that folder.

use std::fmt;

use crate::limits;

/// Name of a model or a dataset: ASCII letters, digits, `.`, `_` and `-`, not starting with a dot, at most
/// [`limits::NAME_BYTES`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("the name is empty")]
    Empty,
    #[error("the name is longer than {} bytes", limits::NAME_BYTES)]
    TooLong,
    #[error("the name starts with a dot")]
    LeadingDot,
    #[error("the name contains {0:?}; use letters, digits, '.', '_' and '-'")]
    Character(char),
}

impl Name {
    /// Checks a text against the rule.
    ///
    /// # Errors
    /// The first rule that the text breaks.
    pub fn parse(text: &str) -> Result<Name, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > limits::NAME_BYTES {
            return Err(NameError::TooLong);
        }
        if text.starts_with('.') {
            return Err(NameError::LeadingDot);
        }
        match text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))) {
            Some(bad) => Err(NameError::Character(bad)),
            None => Ok(Name(text.to_owned())),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Most suggestions for a name that was not found.
const SUGGESTIONS: usize = 3;

/// The candidates nearest to a name, nearest first, at most three: within a third of the name's length in edits, or
/// one containing the other.
pub fn close_names<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let name = name.to_lowercase();
    // A text of any length can arrive here; beyond the bound on names nothing is near.
    if name.is_empty() || name.len() > 2 * limits::NAME_BYTES {
        return Vec::new();
    }
    let reach = (name.chars().count() / 3).max(1);
    let mut near: Vec<(usize, &str)> = candidates
        .into_iter()
        .filter_map(|candidate| {
            let lower = candidate.to_lowercase();
            let distance = edit_distance(&name, &lower);
            let contained = lower.contains(&name) || name.contains(&lower);
            (distance <= reach || contained).then_some((distance, candidate))
        })
        .collect();
    near.sort_unstable();
    near.into_iter().take(SUGGESTIONS).map(|(_, candidate)| candidate.to_owned()).collect()
}

/// Levenshtein distance in characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, &to) in row.iter_mut().skip(1).zip(&b) {
            let substituted = diagonal + usize::from(from != to);
            diagonal = *cell;
            *cell = substituted.min(diagonal + 1).min(left + 1);
            left = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}
