//! Files with altered pages, opened without verification: whatever redb does at them, each call
//! returns, and none panics. The one exception is a panic within a panic, of which the hook is
//! told before it ends the process: the files are therefore tried in another process.

use std::{fs, panic, process::Command};

use tempfile::TempDir;

use super::{COMMITS, TABLE, batch, closed_file, killed_file, options};
use crate::{
    Direction, Durability, KeyRange, PanicIn, RedbStorage, Storage, StorageError, StorageErrorKind,
    note_panic,
};

const FILES: usize = 120;
/// Set for the other process: the number of the first file to be tried.
const FROM: &str = "AIT_STORAGE_DAMAGE_FROM";
/// How the other process ends at a panic within a panic.
const ENDED: i32 = 86;

/// Everything that can be asked of a storage, each whatever became of the one before.
fn exercise(storage: &RedbStorage) -> Vec<StorageError> {
    let mut errors = Vec::new();
    errors.extend(storage.stats().err());
    let in_table = |error: StorageError| {
        assert!(error.kind() != StorageErrorKind::Corrupt || error.to_string().contains("table "));
        error
    };
    match storage.snapshot() {
        Err(error) => errors.push(error),
        Ok(snapshot) => {
            for number in 0..=COMMITS {
                let key = [number.to_be_bytes(), [0; 4]].concat();
                let value = snapshot.get(TABLE, &key);
                errors.extend(
                    value.map(|value| value.map(|bytes| bytes.to_vec())).map_err(in_table).err(),
                );
            }
            for direction in [Direction::Forward, Direction::Reverse] {
                match snapshot.range(TABLE, KeyRange::all(), direction) {
                    Err(error) => errors.push(in_table(error)),
                    // A damaged tree may lead in circles.
                    Ok(rows) => {
                        errors.extend(rows.take(10_000).filter_map(Result::err).map(in_table))
                    }
                }
            }
        }
    }
    for number in [COMMITS + 1, COMMITS + 2] {
        errors.extend(storage.commit(batch(number), Durability::Immediate).err());
    }
    errors.extend(storage.compact().err());
    errors.extend(storage.snapshot().err());
    errors
}

/// One or two bits of a file altered, mostly where a page says what it holds.
fn damage(bytes: &mut [u8], number: usize) {
    let mut state = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut draw = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize % below
    };
    for _ in 0..=draw(2) {
        let page = 4096 * draw(bytes.len() / 4096);
        let reach = [4, 64, 4096][draw(3)];
        bytes[page + draw(reach)] ^= 1 << draw(8);
    }
}

/// Tries files until the last or a panic within a panic, telling each file's number, and whether
/// it was refused and with a panic.
fn try_files(from: usize) {
    let directory = TempDir::new().unwrap();
    let originals = [closed_file(directory.path()), killed_file(directory.path())]
        .map(|path| fs::read(path).unwrap());
    let damaged = directory.path().join("damaged.redb");
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |panic| match note_panic() {
        PanicIn::Program => tell(panic),
        PanicIn::Engine => {}
        PanicIn::EngineUnwinding => std::process::exit(ENDED),
    }));
    for number in from..FILES {
        eprintln!("\nfile {number}");
        let mut bytes = originals[number % 2].clone();
        damage(&mut bytes, number);
        fs::write(&damaged, &bytes).unwrap();
        let errors = match RedbStorage::open(&damaged, &options()) {
            Err(error) => vec![error],
            Ok(storage) => {
                let mut errors = exercise(&storage);
                errors.extend(storage.close().err());
                errors
            }
        };
        if !errors.is_empty() {
            eprintln!("refused");
        }
        if errors.iter().any(|error| error.to_string().contains("redb panicked")) {
            eprintln!("contained");
        }
    }
}

/// Numbers of altered files whose lists of free pages have an entry for a transaction far in the
/// future: redb compacts them for ever.
const ENDLESS: [usize; 3] = [1_047, 2_236, 3_131];

#[test]
fn compaction_ends_at_a_damaged_list_of_free_pages() {
    let directory = TempDir::new().unwrap();
    let originals = [closed_file(directory.path()), killed_file(directory.path())]
        .map(|path| fs::read(path).unwrap());
    let damaged = directory.path().join("damaged.redb");
    for number in ENDLESS {
        let mut bytes = originals[number % 2].clone();
        damage(&mut bytes, number);
        fs::write(&damaged, &bytes).unwrap();
        let storage = RedbStorage::open(&damaged, &options()).unwrap();
        assert_eq!(storage.compact().unwrap_err().kind(), StorageErrorKind::Corrupt, "{number}");
    }
}

#[test]
fn no_altered_page_makes_a_call_panic() {
    if let Ok(from) = std::env::var(FROM) {
        return try_files(from.parse().unwrap());
    }
    let name = std::thread::current().name().unwrap().to_owned();
    let (mut told, mut ended, mut from) = (String::new(), 0, 0);
    loop {
        let mut program = Command::new(std::env::current_exe().unwrap());
        let done = program.args(["--exact", &name, "--nocapture"]).env(FROM, from.to_string());
        let done = done.output().unwrap();
        told += &String::from_utf8(done.stderr).unwrap();
        if done.status.success() {
            break;
        }
        assert_eq!(done.status.code(), Some(ENDED), "{told}");
        let last = told.lines().rev().find_map(|line| line.strip_prefix("file ")).unwrap();
        (ended, from) = (ended + 1, last.parse::<usize>().unwrap() + 1);
    }
    let count = |what: &str| told.lines().filter(|line| *line == what).count();
    let (refused, contained) = (count("refused"), count("contained"));
    assert!(told.contains(&format!("file {}", FILES - 1)));
    let counts = format!("{refused} refused, {contained} contained, {ended} ended by two panics");
    assert!(refused > contained && contained > 20, "{counts}");
    assert!(ended < FILES / 20, "{counts}");
}

/// A file of three tables, each some pages deep, with its own byte in all of its values.
fn three_tables(directory: &std::path::Path) -> std::path::PathBuf {
    let path = directory.join("tables.redb");
    let storage = RedbStorage::open(&path, &options()).unwrap();
    let mut batch = crate::Batch::new();
    for row in 0..3_000_u32 {
        for (table, byte) in ["a", "b", "c"].into_iter().zip(*b"XYZ") {
            batch.put(crate::Table::new(table), row.to_be_bytes(), vec![byte; 100]);
        }
    }
    storage.commit(batch, Durability::Immediate).unwrap();
    storage.close().unwrap();
    path
}

/// What opening with a look at every page says of these bytes, which it must leave as they are.
fn refusal(path: &std::path::Path, bytes: &[u8]) -> Option<String> {
    fs::write(path, bytes).unwrap();
    let verify = crate::RedbOptions { verify: true, ..options() };
    let error = RedbStorage::open(path, &verify).err()?;
    assert_eq!(error.kind(), StorageErrorKind::Corrupt, "{error}");
    assert!(fs::read(path).unwrap() == bytes, "it wrote to the damaged file");
    Some(error.to_string())
}

#[test]
fn a_bad_page_is_told_with_its_table() {
    let directory = TempDir::new().unwrap();
    let path = three_tables(directory.path());
    let whole = fs::read(&path).unwrap();
    for wanted in [&["a"][..], &["b"], &["c"], &["a", "c"], &["a", "b", "c"]] {
        let mut bytes = whole.clone();
        for table in wanted {
            let value = [b'X' + table.as_bytes()[0] - b'a'; 100];
            let at: Vec<usize> =
                (0..bytes.len() - 100).filter(|at| bytes[*at..].starts_with(&value)).collect();
            bytes[at[at.len() / 2] + 50] ^= 1;
        }
        let said = refusal(&path, &bytes).unwrap();
        assert!(said.ends_with(&format!("; bad pages in: {}", wanted.join(", "))), "{said}");
    }
}

/// Wherever the damage is: also in pages that lead to others, in redb's own lists, in the header.
#[test]
fn every_refusal_says_where_and_leaves_the_file_as_it_is() {
    let directory = TempDir::new().unwrap();
    let path = three_tables(directory.path());
    let whole = fs::read(&path).unwrap();
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if note_panic() == PanicIn::Program {
            tell(panic);
        }
    }));
    let (mut in_tables, mut elsewhere) = (0, 0);
    for number in 0..150 {
        let mut bytes = whole.clone();
        damage(&mut bytes, number);
        if let Some(said) = refusal(&path, &bytes) {
            assert!(said.contains("bad pages in"), "{number}: {said}");
            *if said.contains("in no table") { &mut elsewhere } else { &mut in_tables } += 1;
        }
    }
    assert!(in_tables > 20 && elsewhere > 0, "{in_tables} {elsewhere}");
}
