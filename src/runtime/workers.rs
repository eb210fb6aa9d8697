//! Worker threads: independent pieces of work side by side, results in the order of the pieces.

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder, prelude::*};

/// A fixed set of threads.
pub struct Workers {
    pool: ThreadPool,
}

impl Workers {
    pub(super) fn start(threads: usize) -> Result<Self, ThreadPoolBuildError> {
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads.max(1))
            .thread_name(|index| format!("worker-{index}"))
            .build()?;
        Ok(Workers { pool })
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
        mut collect: impl FnMut(T) -> Result<(), E>,
    ) -> Result<(), E>
    where
        P: Sync,
        T: Send,
        E: Send,
    {
        for group in pieces.chunks(in_flight.max(1)) {
            let results: Vec<Result<T, E>> = self.pool.install(|| group.par_iter().map(&work).collect());
            for result in results {
                collect(result?)?;
            }
        }
        Ok(())
    }
}
