//! Seeded randomness, one stream for each purpose and index.
//!
//! A draw depends on the seed, the purpose and the index alone, so neither the order of the work nor the number of
//! threads changes it. The draws are written out here rather than taken from `rand`'s distributions, whose algorithms
//! may change with its version.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a stream of random numbers is for; different purposes never share numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Bootstrap draws of samples; index: resample.
    Bootstrap = 1,
    /// Pairings of the shuffled nulls of alpha2, combined and tau2; index: shuffle.
    Pairing = 2,
    /// Draws from mispaired values for the null of a mean; index: draw.
    Mispairing = 3,
    /// Folds of cross-validation; index: class.
    Folds = 4,
    /// Random start of an attack; index: sample.
    RandomStart = 5,
    /// Choice of the samples that a call uses; index: 0.
    Subsample = 6,
    /// Mismatched samples for the nulls of alpha1 and tau1; index: 0.
    Shuffle = 7,
    /// Start of a Lanczos iteration; index: sample.
    Lanczos = 8,
    /// Output probes of gradient matching; index: 0.
    OutputProbes = 9,
    /// The order in which samples are visited; index: 0.
    Visit = 10,
    /// Groups of samples that are resampled together; index: 0.
    Groups = 11,
    /// Labels shuffled among the samples; index: shuffle.
    LabelShuffle = 12,
    /// Start of a mixture; index: 0.
    MixtureStart = 13,
    /// Pairs of samples that are verified; index: 0 matched, 1 mismatched.
    VerifiedPairs = 14,
    /// Samples of a measure that compares each with each; index: 0.
    ComparedSamples = 15,
    /// Resizing and padding of diverse inputs; index: sample.
    InputDiversity = 20,
    /// Direction of a step where the gradient is zero; index: sample.
    RandomDirection = 21,
    /// Permutations of measured values over sources; index: permutation.
    SourcePermutation = 30,
    /// Weights of the scores that a recommendation is made of; index: resample.
    ScoreWeights = 31,
    /// Known groups shuffled among the tasks; index: permutation.
    GroupPermutation = 32,
    /// Order of the samples in training; index: run and epoch.
    Batches = 40,
    /// Samples that a training holds out; index: class.
    HeldOut = 41,
    /// Samples that say when a training stops; index: run and class.
    Validation = 42,
    /// What a new head starts from; index: 0.
    InitialHead = 43,
    /// Changes of images in training; index: epoch and sample.
    Augmentation = 44,
}

/// The stream of a purpose and an index (below 2⁵⁶) under a seed.
pub fn stream(seed: u64, purpose: Purpose, index: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(((purpose as u64) << 56) | (index & (u64::MAX >> 8)));
    rng
}

/// A uniform integer in `0..bound`; 0 for a bound of 0. The bias is below `bound`/2⁶⁴.
pub fn below(rng: &mut impl Rng, bound: usize) -> usize {
    ((u128::from(rng.next_u64()) * bound as u128) >> 64) as usize
}

/// A uniform number in `0..1`, on a grid of 2⁻⁵³.
pub fn unit_interval(rng: &mut impl Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 * (0.5_f64).powi(53)
}

/// 1 or -1.
pub fn random_sign(rng: &mut impl Rng) -> f64 {
    if rng.next_u64() >> 63 == 0 { 1.0 } else { -1.0 }
}

/// A standard normal number, by Box and Muller.
pub fn standard_normal(rng: &mut impl Rng) -> f64 {
    // 1 - u lies in (0, 1], where the logarithm is finite.
    let radius = (-2.0 * (1.0 - unit_interval(rng)).ln()).sqrt();
    radius * (std::f64::consts::TAU * unit_interval(rng)).cos()
}

/// A uniform permutation of `0..length` that is one cycle, by Sattolo: from two on, nothing keeps its place.
pub fn cyclic_permutation(rng: &mut impl Rng, length: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..length).collect();
    for last in (1..length).rev() {
        order.swap(last, below(rng, last));
    }
    order
}

/// A uniform permutation of `0..length`, by Fisher and Yates.
pub fn permutation(rng: &mut impl Rng, length: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..length).collect();
    for last in (1..length).rev() {
        order.swap(last, below(rng, last + 1));
    }
    order
}
