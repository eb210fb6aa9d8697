//! Axes: where values stand, and which of them are written.

/// A straight axis from one place to another, in pixels.
#[derive(Clone, Debug)]
pub struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    scale: Scale,
}

/// How values become lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    Linear,
    /// For values greater than 0.
    Logarithmic,
}

/// Room between the outermost values and the ends, as a share.
const ROOM: f64 = 0.06;

impl Axis {
    /// An axis that holds all the values that are finite (and positive, on a logarithmic one), with room around them.
    pub fn around(values: impl IntoIterator<Item = f64>, scale: Scale, from: f64, to: f64) -> Axis {
        let values = values.into_iter().filter(|value| value.is_finite() && (scale == Scale::Linear || *value > 0.0));
        let (low, high) = values
            .map(|value| scale.length(value))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        let (low, high) = if low <= high && (high - low).is_finite() { (low, high) } else { (0.0, 1.0) };
        // All values equal: any width will do.
        let room = if high > low { ROOM * (high - low) } else { 0.1 * high.abs().max(0.1) };
        Axis { low: low - room, high: high + room, from, to, scale }
    }

    /// An axis with exactly these ends.
    pub fn between(low: f64, high: f64, from: f64, to: f64) -> Axis {
        Axis { low, high: if high > low { high } else { low + 1.0 }, from, to, scale: Scale::Linear }
    }

    /// Where a value stands; values beyond the ends stand at them.
    pub fn at(&self, value: f64) -> f64 {
        let share = (self.scale.length(value) - self.low) / (self.high - self.low);
        self.from + (self.to - self.from) * if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
    }

    /// About `n` round values along the axis, with how they are written.
    pub fn ticks(&self, n: usize) -> Vec<(f64, String)> {
        match self.scale {
            Scale::Linear => {
                let step = round_step((self.high - self.low) / n.max(1) as f64);
                multiples(step, self.low, self.high).map(|value| (value, written(value, step))).collect()
            }
            Scale::Logarithmic => {
                let powers = multiples(((self.high - self.low) / n.max(1) as f64).ceil(), self.low, self.high);
                let powers: Vec<f64> = powers.map(|power| 10.0_f64.powf(power)).collect();
                let between = if powers.len() < 3 { &[1.0, 2.0, 5.0][..] } else { &[1.0] };
                let around = powers.first().map(|first| first / 10.0).into_iter().chain(powers.iter().copied());
                let values = around.flat_map(|power| between.iter().map(move |factor| factor * power));
                let is_on_axis = |value: &f64| (self.low..=self.high).contains(&value.log10());
                values.filter(is_on_axis).map(|value| (value, written(value, value))).collect()
            }
        }
    }
}

impl Scale {
    fn length(self, value: f64) -> f64 {
        match self {
            Scale::Linear => value,
            Scale::Logarithmic => value.max(f64::MIN_POSITIVE).log10(),
        }
    }
}

/// The least of 1, 2, 5 times a power of ten that is not below.
fn round_step(least: f64) -> f64 {
    if !(least.is_finite() && least > 0.0) {
        return 1.0;
    }
    let power = 10.0_f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= least * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

/// Most values that are written along an axis.
const MOST_TICKS: usize = 20;

fn multiples(step: f64, low: f64, high: f64) -> impl Iterator<Item = f64> {
    let first = (low / step).ceil();
    (0..MOST_TICKS)
        .map(move |index| (first + index as f64) * step)
        .take_while(move |value| *value <= high + 1e-9 * step)
}

/// With as many decimals as tell neighbours apart.
fn written(value: f64, step: f64) -> String {
    let value = if value.abs() < 1e-9 * step { 0.0 } else { value };
    let text = match (value.abs(), step) {
        (size, step) if size >= 1e5 || step < 1e-4 && size > 0.0 => {
            let digits = (size.log10().floor() - step.log10().floor()).clamp(0.0, 4.0) as usize;
            format!("{value:.digits$e}")
        }
        (_, step) => {
            let decimals = (-step.log10() - 1e-9).ceil().clamp(0.0, 4.0) as usize;
            format!("{value:.decimals$}")
        }
    };
    text.replace('-', "−")
}
