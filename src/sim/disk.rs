//! What of a node outlives its process: its files, and the disks of its three stores, in
//! memory, of which a power cut leaves what was synced and some of what was not.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ait_storage::{Batch, Durability, MemoryStorage, RedbOptions, RedbStorage, SimulatedDisk};
use ait_storage::{Storage, StorageError, Table};

use super::Bug;
use super::device::{Device, Part};
use super::store::SimStore;
use crate::chain::Stores;

/// Memory for cached pages of a store.
const CACHE_BYTES: usize = 8 << 20;
/// The stores, in the order of their disks.
const PARTS: [Part; 3] = [Part::Blocks, Part::State, Part::Index];

/// Where the stores are.
enum Engine {
    Memory([Arc<MemoryStorage>; 3]),
    Redb([SimulatedDisk; 3]),
}

/// The disk of a node.
pub(super) struct Disk {
    directory: PathBuf,
    engine: Engine,
    pub(super) device: Device,
}

impl Disk {
    pub(super) fn new(
        directory: PathBuf,
        in_memory: bool,
        seed: u64,
        bug: Option<Bug>,
    ) -> std::io::Result<Self> {
        std::fs::create_dir_all(&directory)?;
        let engine = if in_memory {
            Engine::Memory(std::array::from_fn(|_| Arc::new(MemoryStorage::new())))
        } else {
            let disks: [_; 3] = std::array::from_fn(|_| SimulatedDisk::new());
            if matches!(bug, Some(Bug::UnsyncedState)) {
                disks[1].ignore_syncs();
            }
            Engine::Redb(disks)
        };
        Ok(Self { directory, engine, device: Device::new(seed) })
    }

    pub(super) const fn is_in_memory(&self) -> bool {
        matches!(self.engine, Engine::Memory(_))
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The process ends: what it does while it is taken down reaches no disk.
    pub(super) fn stop(&self) {
        if let Engine::Redb(disks) = &self.engine {
            disks.iter().for_each(SimulatedDisk::stop);
        }
    }

    /// The next process begins with all that the last one wrote, synced or not.
    pub(super) fn restart(&mut self) {
        if let Engine::Redb(disks) = &mut self.engine {
            disks.iter_mut().for_each(|disk| *disk = disk.after_kill());
        }
    }

    /// What a power cut leaves: what was synced; if files are to be torn, also some of what was
    /// not. Gives the number of writes of the stores that were not synced.
    pub(super) fn cut_power(&mut self, tears: bool, bug: Option<Bug>) -> Result<usize, String> {
        let mut unsynced = 0;
        match &mut self.engine {
            Engine::Memory(stores) => {
                for (part, store) in PARTS.iter().zip(stores) {
                    let left = store.recover();
                    if (Some(Bug::StaleIndex), Part::Index) == (bug, *part) {
                        keep_height(store, &left).map_err(|error| error.to_string())?;
                    }
                    *store = Arc::new(left);
                }
            }
            Engine::Redb(disks) => {
                for disk in disks {
                    unsynced += disk.unsynced();
                    *disk = match tears {
                        true => disk.after_power_cut(self.device.seed()),
                        false => disk.as_synced(),
                    };
                }
            }
        }
        if tears {
            self.device.cut_power(&self.directory).map_err(|error| error.to_string())?;
        }
        Ok(unsynced)
    }

    pub(super) fn journal(&self) -> PathBuf {
        self.directory.join("mempool.journal")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.directory.join("consensus.log")
    }

    /// Loses the log, as a bug would.
    pub(super) fn lose_log(&self) {
        let _ = std::fs::remove_file(self.log());
    }

    /// What a write of the journal leaves that failed within: some bytes of a record.
    pub(super) fn shorten_journal(&self) -> std::io::Result<()> {
        let path = self.journal();
        let before = std::fs::metadata(&path)?.len();
        let mut file = std::fs::OpenOptions::new().append(true).open(&path)?;
        std::io::Write::write_all(&mut file, &[60, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 1, 9, 9, 9])?;
        self.device.shorten(&path, before)
    }

    /// The stores as a process opens them.
    pub(super) fn stores(&self, bug: Option<Bug>) -> Result<Stores, StorageError> {
        let open = |at: usize| -> Result<Arc<dyn Storage>, StorageError> {
            let (part, device) = (PARTS[at], self.device.clone());
            Ok(match &self.engine {
                Engine::Memory(stores) => {
                    Arc::new(SimStore::new(Arc::clone(&stores[at]), None, part, device, bug))
                }
                Engine::Redb(disks) => {
                    let options =
                        RedbOptions { cache_bytes: CACHE_BYTES, ..RedbOptions::default() };
                    let store = RedbStorage::on_disk(&disks[at], &options)?;
                    Arc::new(SimStore::new(store, Some(disks[at].clone()), part, device, bug))
                }
            })
        };
        Ok(Stores { blocks: open(0)?, state: open(1)?, index: open(2)? })
    }
}

/// Has an index say of what a power cut left that it goes as far as before, as a bug would that
/// keeps the height apart from what it is the height of.
fn keep_height(before: &MemoryStorage, left: &MemoryStorage) -> Result<(), StorageError> {
    let (table, key) = (Table::new("index"), []);
    if let Some(height) = before.snapshot()?.get(table, &key)? {
        let mut batch = Batch::new();
        batch.put(table, key, height.into_vec());
        left.commit(batch, Durability::Immediate)?;
    }
    Ok(())
}
