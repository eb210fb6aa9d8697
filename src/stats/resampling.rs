//! The bootstrap over samples, and the intervals made from it.
//!
//! One [`Resamples`] serves all metrics of a call, so that they, and several sources, are compared on the same
//! resamples. Invariant: every interval contains its value.

use std::ops::{Range, RangeInclusive};

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, CowArray, Ix2, parallel::prelude::*, s};

use super::{
    Confidence, Error, Estimate, Purpose, Replicates, accumulate_product, below,
    estimate::{ascending, interval, quantile},
    stream,
};

/// Numbers of a block of counts, features or means that exist at once.
const BLOCK_NUMBERS: usize = 1 << 21;
/// Numbers of features that are kept for all resamples.
const KEPT_NUMBERS: usize = 1 << 22;
/// Whole numbers up to this size have exact sums.
const LARGEST_WHOLE: f64 = (1 << 20) as f64;
/// Most resamples whose means are worked on together.
const BLOCK_RESAMPLES: usize = 64;

/// Bootstrap resamples of N samples (Efron 1979): for each resample, how often it drew each sample.
#[derive(Clone, Debug)]
pub struct Resamples {
    confidence: Confidence,
    seed: u64,
    /// (resamples, samples). A count above 255 has a probability below 1e-500, and cannot occur up to 255 samples.
    counts: Array2<u8>,
}

impl Resamples {
    /// Draws the resamples of `n_samples` samples.
    ///
    /// # Errors
    /// Without samples or resamples, or with a level outside (0, 1).
    pub fn new(n_samples: usize, confidence: Confidence, seed: u64) -> Result<Self, Error> {
        if n_samples == 0 {
            return Err(Error::NoSamples);
        }
        if confidence.resamples == 0 {
            return Err(Error::NoResamples);
        }
        if !(confidence.level > 0.0 && confidence.level < 1.0) {
            return Err(Error::Level(confidence.level));
        }
        let mut counts = Array2::zeros((confidence.resamples, n_samples));
        counts.axis_iter_mut(Axis(0)).into_par_iter().enumerate().for_each(|(resample, mut row)| {
            let mut rng = stream(seed, Purpose::Bootstrap, resample as u64);
            for _ in 0..n_samples {
                if let Some(count) = row.get_mut(below(&mut rng, n_samples)) {
                    *count = u8::saturating_add(*count, 1);
                }
            }
        });
        Ok(Resamples { confidence, seed, counts })
    }

    pub fn n_samples(&self) -> usize {
        self.counts.ncols()
    }

    pub fn n_resamples(&self) -> usize {
        self.counts.nrows()
    }

    pub fn confidence(&self) -> Confidence {
        self.confidence
    }

    /// The seed that the resamples were drawn with; the nulls of the metrics use it too.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// How often each resample drew each sample, (resamples, samples).
    pub fn counts(&self) -> ArrayView2<'_, u8> {
        self.counts.view()
    }

    /// The counts in order, a block of resamples at a time, restricted to the samples `kept`: (resamples, kept).
    pub fn blocks<'a>(&'a self, kept: &'a [usize]) -> impl Iterator<Item = Array2<f64>> + 'a {
        let rows = (BLOCK_NUMBERS / self.n_samples()).max(1);
        self.counts.axis_chunks_iter(Axis(0), rows).map(move |block| {
            if kept.len() == self.n_samples() {
                block.mapv(f64::from)
            } else {
                block.select(Axis(1), kept).mapv(f64::from)
            }
        })
    }

    /// Mean of one value per sample, with its percentile interval.
    ///
    /// # Errors
    /// When the values are not one for each sample, or one is not finite.
    pub fn mean(&self, values: &[f64]) -> Result<Estimate, Error> {
        let values: Vec<Option<f64>> = values.iter().copied().map(Some).collect();
        self.mean_of_live(&values)
    }

    /// Mean over the samples that have a value, with its percentile interval. Each resample averages over those of its
    /// draws that have one.
    ///
    /// # Errors
    /// When there is not one entry for each sample, a value is not finite, or no sample has one.
    pub fn mean_of_live(&self, values: &[Option<f64>]) -> Result<Estimate, Error> {
        if values.len() != self.n_samples() {
            return Err(Error::Length { expected: self.n_samples(), found: values.len() });
        }
        if let Some(sample) = values.iter().position(|value| value.is_some_and(|value| !value.is_finite())) {
            return Err(Error::NotFinite { sample });
        }
        let (live, present): (Vec<usize>, Vec<f64>) =
            values.iter().enumerate().filter_map(|(sample, value)| value.map(|value| (sample, value))).unzip();
        if live.is_empty() {
            return Err(Error::NothingToAverage);
        }
        // Around a sample and then around the value, so that constant samples give exactly their own value. Whole numbers, such
        // as hits, are summed as they are, which is exact: as many hits give the same mean, whichever samples were hit.
        let are_whole = present.iter().all(|x| x.fract() == 0.0 && x.abs() <= LARGEST_WHOLE);
        let base = if are_whole { 0.0 } else { present.first().copied().unwrap_or(0.0) };
        let value = base + present.iter().map(|x| x - base).sum::<f64>() / present.len() as f64;
        let centre = if are_whole { 0.0 } else { value };
        let deviations = Array1::from_iter(present.iter().map(|x| x - centre));
        let replicates = self.blocks(&live).flat_map(|counts| {
            let sums = counts.dot(&deviations);
            sums.iter().zip(counts.rows()).map(|(sum, row)| centre + sum / row.sum()).collect::<Vec<_>>()
        });
        Ok(self.percentile(value, replicates.collect()))
    }

    /// The share of the samples with an answer whose answer is yes, with its percentile interval.
    ///
    /// Where all answers are the same, no resample differs from another, and the interval's far end is that of Clopper and
    /// Pearson 1934 instead: the share at which so many equal answers have the probability (1 - level)/2.
    ///
    /// # Errors
    /// As [`Self::mean_of_live`].
    pub fn share(&self, answers: &[Option<bool>]) -> Result<Estimate, Error> {
        let values: Vec<Option<f64>> = answers.iter().map(|yes| yes.map(|yes| f64::from(u8::from(yes)))).collect();
        let share = self.mean_of_live(&values)?;
        let n = values.iter().flatten().count() as f64;
        let far = ((1.0 - self.confidence.level) / 2.0).powf(1.0 / n);
        Ok(match share.value {
            0.0 => Estimate { upper: 1.0 - far, ..share },
            1.0 => Estimate { lower: far, ..share },
            _ => share,
        })
    }

    /// Ratio of the means of two values per sample, `numerators`/`denominators`, transformed by `of`, with its percentile
    /// interval. Replicates whose denominator vanishes are left out.
    ///
    /// # Errors
    /// When the values are not one for each sample.
    pub fn ratio(
        &self,
        numerators: ArrayView1<'_, f64>,
        denominators: ArrayView1<'_, f64>,
        of: impl Fn(f64) -> f64,
    ) -> Result<Estimate, Error> {
        let n = self.n_samples();
        for found in [numerators.len(), denominators.len()] {
            if found != n {
                return Err(Error::Length { expected: n, found });
            }
        }
        let value = of(numerators.sum() / denominators.sum());
        let kept: Vec<usize> = (0..n).collect();
        let mut replicates = Vec::with_capacity(self.counts.nrows());
        for counts in self.blocks(&kept) {
            let (above, under) = (counts.dot(&numerators), counts.dot(&denominators));
            replicates.extend(above.iter().zip(&under).map(|(above, under)| of(above / under)));
        }
        Ok(self.percentile(value, replicates))
    }

    /// A function of resampled means, for each resample in order; the means are those of `width` features of each sample.
    ///
    /// `features` gives the features of a range of samples, (range, width), as often as it is asked: the working set is a few
    /// blocks of fixed size, whatever the number of samples. `of` gets one row of means. The bootstrap of any function of
    /// moments is a matrix product this way.
    pub fn map_means<'a, T: Send>(
        &self,
        width: usize,
        features: impl Fn(Range<usize>) -> CowArray<'a, f64, Ix2> + Sync,
        of: impl Fn(ArrayView1<'_, f64>) -> T + Sync,
    ) -> Vec<T> {
        let n = self.n_samples();
        // Fixed by the sizes alone, so that no sum depends on the number of threads.
        let rows = (BLOCK_NUMBERS / width.max(1)).clamp(1, BLOCK_RESAMPLES);
        let step = (BLOCK_NUMBERS / width.max(rows)).clamp(1, n);
        // Features are often slower to make than to average: they are made once where they fit.
        let whole = (n.saturating_mul(width) <= KEPT_NUMBERS).then(|| features(0..n));
        let blocks: Vec<ArrayView2<'_, u8>> = self.counts.axis_chunks_iter(Axis(0), rows).collect();
        let results: Vec<Vec<T>> = blocks
            .into_par_iter()
            .map(|block| {
                let mut means = Array2::zeros((block.nrows(), width));
                for start in (0..n).step_by(step) {
                    let samples = start..(start + step).min(n);
                    let counts = block.slice(s![.., samples.clone()]).mapv(f64::from);
                    match &whole {
                        Some(whole) => accumulate_product(counts.view(), whole.slice(s![samples, ..]), &mut means),
                        None => accumulate_product(counts.view(), features(samples).view(), &mut means),
                    }
                }
                means /= n as f64;
                means.rows().into_iter().map(&of).collect()
            })
            .collect();
        results.into_iter().flatten().collect()
    }

    /// Percentile interval of a statistic that is unbiased under resampling, such as a mean.
    ///
    /// Where the few or skewed replicates leave the value outside, the nearer end moves to it. Replicates that are not
    /// finite (a resample without a usable sample) are left out; without any, the interval is the value.
    pub fn percentile(&self, value: f64, replicates: Vec<f64>) -> Estimate {
        let kept = Replicates::new(&replicates);
        let (lower, upper) = interval(value, replicates, self.confidence.level);
        Estimate { replicates: kept, ..Estimate::of(value, lower, upper) }
    }

    /// Percentile interval of a statistic that resampling biases, such as a share explained by a fit, which is larger on
    /// the fewer distinct samples of a resample: the replicates are shifted so that their median is the value, then
    /// clipped to `range`.
    ///
    /// So the interval tells the spread around the value at this sample count; what a fit gains by chance at this count
    /// is in the value and stays in it.
    pub fn recentred(&self, value: f64, mut replicates: Vec<f64>, range: RangeInclusive<f64>) -> Estimate {
        let shift = value - quantile(&ascending(replicates.clone()), 0.5).unwrap_or(value);
        for replicate in replicates.iter_mut().filter(|replicate| replicate.is_finite()) {
            *replicate = (*replicate + shift).clamp(*range.start(), *range.end());
        }
        self.percentile(value, replicates)
    }
}
