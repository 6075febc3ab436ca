//! Which tables of a damaged file have pages that differ from their checksums.
//!
//! redb verifies one table after the other and ends at the first bad page; it says neither which
//! page that is nor whose. So the file is read through a backend that notes every read: the last
//! one of a verification is the bad page, and the table is the first one whose pages, read all,
//! have it among them. Then that table is deleted and what is left is verified, until all of it
//! is good.
//!
//! Nothing here writes the file: what redb writes is kept in memory.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fmt, io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redb::{StorageBackend, TableDefinition, TableHandle, backends::FileBackend};

use crate::{
    Place, StorageError,
    redb_storage::{
        Handle, RedbOptions, RedbStorage, contain::contain, failure, open, table_stats,
    },
};

/// Bytes of a part of the file that is kept in memory once it is written to.
const PART_BYTES: u64 = 4096;
/// Damaged tables that are named at most.
const TABLES_MAX: usize = 64;

/// The tables that have bad pages, as far as that can be said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Damage {
    tables: Vec<String>,
    /// Whether there may be more: in redb's own lists, or in tables behind one that cannot be read.
    has_more: bool,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tables.is_empty() {
            return write!(f, "bad pages in no table, but in what the engine keeps about them");
        }
        write!(f, "bad pages in: {}", self.tables.join(", "))?;
        write!(f, "{}", if self.has_more { "; what comes behind is not known" } else { "" })
    }
}

/// Finds them in a file that a verification refused. Reads the whole of it, once more for each
/// table that is damaged.
///
/// # Errors
///
/// If the file cannot be read any more.
pub(super) fn find(path: &Path, options: &RedbOptions) -> Result<Damage, StorageError> {
    let place = Place::Path(path.to_owned());
    let file = open::existing(path, &place)?;
    let length = file.len().map_err(|error| failure::io(&place, error))?;
    let state = State { length, ..State::default() };
    let watched = Watched(Arc::new(Inner { file, state: Mutex::new(state) }));
    let mut damage = Damage::default();
    while damage.tables.len() < TABLES_MAX {
        if open_watched(&watched, &place, options, true).is_ok() {
            return Ok(damage);
        }
        let page = watched.state().last_read;
        let storage = open_watched(&watched, &place, options, false);
        let Ok(storage) = storage else { break };
        let Some((table, is_walkable)) = culprit(&storage, &watched, page) else { break };
        let is_deleted = is_walkable && delete(&storage, &table).is_ok();
        damage.tables.push(table);
        if !is_deleted {
            break;
        }
    }
    damage.has_more = true;
    Ok(damage)
}

fn open_watched(
    watched: &Watched,
    place: &Place,
    options: &RedbOptions,
    verify: bool,
) -> Result<RedbStorage, StorageError> {
    // Without a cache, so that every read is noted.
    let builder = open::builder(&RedbOptions { verify, cache_bytes: 0, ..options.clone() });
    let database = contain(place, || {
        let opened = builder.create_with_backend(watched.clone());
        opened.map_err(|error| failure::database(place, error))
    })?;
    Ok(RedbStorage::new(Handle::Writable(database), place.clone(), options))
}

/// The table that has this page, and whether all of it can be read.
fn culprit(storage: &RedbStorage, watched: &Watched, page: u64) -> Option<(String, bool)> {
    let names: Vec<String> = contain(&storage.place, || {
        let transaction = storage.begin_read()?;
        let tables = transaction.list_tables();
        let tables = tables.map_err(|error| failure::storage(&storage.place, error))?;
        Ok(tables.map(|table| table.name().to_owned()).collect())
    })
    .ok()?;
    names.into_iter().find_map(|name| {
        watched.state().pages.clear();
        let walked = contain(&storage.place, || {
            let transaction = storage.begin_read()?;
            let table = transaction
                .open_untyped_table(definition(&name))
                .map_err(|error| failure::table(&storage.place, error))?;
            table_stats(name.clone(), &table)
                .map_err(|error| failure::storage(&storage.place, error))
        });
        let has_page = watched.state().pages.contains(&page);
        has_page.then(|| (name, walked.is_ok()))
    })
}

fn definition(name: &str) -> TableDefinition<'_, &'static [u8], &'static [u8]> {
    TableDefinition::new(name)
}

/// Takes a table out of what the next verification looks at.
fn delete(storage: &RedbStorage, name: &str) -> Result<(), StorageError> {
    let handle = storage.database.read().map_err(|_| storage.refusal())?;
    let Some(Handle::Writable(database)) = &*handle else {
        return Err(storage.only_readable());
    };
    let place = &storage.place;
    contain(place, || {
        let mut transaction =
            database.begin_write().map_err(|error| failure::transaction(place, error))?;
        transaction.set_quick_repair(true);
        transaction.delete_table(definition(name)).map_err(|error| failure::table(place, error))?;
        transaction.commit().map_err(|error| failure::commit(place, error))
    })
}

/// The file, with every read noted and every write kept in memory.
#[derive(Clone, Debug)]
struct Watched(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: FileBackend,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Where reads began.
    pages: BTreeSet<u64>,
    last_read: u64,
    /// Parts that were written to, by number.
    written: BTreeMap<u64, Vec<u8>>,
    length: u64,
}

impl Watched {
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
        state.pages.insert(offset);
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
