//! A wrapper that fails or crashes on request, around any storage.
//!
//! Deterministic: what happens depends on the plan and on the order of operations alone. It adds
//! no failure that was not asked for.

mod plan;
mod snapshot;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use plan::{Fault, FaultEffect, FaultMoment, FaultPlan, Operation};

use crate::{Batch, Durability, Place, Snapshot, Storage, StorageError, TableStats};
use plan::Injection;
use snapshot::FaultySnapshot;

/// A storage that follows a [`FaultPlan`].
///
/// A failed commit makes the handle refuse further writes, as every engine does. After a crash
/// every operation of the handle and of its snapshots answers [`StorageError::Crashed`]; what
/// the storage inside holds is then what a new process would find, so wrap or open it again.
pub struct Faulty<S> {
    inner: S,
    state: Arc<State>,
}

/// What the handle and its snapshots share.
struct State {
    progress: Mutex<Progress>,
}

struct Progress {
    plan: FaultPlan,
    /// Operations begun, of every kind and in all.
    begun: [u64; Operation::COUNT],
    total: u64,
    crashed: bool,
    poisoned: bool,
}

impl<S: Storage> Faulty<S> {
    /// Wraps a storage.
    #[must_use]
    pub fn new(inner: S, plan: FaultPlan) -> Self {
        let progress = Progress {
            plan,
            begun: [0; Operation::COUNT],
            total: 0,
            crashed: false,
            poisoned: false,
        };
        Self { inner, state: Arc::new(State { progress: Mutex::new(progress) }) }
    }

    /// Operations begun so far, refused ones included: how many places a plan can strike at.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state.lock().total
    }

    /// Operations of one kind begun so far.
    #[must_use]
    pub fn operations_of(&self, operation: Operation) -> u64 {
        self.state.lock().begun_of(operation)
    }

    /// Whether the plan has crashed this handle.
    #[must_use]
    pub fn has_crashed(&self) -> bool {
        self.state.lock().crashed
    }

    /// The storage inside.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.inner
    }

    fn write(
        &self,
        batch: Batch,
        durability: Durability,
        injection: Option<Injection>,
    ) -> Result<(), StorageError> {
        match injection {
            None => self.inner.commit(batch, durability),
            Some(injection) => {
                match injection.moment {
                    FaultMoment::Before => {}
                    FaultMoment::Inside => {
                        let staged = batch.len().div_ceil(2);
                        self.inner.abandon(batch, staged)?;
                    }
                    FaultMoment::After => self.inner.commit(batch, durability)?,
                }
                Err(self.state.strike(injection))
            }
        }
    }
}

impl<S> fmt::Debug for Faulty<S>
where
    S: Storage,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({:?}, {} operations)", self.inner, self.operations())
    }
}

impl<S: Storage> Storage for Faulty<S> {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StorageError> {
        let injection = self.state.begin(Operation::Snapshot)?;
        let snapshot = self.state.around(injection, || self.inner.snapshot())?;
        Ok(Box::new(FaultySnapshot::new(snapshot, Arc::clone(&self.state))))
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StorageError> {
        let injection = self.state.begin(Operation::Commit)?;
        batch.check_limits()?;
        if self.state.lock().poisoned {
            return Err(StorageError::Poisoned { place: Place::Wrapper });
        }
        let written = self.write(batch, durability, injection);
        if written.is_err() {
            self.state.lock().poisoned = true;
        }
        written
    }

    fn abandon(&self, batch: Batch, staged: usize) -> Result<(), StorageError> {
        let injection = self.state.begin(Operation::Abandon)?;
        self.state.around(injection, || self.inner.abandon(batch, staged))
    }

    fn stats(&self) -> Result<Vec<TableStats>, StorageError> {
        let injection = self.state.begin(Operation::Stats)?;
        self.state.around(injection, || self.inner.stats())
    }

    fn compact(&self) -> Result<bool, StorageError> {
        let injection = self.state.begin(Operation::Compact)?;
        self.state.around(injection, || self.inner.compact())
    }

    fn engine(&self) -> &'static str {
        self.inner.engine()
    }
}

impl Progress {
    fn begun_of(&self, operation: Operation) -> u64 {
        self.begun.get(operation.index()).copied().unwrap_or(0)
    }
}

impl State {
    /// Every change to the progress is a single assignment, so that a panic leaves it sound.
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an operation and says what the plan has for it.
    fn begin(&self, operation: Operation) -> Result<Option<Injection>, StorageError> {
        let mut progress = self.lock();
        if progress.crashed {
            return Err(StorageError::Crashed);
        }
        progress.total += 1;
        if let Some(begun) = progress.begun.get_mut(operation.index()) {
            *begun += 1;
        }
        let (number, total) = (progress.begun_of(operation), progress.total);
        Ok(progress.plan.find(operation, number, total))
    }

    /// Makes the failure of an injection.
    fn strike(&self, injection: Injection) -> StorageError {
        match injection.effect {
            FaultEffect::Fail => {
                StorageError::Injected { operation: injection.operation, number: injection.number }
            }
            FaultEffect::Crash => {
                self.lock().crashed = true;
                StorageError::Crashed
            }
        }
    }

    /// An operation that changes nothing: inside it is as good as before it.
    fn around<T>(
        &self,
        injection: Option<Injection>,
        run: impl FnOnce() -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let Some(injection) = injection else {
            return run();
        };
        if injection.moment == FaultMoment::After {
            drop(run()?);
        }
        Err(self.strike(injection))
    }
}

#[cfg(test)]
mod tests;
