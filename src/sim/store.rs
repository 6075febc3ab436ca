//! A store as the simulation makes it fail: before, inside or after a commit; on redb inside is
//! any of the writes that the commit makes.

use std::io::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ait_storage::{
    Batch, DiskFault, Durability, FaultMoment, KeyRange, Place, SimulatedDisk, Snapshot, Storage,
    StorageError, Table, TableStats,
};

use super::Bug;
use super::device::{Device, Part, Strike};

/// Blocks that the newest checkpoint is behind at most, mostly.
const BEHIND_CHECKPOINT: u64 = 12;

/// One of the three stores.
#[derive(Debug)]
pub(super) struct SimStore<S> {
    inner: S,
    /// Of redb.
    disk: Option<SimulatedDisk>,
    part: Part,
    device: Device,
    bug: Option<Bug>,
    /// Operations of the disk that the last commit needed.
    operations: AtomicU64,
    /// A commit failed: there are no more.
    has_failed: AtomicBool,
}

impl<S: Storage> SimStore<S> {
    pub(super) fn new(
        inner: S,
        disk: Option<SimulatedDisk>,
        part: Part,
        device: Device,
        bug: Option<Bug>,
    ) -> Self {
        let (operations, has_failed) = (AtomicU64::new(8), AtomicBool::new(false));
        Self { inner, disk, part, device, bug, operations, has_failed }
    }

    fn commit_well(&self, batch: Batch, durability: Durability) -> Result<(), StorageError> {
        let Some(disk) = &self.disk else { return self.inner.commit(batch, durability) };
        let before = disk.operations();
        self.inner.commit(batch, durability)?;
        self.operations.store(disk.operations() - before, Ordering::Relaxed);
        Ok(())
    }

    /// A commit that a strike meets. Whoever called is told of a fault in any case.
    fn commit_ill(
        &self,
        batch: Batch,
        durability: Durability,
        strike: Strike,
    ) -> Result<(), StorageError> {
        match (strike.moment(&self.device), &self.disk) {
            (FaultMoment::Before, _) => {}
            (FaultMoment::Inside, None) => {
                let half = batch.len().div_ceil(2);
                self.inner.abandon(batch, half)?;
            }
            (FaultMoment::Inside, Some(disk)) => {
                let fault = match strike {
                    Strike::Torn | Strike::Cut(_) | Strike::Gone => DiskFault::Gone,
                    Strike::Short => DiskFault::Broken,
                    Strike::Full => DiskFault::Full,
                };
                let operations = self.operations.load(Ordering::Relaxed);
                disk.fail_after(self.device.up_to(operations), fault);
                self.inner.commit(batch, durability)?;
            }
            (FaultMoment::After, _) => self.inner.commit(batch, durability)?,
        }
        let (place, source) = (Place::Wrapper, Error::other(strike.text()));
        Err(match strike {
            Strike::Torn | Strike::Cut(_) | Strike::Gone => StorageError::Crashed,
            Strike::Short => StorageError::Io { place, source },
            Strike::Full => StorageError::Full { place, source },
        })
    }
}

/// Deletes the body of a block that is behind the newest checkpoint, as a bug would.
fn lose_a_body(store: &impl Storage, batch: &mut Batch) -> Result<(), StorageError> {
    let newest = store.snapshot()?.last(Table::new("blocks"), KeyRange::all())?;
    let height = newest.and_then(|(key, _)| Some(u64::from_be_bytes((*key).try_into().ok()?)));
    if let Some(old) = height.and_then(|height| height.checked_sub(BEHIND_CHECKPOINT)) {
        let range = KeyRange::between(old.to_be_bytes(), (old + 1).to_be_bytes());
        batch.delete_range(Table::new("bodies"), range);
    }
    Ok(())
}

impl<S: Storage> Storage for SimStore<S> {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StorageError> {
        self.inner.snapshot()
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StorageError> {
        if self.has_failed.load(Ordering::Relaxed) {
            return Err(StorageError::Poisoned { place: Place::Wrapper });
        }
        let mut batch = batch;
        if (self.bug, self.part) == (Some(Bug::LostBody), Part::Blocks) {
            lose_a_body(&self.inner, &mut batch)?;
        }
        let durability = match (self.bug, self.part) {
            (Some(Bug::UnsyncedBlocks), Part::Blocks) | (Some(Bug::StaleIndex), Part::Index) => {
                Durability::None
            }
            _ => durability,
        };
        let done = match self.device.write(self.part) {
            None => self.commit_well(batch, durability),
            Some(strike) => self.commit_ill(batch, durability, strike),
        };
        self.has_failed.store(done.is_err(), Ordering::Relaxed);
        done
    }

    fn abandon(&self, batch: Batch, staged: usize) -> Result<(), StorageError> {
        self.inner.abandon(batch, staged)
    }

    fn stats(&self) -> Result<Vec<TableStats>, StorageError> {
        self.inner.stats()
    }

    fn compact(&self) -> Result<bool, StorageError> {
        self.inner.compact()
    }

    fn engine(&self) -> &'static str {
        self.inner.engine()
    }
}
