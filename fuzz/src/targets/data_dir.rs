//! The database files of a stopped node, with bytes changed, or cut off: opened they are a
//! chain of which everything that is read is genuine, or an error says what is wrong.
//!
//! Seven bytes a change: file, place (four), what is done, with what. The highest bit of what
//! is done first says whether pages are verified at opening.

use std::fs;
use std::sync::LazyLock;

use ait_node::chain::{StorageEngine, Stores, StoresOptions};
use ait_storage::{Batch, Direction, Durability, KeyRange, Table};

use super::database::is_genuine;
use crate::world::{WORLD, directory, open};

const FILES: [&str; 3] = ["blocks.redb", "state.redb", "index.redb"];

fn options(folder: &tempfile::TempDir) -> StoresOptions {
    let directory = folder.path().join("chain");
    StoresOptions { engine: StorageEngine::Redb, directory, cache_bytes: 1 << 20, verify: false }
}

/// The files of the world's chain after a clean stop.
static GOOD: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let folder = directory();
    let options = options(&folder);
    let stores = Stores::open(&options).unwrap();
    for ((_, from), (_, to)) in WORLD.stores.named().into_iter().zip(stores.named()) {
        let snapshot = from.snapshot().unwrap();
        let mut batch = Batch::new();
        for table in from.stats().unwrap() {
            let name: &'static str = table.name.to_string().leak();
            let table = Table::new(name);
            for row in snapshot.range(table, KeyRange::all(), Direction::Forward).unwrap() {
                let (key, value) = row.unwrap();
                batch.put(table, key.into_vec(), value.into_vec());
            }
        }
        to.commit(batch, Durability::Immediate).unwrap();
    }
    drop(stores);
    FILES.iter().map(|file| fs::read(options.directory.join(file)).unwrap()).collect()
});

/// Places that hold something: most of a small database is pages never written.
static USED: LazyLock<Vec<Vec<usize>>> = LazyLock::new(|| {
    let used = |bytes: &Vec<u8>| (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    GOOD.iter().map(used).collect()
});

fn change(file: usize, bytes: &mut Vec<u8>, place: usize, what: u8, with: u8) {
    let used = &USED[file];
    let at = used[place % used.len()].min(bytes.len().saturating_sub(1));
    match (what & 0x7f) % 6 {
        0 | 1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << (with % 8);
            }
        }
        2 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = with;
            }
        }
        3 => bytes.truncate(place % (bytes.len() + 1)),
        // A page that was never written, or written elsewhere.
        4 => {
            let page = at / 4096 * 4096;
            let end = (page + 4096).min(bytes.len());
            bytes[page..end].fill(0);
        }
        _ => {
            let (from, to) = (usize::from(with) * 4096, at / 4096 * 4096);
            if from + 4096 <= bytes.len() && to + 4096 <= bytes.len() {
                bytes.copy_within(from..from + 4096, to);
            }
        }
    }
}

pub fn run(input: &[u8]) {
    let folder = directory();
    let (changes, _) = input.as_chunks::<7>();
    let verify = changes.first().is_some_and(|change| change[5] & 0x80 != 0);
    let options = StoresOptions { verify, ..options(&folder) };
    fs::create_dir_all(&options.directory).unwrap();
    let mut files = GOOD.clone();
    for [file, a, b, c, d, what, with] in changes.iter().take(4) {
        let (file, place) = (usize::from(*file) % 3, u32::from_le_bytes([*a, *b, *c, *d]));
        change(file, &mut files[file], place as usize, *what, *with);
    }
    for (name, bytes) in FILES.iter().zip(&files) {
        fs::write(options.directory.join(name), bytes).unwrap();
    }
    let Ok(stores) = Stores::open(&options) else { return };
    let Ok(writer) = open(&stores, &WORLD.genesis) else { return };
    is_genuine(writer.chain());
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![Vec::new()];
    for file in 0..3 {
        for what in 0..6_u8 {
            for verify in [0, 0x80] {
                seeds.push(vec![file, what.wrapping_mul(77), 3, 0, 0, what | verify, 5]);
            }
        }
    }
    seeds
}
