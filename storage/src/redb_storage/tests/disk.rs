//! A disk that can lose power: what was not synced is lost, kept or torn, as a seed decides.
//!
//! It also can be full. Nothing here reads a clock.

use std::{
    io,
    sync::{Arc, Mutex},
};

use redb::StorageBackend;

/// What a disk writes as one.
const SECTOR_BYTES: usize = 512;

/// The platters; handles to them come and go.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk(Arc<Mutex<Platters>>);

#[derive(Debug, Default)]
struct Platters {
    /// As programs see it.
    seen: Vec<u8>,
    /// As it was when last synced.
    synced: Vec<u8>,
    /// Sectors written since.
    pending: Vec<Sector>,
    /// Images of power cuts in the middle of syncs, while they are collected.
    cuts: Option<Vec<Disk>>,
    /// Bytes the disk still takes.
    room: Option<usize>,
}

#[derive(Debug)]
struct Sector {
    offset: usize,
    bytes: Vec<u8>,
}

impl Disk {
    /// What the disk holds if power fails now: of the sectors written since the last sync, some.
    pub(super) fn after_power_cut(&self, seed: u64) -> Self {
        self.0.lock().unwrap().after_power_cut(seed)
    }

    /// Runs something, and returns what the disk holds if power fails during each of its syncs.
    pub(super) fn cut_at_each_sync(&self, run: impl FnOnce()) -> Vec<Self> {
        self.0.lock().unwrap().cuts = Some(Vec::new());
        run();
        self.0.lock().unwrap().cuts.take().unwrap_or_default()
    }

    pub(super) fn leave_room(&self, bytes: usize) {
        self.0.lock().unwrap().room = Some(bytes);
    }

    pub(super) fn unsynced_sectors(&self) -> usize {
        self.0.lock().unwrap().pending.len()
    }
}

impl Platters {
    fn after_power_cut(&self, seed: u64) -> Disk {
        let mut found = self.synced.clone();
        if seed.is_multiple_of(2) {
            found.resize(found.len().max(self.seen.len()), 0);
        }
        for (number, sector) in self.pending.iter().enumerate() {
            let draw = (seed ^ number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60;
            let end = sector.offset + sector.bytes.len();
            // A seed also decides how many of them survive, from few to almost all.
            if draw >= seed % 16 && end <= found.len() {
                found[sector.offset..end].copy_from_slice(&sector.bytes);
            }
        }
        Disk(Arc::new(Mutex::new(Self { seen: found.clone(), synced: found, ..Self::default() })))
    }

    fn take_room(&mut self, bytes: usize) -> io::Result<()> {
        if let Some(room) = &mut self.room {
            *room = room.checked_sub(bytes).ok_or(io::ErrorKind::StorageFull)?;
        }
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platters = self.0.lock().unwrap();
        let start = offset as usize;
        let found =
            platters.seen.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut platters = self.0.lock().unwrap();
        let length = length as usize;
        let grown = length.saturating_sub(platters.seen.len());
        platters.take_room(grown)?;
        platters.seen.resize(length, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platters = self.0.lock().unwrap();
        if platters.cuts.is_some() {
            let images: Vec<Disk> = (0..16).map(|seed| platters.after_power_cut(seed)).collect();
            platters.cuts.get_or_insert_default().extend(images);
        }
        platters.synced = platters.seen.clone();
        platters.pending.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut platters = self.0.lock().unwrap();
        let start = offset as usize;
        let target =
            platters.seen.get_mut(start..start + data.len()).ok_or(io::ErrorKind::InvalidInput)?;
        target.copy_from_slice(data);
        for (number, bytes) in data.chunks(SECTOR_BYTES).enumerate() {
            platters
                .pending
                .push(Sector { offset: start + number * SECTOR_BYTES, bytes: bytes.to_vec() });
        }
        Ok(())
    }
}
