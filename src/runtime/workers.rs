//! Worker threads: independent pieces of work side by side, results in the order of the pieces.
//!
//! Short pieces, tiles, never wait behind long ones, trainings: each kind has threads of its own, and the machine's scheduler
//! shares the cores between them.

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder, prelude::*};

/// A fixed set of threads for each kind of work.
pub struct Workers {
    tiles: ThreadPool,
    trainings: ThreadPool,
}

impl Workers {
    pub(super) fn start(threads: usize) -> Result<Self, ThreadPoolBuildError> {
        let pool = |kind: &'static str| {
            let builder = ThreadPoolBuilder::new().num_threads(threads.max(1));
            builder.thread_name(move |index| format!("{kind}-{index}")).build()
        };
        Ok(Workers { tiles: pool("tile")?, trainings: pool("training")? })
    }

    /// Threads of each kind.
    pub fn n_threads(&self) -> usize {
        self.tiles.current_num_threads()
    }

    /// Applies `work`, which takes long, to every piece, as [`Workers::in_order`].
    ///
    /// # Errors
    /// As [`Workers::in_order`].
    pub fn trainings<P: Sync, T: Send, E: Send>(
        &self,
        pieces: &[P],
        work: impl Fn(&P) -> Result<T, E> + Sync,
        collect: impl FnMut(T) -> Result<(), E>,
    ) -> Result<(), E> {
        in_order(&self.trainings, pieces, pieces.len(), work, collect)
    }

    /// Applies `work` to every piece, at most `in_flight` at once, and hands each result to `collect` in the order of
    /// the pieces. Stops at the first error.
    ///
    /// # Errors
    /// The error of the earliest piece that failed, or of `collect`.
    pub fn in_order<P, T, E>(
        &self,
        pieces: &[P],
        in_flight: usize,
        work: impl Fn(&P) -> Result<T, E> + Sync,
        collect: impl FnMut(T) -> Result<(), E>,
    ) -> Result<(), E>
    where
        P: Sync,
        T: Send,
        E: Send,
    {
        in_order(&self.tiles, pieces, in_flight, work, collect)
    }
}

fn in_order<P: Sync, T: Send, E: Send>(
    pool: &ThreadPool,
    pieces: &[P],
    in_flight: usize,
    work: impl Fn(&P) -> Result<T, E> + Sync,
    mut collect: impl FnMut(T) -> Result<(), E>,
) -> Result<(), E> {
    for group in pieces.chunks(in_flight.max(1)) {
        let results: Vec<Result<T, E>> = pool.install(|| group.par_iter().map(&work).collect());
        for result in results {
            collect(result?)?;
        }
    }
    Ok(())
}
