//! Which tables of a damaged file have pages that differ from their checksums.
//!
//! redb verifies one table after the other and ends at the first bad page; it says neither which
//! page that is nor whose. So the file is read through a backend that notes every read: the last
//! one of a verification is the bad page, and the table is the first one whose pages, read all,
//! have it among them. Then that table is deleted and what is left is verified, until all of it
//! is good.
//!
//! Nothing here writes the file: what redb writes is kept in memory.

use std::{fmt, path::Path};

use redb::{TableDefinition, TableHandle};

use crate::{
    Place, StorageError,
    redb_storage::{
        Handle, RedbOptions, RedbStorage, contain::contain, failure, open, table_stats,
        watched::Watched,
    },
};

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

/// What a verification met, with the tables that have bad pages.
pub(super) fn located(error: StorageError, path: &Path, options: &RedbOptions) -> StorageError {
    match error {
        StorageError::Corrupt { place, detail } if options.verify => {
            let found = find(path, options);
            let where_to = found.map_or_else(|_| String::new(), |found| format!("; {found}"));
            failure::corrupt(&place, detail + &where_to)
        }
        other => other,
    }
}

/// Finds them in a file that a verification refused. Reads the whole of it, once more for each
/// table that is damaged.
///
/// # Errors
///
/// If the file cannot be read any more.
fn find(path: &Path, options: &RedbOptions) -> Result<Damage, StorageError> {
    let place = Place::Path(path.to_owned());
    let watched = Watched::over(open::existing(path, &place)?, &place)?;
    let mut damage = Damage::default();
    while damage.tables.len() < TABLES_MAX {
        if open_watched(&watched, &place, options, true).is_ok() {
            return Ok(damage);
        }
        let page = watched.last_read();
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
    let options = &RedbOptions { verify, cache_bytes: 0, ..options.clone() };
    let database = contain(place, || open::open_on(watched.clone(), place, options))?;
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
        watched.forget();
        let walked = contain(&storage.place, || {
            let transaction = storage.begin_read()?;
            let table = transaction
                .open_untyped_table(definition(&name))
                .map_err(|error| failure::table(&storage.place, error))?;
            table_stats(name.clone(), &table)
                .map_err(|error| failure::storage(&storage.place, error))
        });
        let has_page = watched.has_read(page);
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
