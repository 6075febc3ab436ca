//! Files as operators meet them: truncated, foreign, locked, read-only, copied while in use.
#![allow(clippy::unwrap_used)]

mod damage;
mod mend;
mod power;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::{RedbOptions, RedbStorage};
use crate::{
    Batch, Direction, Durability, KeyRange, Storage, StorageError, StorageErrorKind, Table,
};

const TABLE: Table = Table::new("table");
const COMMITS: u32 = 12;

fn options() -> RedbOptions {
    RedbOptions { cache_bytes: 1024 * 1024, ..RedbOptions::default() }
}

/// Entries of commit `number`: each commit replaces one entry and adds some, all telling its
/// number.
fn batch(number: u32) -> Batch {
    let mut batch = Batch::new();
    batch.put(TABLE, *b"newest", number.to_be_bytes());
    for entry in 0..200_u32 {
        batch.put(
            TABLE,
            [number.to_be_bytes(), entry.to_be_bytes()].concat(),
            vec![number as u8; 100],
        );
    }
    batch
}

fn fill(storage: &RedbStorage) {
    for number in 1..=COMMITS {
        storage.commit(batch(number), Durability::Immediate).unwrap();
    }
}

/// The number of the newest commit, having checked that all of it and of those before is there
/// and nothing else is.
fn newest_whole_commit(storage: &dyn Storage) -> Result<u32, StorageError> {
    let snapshot = storage.snapshot()?;
    let Some(newest) = snapshot.get(TABLE, b"newest")? else {
        assert!(snapshot.first(TABLE, KeyRange::all())?.is_none());
        return Ok(0);
    };
    let newest = u32::from_be_bytes((*newest).try_into().unwrap());
    let mut count = 0;
    for entry in snapshot.range(TABLE, KeyRange::before(*b"newest"), Direction::Forward)? {
        let (key, value) = entry?;
        let number = u32::from_be_bytes(key[..4].try_into().unwrap());
        assert!(number <= newest);
        assert_eq!(value, *vec![number as u8; 100].as_slice());
        count += 1;
    }
    assert_eq!(count, newest * 200);
    Ok(newest)
}

fn closed_file(directory: &Path) -> PathBuf {
    let path = directory.join("closed.redb");
    let storage = RedbStorage::open(&path, &options()).unwrap();
    fill(&storage);
    storage.close().unwrap();
    path
}

/// The file as a process killed now would leave it.
fn killed_file(directory: &Path) -> PathBuf {
    let storage = RedbStorage::open(directory.join("running.redb"), &options()).unwrap();
    fill(&storage);
    let copy = directory.join("killed.redb");
    fs::copy(directory.join("running.redb"), &copy).unwrap();
    copy
}

/// Opens a damaged file and reads all of it.
fn examine(path: &Path, verify: bool) -> Result<u32, StorageError> {
    let storage = RedbStorage::open(path, &RedbOptions { verify, ..options() })?;
    let newest = newest_whole_commit(&storage)?;
    storage.commit(batch(newest + 1), Durability::Immediate)?;
    newest_whole_commit(&storage)
}

fn truncation_offsets(length: u64) -> impl Iterator<Item = u64> {
    let early = (0..4096_u64).step_by(61).chain([4095, 4096, 4097]);
    early.chain((4098..length).step_by(length as usize / 97)).chain([length - 4096, length - 1])
}

#[test]
fn truncated_file_is_refused_or_opens_with_whole_commits() {
    let directory = TempDir::new().unwrap();
    for original in [closed_file(directory.path()), killed_file(directory.path())] {
        let bytes = fs::read(&original).unwrap();
        let damaged = directory.path().join("damaged.redb");
        let mut refused = 0;
        for offset in truncation_offsets(bytes.len() as u64) {
            fs::write(&damaged, &bytes[..offset as usize]).unwrap();
            match examine(&damaged, false) {
                Ok(newest) => assert!(newest <= COMMITS + 1),
                Err(StorageError::Corrupt { place, .. }) => {
                    assert_eq!(place, crate::Place::Path(damaged.clone()));
                    refused += 1;
                }
                Err(other) => panic!("cut at {offset}: {other}"),
            }
        }
        assert!(refused > 0, "no cut was noticed");
        fs::write(&damaged, &bytes).unwrap();
        assert_eq!(examine(&damaged, false).unwrap(), COMMITS + 1);
    }
}

#[test]
fn file_with_garbage_in_its_pages_is_refused_by_a_verifying_open() {
    let directory = TempDir::new().unwrap();
    let bytes = fs::read(closed_file(directory.path())).unwrap();
    let damaged = directory.path().join("damaged.redb");
    let marker = [COMMITS as u8; 100];
    let values: Vec<usize> = (0..bytes.len() - marker.len())
        .filter(|&at| bytes[at..].starts_with(&marker))
        .step_by(25)
        .collect();
    assert!(!values.is_empty());
    for at in values {
        let mut garbled = bytes.clone();
        garbled[at..at + 8].copy_from_slice(b"garbage!");
        fs::write(&damaged, &garbled).unwrap();
        // Not every copy of the value is live: pages of older commits may hold one as well.
        match examine(&damaged, true) {
            Ok(newest) => assert_eq!(newest, COMMITS + 1),
            Err(error) => assert_eq!(error.kind(), StorageErrorKind::Corrupt, "{error}"),
        }
    }
    let mut garbled = bytes;
    for byte in garbled.iter_mut().skip(4096) {
        *byte ^= 0x5a;
    }
    fs::write(&damaged, &garbled).unwrap();
    assert_eq!(examine(&damaged, true).unwrap_err().kind(), StorageErrorKind::Corrupt);
}

#[test]
fn file_of_another_kind_is_refused_and_left_as_it_was() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("other");
    let contents: [&[u8]; 4] = [b"", b"x", b"SQLite format 3\0 and more", &[0; 100_000]];
    for content in contents {
        fs::write(&path, content).unwrap();
        let refused = RedbStorage::open(&path, &options()).unwrap_err();
        assert_eq!(refused.kind(), StorageErrorKind::Corrupt, "{refused}");
        assert!(refused.to_string().contains("other"), "{refused}");
        let refused = RedbStorage::open_read_only(&path, &options()).unwrap_err();
        assert_eq!(refused.kind(), StorageErrorKind::Corrupt, "{refused}");
        assert_eq!(fs::read(&path).unwrap(), content);
    }
}

#[test]
fn redb_file_with_tables_of_other_types_is_corrupt() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("typed.redb");
    let database = redb::Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(redb::TableDefinition::<u64, u64>::new("table")).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let storage = RedbStorage::open(&path, &options()).unwrap();
    let read = storage.snapshot().unwrap().get(TABLE, b"key").map(|_| ());
    assert_eq!(read.unwrap_err().kind(), StorageErrorKind::Corrupt);
    let written = storage.commit(batch(1), Durability::Immediate);
    assert_eq!(written.unwrap_err().kind(), StorageErrorKind::Corrupt);
    let refused = storage.commit(Batch::new(), Durability::Immediate);
    assert_eq!(refused.unwrap_err().kind(), StorageErrorKind::Poisoned);
}

#[test]
fn second_opener_is_told_that_the_file_is_locked() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("chain.redb");
    let first = RedbStorage::open(&path, &options()).unwrap();
    for second in
        [RedbStorage::open(&path, &options()), RedbStorage::open_read_only(&path, &options())]
    {
        let refused = second.unwrap_err();
        assert_eq!(refused.kind(), StorageErrorKind::Locked);
        assert!(refused.is_retryable());
        assert!(refused.to_string().contains("already open in another process"));
    }
    fill(&first);
    first.close().unwrap();
    let again = RedbStorage::open(&path, &options()).unwrap();
    assert_eq!(newest_whole_commit(&again).unwrap(), COMMITS);
}

#[test]
fn readers_share_a_closed_file_and_keep_a_writer_out() {
    let directory = TempDir::new().unwrap();
    let path = closed_file(directory.path());
    let readers = [(); 2].map(|()| RedbStorage::open_read_only(&path, &options()).unwrap());
    for reader in &readers {
        assert_eq!(newest_whole_commit(reader).unwrap(), COMMITS);
        let refused = reader.commit(batch(1), Durability::Immediate);
        assert_eq!(refused.unwrap_err().kind(), StorageErrorKind::ReadOnly);
        assert_eq!(reader.compact().unwrap_err().kind(), StorageErrorKind::ReadOnly);
    }
    let writer = RedbStorage::open(&path, &options()).unwrap_err();
    assert_eq!(writer.kind(), StorageErrorKind::Locked);
}

#[test]
fn killed_process_leaves_every_durable_commit() {
    let directory = TempDir::new().unwrap();
    let running = directory.path().join("running.redb");
    for quick_repair in [true, false] {
        let options = RedbOptions { quick_repair, ..options() };
        let storage = RedbStorage::open(&running, &options).unwrap();
        for number in 1..=COMMITS {
            storage.commit(batch(number), Durability::Immediate).unwrap();
            let copy = directory.path().join("killed.redb");
            fs::copy(&running, &copy).unwrap();
            let read_only = RedbStorage::open_read_only(&copy, &options);
            assert_eq!(read_only.unwrap_err().kind(), StorageErrorKind::NeedsRecovery);
            assert_eq!(
                newest_whole_commit(&RedbStorage::open(&copy, &options).unwrap()).unwrap(),
                number
            );
        }
        drop(storage);
        fs::remove_file(&running).unwrap();
    }
}

#[test]
fn new_file_is_private_and_alone_in_its_directory() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("chain.redb");
    // What a crash while making the file leaves.
    fs::write(directory.path().join("chain.redb.new"), b"half a database").unwrap();
    let storage = RedbStorage::open(&path, &options()).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let names: Vec<_> =
        fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["chain.redb"]);
    drop(storage);
}

#[test]
fn missing_file_or_directory_is_missing() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("chain.redb");
    let existing_only = RedbOptions { create: false, ..options() };
    let kind = |opened: Result<RedbStorage, StorageError>| opened.unwrap_err().kind();
    assert_eq!(kind(RedbStorage::open(&path, &existing_only)), StorageErrorKind::Missing);
    assert_eq!(kind(RedbStorage::open_read_only(&path, &options())), StorageErrorKind::Missing);
    assert!(!path.exists());
    let nowhere = directory.path().join("absent").join("chain.redb");
    assert_eq!(kind(RedbStorage::open(nowhere, &options())), StorageErrorKind::Missing);
    assert_eq!(
        kind(RedbStorage::open_read_only(directory.path(), &options())),
        StorageErrorKind::Corrupt
    );
}

#[test]
fn permission_refused_is_read_only() {
    let place = crate::Place::Path(PathBuf::from("chain.redb"));
    for kind in [std::io::ErrorKind::PermissionDenied, std::io::ErrorKind::ReadOnlyFilesystem] {
        let error = super::failure::io(&place, kind.into());
        assert_eq!(error.kind(), StorageErrorKind::ReadOnly);
        assert!(error.advice().contains("writable"));
    }
    let directory = TempDir::new().unwrap();
    let path = closed_file(directory.path());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    // The superuser may write whatever the permissions say; for anybody else this is refused.
    match RedbStorage::open(&path, &options()) {
        Ok(storage) => assert_eq!(newest_whole_commit(&storage).unwrap(), COMMITS),
        Err(refused) => assert_eq!(refused.kind(), StorageErrorKind::ReadOnly),
    }
    let reader = RedbStorage::open_read_only(&path, &options()).unwrap();
    assert_eq!(newest_whole_commit(&reader).unwrap(), COMMITS);
}

#[test]
fn compaction_waits_for_no_snapshot_and_keeps_everything() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("chain.redb");
    let storage = RedbStorage::open(&path, &options()).unwrap();
    fill(&storage);
    let mut batch = Batch::new();
    batch.put(Table::new("large"), *b"key", vec![1; 8 << 20]);
    storage.commit(batch, Durability::Immediate).unwrap();
    let mut batch = Batch::new();
    batch.delete_range(Table::new("large"), KeyRange::all());
    storage.commit(batch, Durability::Immediate).unwrap();
    let snapshot = storage.snapshot().unwrap();
    let busy = storage.compact().unwrap_err();
    assert_eq!(busy.kind(), StorageErrorKind::Busy);
    assert!(busy.is_retryable());
    drop(snapshot);
    let before = fs::metadata(&path).unwrap().len();
    assert!(storage.compact().unwrap());
    assert!(fs::metadata(&path).unwrap().len() < before / 2);
    assert_eq!(newest_whole_commit(&storage).unwrap(), COMMITS);
}

#[test]
fn verifying_open_finds_any_altered_byte_or_shows_whole_commits() {
    let directory = TempDir::new().unwrap();
    let bytes = fs::read(closed_file(directory.path())).unwrap();
    let damaged = directory.path().join("damaged.redb");
    let mut refused = 0;
    for seed in 0..400_u64 {
        let draw = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // Every other one in the header, the rest anywhere.
        let reach = if seed.is_multiple_of(2) { 320 } else { bytes.len() as u64 };
        let mut altered = bytes.clone();
        altered[((draw >> 8) % reach) as usize] ^= (draw >> 56) as u8 | 1;
        fs::write(&damaged, &altered).unwrap();
        match examine(&damaged, true) {
            Ok(newest) => assert!(newest <= COMMITS + 1),
            Err(StorageError::Corrupt { .. } | StorageError::Version { .. }) => refused += 1,
            Err(other) => panic!("seed {seed}: {other}"),
        }
    }
    assert!(refused > 100, "only {refused} alterations were refused");
}

#[test]
fn a_panic_of_whoever_gives_the_parts_is_no_damage_and_leaves_the_storage_as_it_was() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("file");
    let storage = RedbStorage::open(&path, &options()).unwrap();
    fill(&storage);
    let panics = || {
        let mut given = false;
        let mut next = || {
            assert!(!std::mem::replace(&mut given, true), "a fault of the program");
            Ok(Some(batch(COMMITS + 1)))
        };
        let parts =
            std::panic::AssertUnwindSafe(|| storage.commit_parts(&mut next, Durability::Immediate));
        let panic = std::panic::catch_unwind(parts).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"a fault of the program"));
        assert_eq!(newest_whole_commit(&storage).unwrap(), COMMITS);
        fs::metadata(&path).unwrap().len()
    };
    // What was begun is rolled back: its pages are used again.
    let length = panics();
    assert!((0..100).all(|_| panics() == length));
    storage.commit(batch(COMMITS + 1), Durability::Immediate).unwrap();
    assert_eq!(newest_whole_commit(&storage).unwrap(), COMMITS + 1);
}
