//! When to stop early.

/// Watches a loss that should fall.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Patience {
    /// Epochs without a better loss after which to stop; 0 never stops.
    epochs: usize,
    best: f64,
    waited: usize,
}

/// What to make of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The best so far: its weights are to be kept.
    Best,
    Worse,
    /// Not better for too long.
    Stop,
}

impl Patience {
    pub fn new(epochs: usize) -> Self {
        Patience { epochs, best: f64::INFINITY, waited: 0 }
    }

    /// Takes in the loss after an epoch.
    pub fn observe(&mut self, loss: f64) -> Verdict {
        if loss < self.best {
            self.best = loss;
            self.waited = 0;
            return Verdict::Best;
        }
        self.waited += 1;
        if self.epochs > 0 && self.waited >= self.epochs { Verdict::Stop } else { Verdict::Worse }
    }
}
