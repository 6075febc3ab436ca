//! A disk in memory that can lose power, fail or be full: for tests and the simulator.
//!
//! It knows what was synced. Of what was not, a power cut leaves some sectors, and of some a
//! part, as a seed decides.
//! The same operations and the same seed leave the same bytes; nothing here reads a clock.

use std::{
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redb::StorageBackend;

/// What a disk writes as one.
const SECTOR_BYTES: usize = 512;

/// How a disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// A write ends half-way with an error.
    Broken,
    /// The same for want of room.
    Full,
    /// The power is gone, or the process: nothing is done any more.
    Gone,
}

impl DiskFault {
    fn error(self) -> io::Error {
        match self {
            Self::Broken => io::Error::other("input/output error"),
            Self::Full => io::ErrorKind::StorageFull.into(),
            Self::Gone => io::Error::other("the process is gone"),
        }
    }
}

/// A disk with one file; clones are one. [`RedbStorage::on_disk`](super::RedbStorage::on_disk)
/// opens a storage there.
#[derive(Clone, Default)]
pub struct SimulatedDisk(Arc<Mutex<Platters>>);

#[derive(Default)]
struct Platters {
    /// As programs see it.
    seen: Vec<u8>,
    /// As it was when last synced.
    synced: Vec<u8>,
    /// What changed since, in order.
    pending: Vec<Change>,
    /// Writes, changes of the length and syncs so far.
    operations: u64,
    /// The operation that fails, and all that follow.
    fault: Option<(u64, DiskFault)>,
    /// Images of power cuts in the middle of syncs, while they are collected.
    cuts: Option<Vec<SimulatedDisk>>,
    /// Bytes by which the file may still grow.
    room: Option<usize>,
    ignores_syncs: bool,
}

enum Change {
    Length(usize),
    Write { offset: usize, bytes: Vec<u8> },
}

impl Change {
    /// Makes the change in a file. Of each sector, and of a length as if it were one byte, so many
    /// bytes survive as it is told.
    fn apply(&self, file: &mut Vec<u8>, mut survivors: impl FnMut(usize) -> usize) {
        match self {
            Self::Length(length) => {
                if survivors(1) > 0 {
                    file.resize(*length, 0);
                }
            }
            Self::Write { offset, bytes } => {
                for (number, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                    let at = offset + number * SECTOR_BYTES;
                    let written = sector.get(..survivors(sector.len())).unwrap_or(sector);
                    // What lies beyond a length that was lost is lost with it.
                    if let Some(place) = file.get_mut(at..at + written.len()) {
                        place.copy_from_slice(written);
                    }
                }
            }
        }
    }
}

impl fmt::Debug for SimulatedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let platters = self.lock();
        let (bytes, unsynced) = (platters.seen.len(), platters.pending.len());
        write!(f, "SimulatedDisk({bytes} bytes, {unsynced} changes not synced)")
    }
}

impl SimulatedDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    // Whoever panicked holding it was a test.
    fn lock(&self) -> MutexGuard<'_, Platters> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a process finds that is started after a power cut now: of the sectors and lengths
    /// written since the last sync some, from few to all, as the seed decides.
    #[must_use]
    pub fn after_power_cut(&self, seed: u64) -> Self {
        self.lock().after_power_cut(seed)
    }

    /// What a process finds after a power cut of which nothing unsynced is left.
    #[must_use]
    pub fn as_synced(&self) -> Self {
        let platters = self.lock();
        platters.begin(platters.synced.clone())
    }

    /// What the next process finds after this one was killed: all that was written, synced or
    /// not. This disk is gone for handles that are still open.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        let mut platters = self.lock();
        let next = Platters {
            seen: std::mem::take(&mut platters.seen),
            synced: std::mem::take(&mut platters.synced),
            pending: std::mem::take(&mut platters.pending),
            ignores_syncs: platters.ignores_syncs,
            ..Platters::default()
        };
        platters.fault = Some((0, DiskFault::Gone));
        Self(Arc::new(Mutex::new(next)))
    }

    /// Does nothing any more that a handle asks for, as if its process were gone.
    pub fn stop(&self) {
        self.lock().fault = Some((0, DiskFault::Gone));
    }

    /// Has one of the next operations fail, after so many good ones, and all that follow it.
    pub fn fail_after(&self, operations: u64, fault: DiskFault) {
        let mut platters = self.lock();
        platters.fault = Some((platters.operations + operations, fault));
    }

    /// Writes, changes of the length and syncs so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Writes and changes of the length that were not synced.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.lock().pending.len()
    }

    /// Lets the file grow by so many bytes, and then be full.
    pub fn leave_room(&self, bytes: usize) {
        self.lock().room = Some(bytes);
    }

    /// Says from now on that all is synced, and syncs nothing: a bug to be found.
    pub fn ignore_syncs(&self) {
        self.lock().ignores_syncs = true;
    }

    /// Runs something, and returns what the disk holds if power fails during each of its syncs.
    pub fn cut_at_each_sync(&self, run: impl FnOnce()) -> Vec<Self> {
        self.lock().cuts = Some(Vec::new());
        run();
        self.lock().cuts.take().unwrap_or_default()
    }
}

impl Platters {
    fn after_power_cut(&self, seed: u64) -> SimulatedDisk {
        let mut found = self.synced.clone();
        let mut number = 0_u64;
        for change in &self.pending {
            change.apply(&mut found, |bytes| {
                number += 1;
                let draw = (seed ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                match (draw >> 60 >= seed % 16, draw >> 58 & 3) {
                    (true, _) => bytes,
                    // Torn at any byte, which no disk of today does within a sector.
                    (false, 0) => (draw >> 32) as usize % bytes,
                    (false, _) => 0,
                }
            });
        }
        self.begin(found)
    }

    fn begin(&self, found: Vec<u8>) -> SimulatedDisk {
        let ignores_syncs = self.ignores_syncs;
        let begun = Self { seen: found.clone(), synced: found, ignores_syncs, ..Self::default() };
        SimulatedDisk(Arc::new(Mutex::new(begun)))
    }

    /// Counts an operation that changes something; how it fails, if it does.
    fn count(&mut self) -> Option<DiskFault> {
        let number = self.operations;
        self.operations += 1;
        self.fault.filter(|(at, _)| number >= *at).map(|(_, fault)| fault)
    }

    fn take_room(&mut self, bytes: usize) -> io::Result<()> {
        if let Some(room) = &mut self.room {
            *room = room.checked_sub(bytes).ok_or(io::ErrorKind::StorageFull)?;
        }
        Ok(())
    }

    fn write(&mut self, offset: usize, data: &[u8]) -> io::Result<()> {
        let place = self.seen.get_mut(offset..offset + data.len());
        place.ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(data);
        self.pending.push(Change::Write { offset, bytes: data.to_vec() });
        Ok(())
    }
}

impl StorageBackend for SimulatedDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platters = self.lock();
        let start = offset as usize;
        let found = platters.seen.get(start..start + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut platters = self.lock();
        if let Some(fault) = platters.count() {
            return Err(fault.error());
        }
        let length = length as usize;
        let grown = length.saturating_sub(platters.seen.len());
        platters.take_room(grown)?;
        platters.seen.resize(length, 0);
        platters.pending.push(Change::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platters = self.lock();
        if let Some(fault) = platters.count() {
            return Err(fault.error());
        }
        if platters.cuts.is_some() {
            let images: Vec<Self> = (0..16).map(|seed| platters.after_power_cut(seed)).collect();
            platters.cuts.get_or_insert_default().extend(images);
        }
        if !platters.ignores_syncs {
            let Platters { synced, pending, .. } = &mut *platters;
            pending.drain(..).for_each(|change| change.apply(synced, |bytes| bytes));
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut platters = self.lock();
        let offset = offset as usize;
        match platters.count() {
            None => platters.write(offset, data),
            Some(fault) => {
                // An error says nothing of what was written before it.
                if fault != DiskFault::Gone {
                    let sectors = data.len() / SECTOR_BYTES / 2;
                    let half = data.get(..sectors * SECTOR_BYTES).unwrap_or_default();
                    platters.write(offset, half)?;
                }
                Err(fault.error())
            }
        }
    }
}
