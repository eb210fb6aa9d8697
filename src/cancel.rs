//! What long work looks at between batches: whether its result is still wanted, and whether others wait for its turn.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, ThreadId},
};

use crate::error::{Error, Reason, Result};

/// A turn to compute, which work gives up for others and waits for again.
pub trait Turn: Send + Sync {
    /// Whether others wait, and this turn has lasted long enough.
    fn is_over(&self) -> bool;

    /// Lets another one have it. Does not wait.
    fn give_up(&self);

    /// Waits until it is this one's turn again; at once where it was not given up.
    fn take_back(&self);
}

/// A flag that long work looks at between tiles, with the turn that the work has where others wait for theirs. Clones share
/// both.
#[derive(Clone, Default)]
pub struct Cancel {
    is_cancelled: Arc<AtomicBool>,
    turn: Option<(ThreadId, Arc<dyn Turn>)>,
}

impl Cancel {
    /// Asks the work to stop; it does within one tile.
    pub fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
    }

    pub fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }

    /// The same flag for work that has a turn and waits for it on this thread, and on no other: threads that pieces of
    /// several requests share only give it up.
    #[must_use]
    pub fn in_turn(&self, turn: Arc<dyn Turn>) -> Self {
        Cancel { is_cancelled: Arc::clone(&self.is_cancelled), turn: Some((thread::current().id(), turn)) }
    }

    /// An error once cancelled, for use with `?`. Lets others have their turn before that, where this one is over.
    ///
    /// # Errors
    /// [`Reason::Cancelled`] once [`Cancel::cancel`] was called.
    pub fn check(&self) -> Result<()> {
        if let Some((owner, turn)) = &self.turn {
            if turn.is_over() {
                turn.give_up();
            }
            if *owner == thread::current().id() && !self.is_cancelled() {
                turn.take_back();
            }
        }
        if self.is_cancelled() {
            return Err(Error::new(Reason::Cancelled, "the request was cancelled"));
        }
        Ok(())
    }

    /// Waits for something other than a turn, while others have theirs.
    pub fn aside<T>(&self, wait: impl FnOnce() -> T) -> T {
        let own = self.turn.as_ref().filter(|(owner, _)| *owner == thread::current().id());
        own.inspect(|(_, turn)| turn.give_up());
        let waited = wait();
        own.inspect(|(_, turn)| turn.take_back());
        waited
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancel").field("is_cancelled", &self.is_cancelled()).finish_non_exhaustive()
    }
}
