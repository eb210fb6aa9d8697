//! The devices of a runtime: which session runs on which, how many at once, and what open sessions hold there.
//!
//! Every executable may have sessions on every card, and a tile goes to the card that is least busy. Few sessions work on
//! a card at once: one more than computes, so that its samples travel meanwhile. The others wait without memory of their
//! own but for their weights, and those used longest ago are closed where these take too much.
//!
//! A lost card is lost for the process in most cases: what was opened on it fails to close as well, which ONNX Runtime
//! answers by ending the process. So sessions of a lost card are left as they are.

use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
    atomic::{AtomicU64, Ordering},
};

use super::{
    RuntimeError,
    device::{Device, Fault},
    executable::Idle,
};
use crate::limits;

/// The devices, at least one.
pub(super) struct Cards {
    devices: Vec<Device>,
    /// What sessions may take on each, in bytes.
    limit: Option<u64>,
    /// Sessions that may work on each.
    at_once: usize,
    state: Mutex<Vec<State>>,
    freed: Condvar,
    /// Of every executable.
    pools: Mutex<Vec<Weak<Idle>>>,
    clock: AtomicU64,
    /// Held to write while a card records, when nothing else of the process may be done on cards.
    recording: RwLock<()>,
}

#[derive(Clone, Default)]
struct State {
    /// Sessions at work.
    busy: usize,
    /// Times that it was lost since a run succeeded.
    losses: usize,
    /// Times that it was lost at all: sessions opened before the last are not used any more.
    generation: u64,
    /// What open sessions hold, in bytes.
    weights: Arc<AtomicU64>,
}

/// Times in a row that a device is lost before it is given up.
const LOSSES: usize = 2;

/// Leave to run one session on a device, until it is dropped.
pub(super) struct Pass<'a> {
    cards: &'a Cards,
    /// Number of the device, in the order in which devices were named.
    pub card: usize,
    pub device: Device,
    /// Of the sessions to use.
    pub generation: u64,
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if let Some(state) = self.cards.lock().get_mut(self.card) {
            state.busy = state.busy.saturating_sub(1);
        }
        self.cards.freed.notify_all();
    }
}

/// What a session holds on a device, until it is dropped.
pub(super) struct Held {
    of: Arc<AtomicU64>,
    bytes: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

impl Cards {
    /// Devices with a limit in bytes for each; where they record, one session works at a time.
    pub(super) fn new(devices: Vec<Device>, limit: Option<u64>, record: bool) -> Self {
        let at_once = match devices.first() {
            Some(device) if device.is_card() => {
                if record {
                    1
                } else {
                    limits::SESSIONS_AT_WORK
                }
            }
            _ => usize::MAX,
        };
        let state = Mutex::new(devices.iter().map(|_| State::default()).collect());
        Cards {
            devices,
            limit,
            at_once,
            state,
            freed: Condvar::new(),
            pools: Mutex::default(),
            clock: AtomicU64::new(0),
            recording: RwLock::new(()),
        }
    }

    /// The kind of all devices: there are either graphics cards or others.
    pub(super) fn first(&self) -> Device {
        self.devices.first().copied().unwrap_or(Device::Cpu)
    }

    pub(super) fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// Waits until a session may run on the device of that number, or on the one that is least busy.
    ///
    /// # Errors
    /// [`RuntimeError::Lost`] where there is none any more.
    pub(super) fn enter(&self, wanted: Option<usize>) -> Result<Pass<'_>, RuntimeError> {
        let mut state = self.lock();
        loop {
            let usable = state
                .iter()
                .enumerate()
                .filter(|(card, state)| state.losses < LOSSES && wanted.is_none_or(|wanted| wanted == *card));
            // Of those with room, one that was not lost last time.
            let order = |state: &State| (state.busy >= self.at_once, state.losses, state.busy);
            let Some((card, idlest)) = usable.min_by_key(|(_, state)| order(state)) else {
                let device = wanted.and_then(|card| self.devices.get(card)).copied().unwrap_or_else(|| self.first());
                return Err(RuntimeError::Lost(device, "it failed again after its sessions were opened anew".into()));
            };
            if idlest.busy < self.at_once {
                let generation = idlest.generation;
                let device = self.devices.get(card).copied().unwrap_or(Device::Cpu);
                if let Some(state) = state.get_mut(card) {
                    state.busy += 1;
                }
                return Ok(Pass { cards: self, card, device, generation });
            }
            state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether every device was given up.
    pub(super) fn are_lost(&self) -> bool {
        self.lock().iter().all(|state| state.losses >= LOSSES)
    }

    /// Keeps what a run on a session of that generation tells of its device. Sessions that meet the same loss count once.
    pub(super) fn note(&self, card: usize, generation: u64, fault: Option<Fault>) {
        let losses = match (self.lock().get_mut(card), fault) {
            (Some(state), _) if state.generation != generation => return,
            (Some(state), None) => {
                state.losses = 0;
                return;
            }
            (Some(state), Some(Fault::Lost)) => {
                state.losses += 1;
                state.generation += 1;
                state.losses
            }
            _ => return,
        };
        let device = self.devices.get(card).copied().unwrap_or(Device::Cpu);
        if losses < LOSSES {
            tracing::warn!(%device, "device lost; its sessions are opened anew");
        } else {
            tracing::error!(%device, "device given up; restart the server to use it again");
        }
        for pool in self.pools() {
            pool.leave(card);
        }
    }

    /// Whether a session of that generation may be used, and closed.
    pub(super) fn is_usable(&self, card: usize, generation: u64) -> bool {
        self.lock().get(card).is_some_and(|state| state.generation == generation && state.losses < LOSSES)
    }

    /// Leave to close sessions: while it is held, no card records.
    pub(super) fn quiet(&self) -> RwLockReadGuard<'_, ()> {
        self.recording.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leave to record, for whoever has the only pass.
    pub(super) fn recording(&self) -> RwLockWriteGuard<'_, ()> {
        self.recording.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a session with so many bytes of weights, after idle ones were closed to make room for it.
    pub(super) fn hold(&self, card: usize, bytes: u64) -> Held {
        let of = self.lock().get(card).map(|state| Arc::clone(&state.weights)).unwrap_or_default();
        if let Some(limit) = self.limit {
            // Half is for weights, half for sessions at work.
            while of.load(Ordering::SeqCst).saturating_add(bytes) > limit / 2 && self.close_oldest(card) {}
        }
        of.fetch_add(bytes, Ordering::SeqCst);
        Held { of, bytes }
    }

    /// The most that a session with so many bytes of weights may take.
    pub(super) fn arena_bytes(&self, weights: u64) -> Option<u64> {
        self.limit.map(|limit| weights.saturating_add(limit / 2 / self.at_once.max(1) as u64))
    }

    /// Whether sessions are to give back what they do not need between runs.
    pub(super) fn are_limited(&self) -> bool {
        self.limit.is_some()
    }

    pub(super) fn register(&self, pool: &Arc<Idle>) {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(Arc::downgrade(pool));
    }

    /// Ever larger numbers: when something was used.
    pub(super) fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Closes every session on a device that is not at work, and says how many there were.
    pub(super) fn close_idle(&self, card: usize) -> usize {
        self.pools().iter().map(|pool| pool.close(card)).sum()
    }

    /// As [`Cards::close_idle`], on all devices.
    pub(super) fn close_all_idle(&self) -> usize {
        (0..self.devices.len()).map(|card| self.close_idle(card)).sum()
    }

    /// Closes the idle sessions of the executable that has been idle longest, if any has one there.
    fn close_oldest(&self, card: usize) -> bool {
        let pools = self.pools();
        let oldest = pools.iter().filter(|pool| pool.has(card)).min_by_key(|pool| pool.last_used());
        oldest.is_some_and(|pool| pool.close(card) > 0)
    }

    fn pools(&self) -> Vec<Arc<Idle>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Cards {
        Cards::new(vec![Device::Cuda(0), Device::Cuda(1)], None, false)
    }

    fn entered(cards: &Cards) -> (usize, u64) {
        cards.enter(None).map(|pass| (pass.card, pass.generation)).unwrap_or((usize::MAX, 0))
    }

    #[test]
    fn work_goes_to_the_card_that_is_least_busy() {
        let cards = two();
        let passes: Vec<Pass<'_>> = (0..4).filter_map(|_| cards.enter(None).ok()).collect();
        assert_eq!(passes.iter().map(|pass| pass.card).collect::<Vec<_>>(), [0, 1, 0, 1]);
    }

    #[test]
    fn a_loss_counts_once_however_many_sessions_meet_it() {
        let cards = two();
        for _ in 0..3 {
            cards.note(0, 0, Some(Fault::Lost));
        }
        assert!(!cards.is_usable(0, 0) && cards.is_usable(0, 1) && cards.is_usable(1, 0));
        // A run that began before says nothing of what came after.
        cards.note(0, 0, None);
        cards.note(0, 1, Some(Fault::Lost));
        assert!(!cards.is_usable(0, 2) && !cards.are_lost());
        assert!(matches!(cards.enter(Some(0)), Err(RuntimeError::Lost(Device::Cuda(0), _))));
        for generation in 0..2 {
            cards.note(1, generation, Some(Fault::Lost));
        }
        assert!(cards.are_lost() && cards.enter(None).is_err());
    }

    #[test]
    fn what_was_lost_on_one_card_is_done_again_on_another() {
        let cards = two();
        cards.note(0, 0, Some(Fault::Lost));
        assert_eq!(entered(&cards), (1, 0));
        // Unless that has no room.
        let busy: Vec<Pass<'_>> = (0..limits::SESSIONS_AT_WORK).filter_map(|_| cards.enter(Some(1)).ok()).collect();
        assert_eq!(entered(&cards), (0, 1));
        drop(busy);
        cards.note(0, 1, None);
        assert_eq!(entered(&cards), (0, 1));
    }
}
