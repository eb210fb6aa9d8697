//! The learning rate from step to step.

use serde::{Deserialize, Serialize};

/// How the learning rate goes on after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ScheduleShape {
    /// Half a cosine from the peak to 0 (Loshchilov and Hutter 2017, without restarts).
    #[default]
    Cosine,
    /// The peak to the end.
    Constant,
}

/// The learning rate of every step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    pub shape: ScheduleShape,
    pub peak: f64,
    /// Steps in all.
    pub steps: usize,
    /// Steps at the start in which the rate rises linearly to the peak; at most `steps`.
    pub warm_up: usize,
}

impl Schedule {
    /// The rate of a step, counted from 0: `peak·(t + 1)/w` in a warm-up of w steps, then `peak·(1 + cos(π·(t − w)/(T − w)))/2`
    /// as PyTorch's `CosineAnnealingLR` has it after t − w of T − w steps, or the peak.
    pub fn rate(&self, step: usize) -> f64 {
        if step < self.warm_up {
            return self.peak * (step + 1) as f64 / self.warm_up as f64;
        }
        match self.shape {
            ScheduleShape::Constant => self.peak,
            ScheduleShape::Cosine => {
                let (done, all) = (step - self.warm_up, self.steps.saturating_sub(self.warm_up).max(1));
                let share = done.min(all) as f64 / all as f64;
                self.peak * (1.0 + (std::f64::consts::PI * share).cos()) / 2.0
            }
        }
    }
}
