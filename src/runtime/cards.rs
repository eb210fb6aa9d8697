//! The devices of a runtime: which session runs on which, how many at once, and what open sessions hold there.
//!
//! Every executable may have sessions on every card, and a tile goes to the card that is least busy. Few sessions work on
//! a card at once: one more than computes, so that its samples travel meanwhile. The others wait without memory of their
//! own but for their weights, and those used longest ago are closed where these take too much.

use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
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
    state: Mutex<Vec<State>>,
    freed: Condvar,
    /// Of every executable.
    pools: Mutex<Vec<Weak<Idle>>>,
    clock: AtomicU64,
}

#[derive(Clone, Default)]
struct State {
    /// Sessions at work.
    busy: usize,
    /// Times that it was lost since a run succeeded.
    losses: usize,
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
    pub(super) fn new(devices: Vec<Device>, limit: Option<u64>) -> Self {
        let state = Mutex::new(devices.iter().map(|_| State::default()).collect());
        Cards { devices, limit, state, freed: Condvar::new(), pools: Mutex::default(), clock: AtomicU64::new(0) }
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
        let at_once = if self.first().is_card() { limits::SESSIONS_AT_WORK } else { usize::MAX };
        let mut state = self.lock();
        loop {
            let usable = state
                .iter()
                .enumerate()
                .filter(|(card, state)| state.losses < LOSSES && wanted.is_none_or(|wanted| wanted == *card));
            let Some((card, idlest)) = usable.min_by_key(|(_, state)| state.busy) else {
                let device = wanted.and_then(|card| self.devices.get(card)).copied().unwrap_or_else(|| self.first());
                return Err(RuntimeError::Lost(device, "it failed again after its sessions were opened anew".into()));
            };
            if idlest.busy < at_once {
                let device = self.devices.get(card).copied().unwrap_or(Device::Cpu);
                if let Some(state) = state.get_mut(card) {
                    state.busy += 1;
                }
                return Ok(Pass { cards: self, card, device });
            }
            state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether every device was given up.
    pub(super) fn are_lost(&self) -> bool {
        self.lock().iter().all(|state| state.losses >= LOSSES)
    }

    /// Keeps what a run tells of its device.
    pub(super) fn note(&self, card: usize, fault: Option<Fault>) {
        let losses = match (self.lock().get_mut(card), fault) {
            (Some(state), None) => {
                state.losses = 0;
                return;
            }
            (Some(state), Some(Fault::Lost)) => {
                state.losses += 1;
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
        self.close_idle(card);
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
        self.limit.map(|limit| weights.saturating_add(limit / 2 / limits::SESSIONS_AT_WORK as u64))
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
