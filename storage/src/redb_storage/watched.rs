//! A file of which every read is noted and no byte is changed: what is written to it stays in memory.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redb::{StorageBackend, backends::FileBackend};

use crate::{Place, StorageError, redb_storage::failure};

/// Bytes of a part of the file that is kept in memory once it is written to.
const PART_BYTES: u64 = 4096;

/// The file, with every read noted and every write kept in memory.
#[derive(Clone, Debug)]
pub(super) struct Watched(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: FileBackend,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Where reads began.
    reads: BTreeSet<u64>,
    last_read: u64,
    /// Parts that were written to, by number.
    written: BTreeMap<u64, Vec<u8>>,
    length: u64,
}

impl Watched {
    /// The file as it is.
    pub(super) fn over(file: FileBackend, place: &Place) -> Result<Self, StorageError> {
        let length = file.len().map_err(|error| failure::io(place, error))?;
        let state = State { length, ..State::default() };
        Ok(Self(Arc::new(Inner { file, state: Mutex::new(state) })))
    }

    /// Where the last read began.
    pub(super) fn last_read(&self) -> u64 {
        self.state().last_read
    }

    /// Whether a read began there since the last [`Watched::forget`].
    pub(super) fn has_read(&self, offset: u64) -> bool {
        self.state().reads.contains(&offset)
    }

    /// Forgets what was read.
    pub(super) fn forget(&self) {
        self.state().reads.clear();
    }

    // Nothing is left half done by who panics.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads from the file, and zeros behind its end.
    fn read_file(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = self.0.file.len()?.saturating_sub(offset);
        let there = usize::try_from(there).unwrap_or(usize::MAX).min(out.len());
        let (from_file, behind) = out.split_at_mut(there);
        behind.fill(0);
        if from_file.is_empty() { Ok(()) } else { self.0.file.read(offset, from_file) }
    }
}

/// The parts that `length` bytes from `offset` on touch: the number of each, where they begin in
/// it and where they end, and where that begins in them.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize, usize)> {
    let end = offset + length as u64;
    let numbers = offset / PART_BYTES..end.div_ceil(PART_BYTES);
    numbers.map(move |number| {
        let begin = number * PART_BYTES;
        let (from, to) = (begin.max(offset), (begin + PART_BYTES).min(end));
        let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        (number, place(from - begin), place(to - begin), place(from - offset))
    })
}

impl StorageBackend for Watched {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.state();
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > state.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        state.reads.insert(offset);
        state.last_read = offset;
        self.read_file(offset, out)?;
        for (number, from, to, at) in parts(offset, out.len()) {
            if let Some(part) = state.written.get(&number) {
                out[at..at + (to - from)].copy_from_slice(&part[from..to]);
            }
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.state().length = length;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        for (number, from, to, at) in parts(offset, data.len()) {
            let part = match state.written.entry(number) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    let mut part = vec![0; PART_BYTES as usize];
                    self.read_file(number * PART_BYTES, &mut part)?;
                    entry.insert(part)
                }
            };
            part[from..to].copy_from_slice(&data[at..at + (to - from)]);
        }
        Ok(())
    }
}
