//! Models on disk: names, manifests, digests, immutable snapshots.

/// What a model's output means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputKind {
    /// Unnormalised log-probabilities of classes.
    Logits,
    /// A vector whose directions carry meaning.
    Embedding,
    /// A value for each place of a map.
    Dense,
}
