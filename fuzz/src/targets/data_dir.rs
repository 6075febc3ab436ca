//! The database files of a node that was stopped, or killed, with bytes changed, or cut off: opened
//! they are a chain of which everything that is read is genuine, or an error says what is wrong.
//! No change of the file of blocks alone makes the chain shorter unnoticed; what is verified and
//! opens gives an index that says the truth.
//!
//! Seven bytes a change: file, place (four), what is done, with what. The highest bit of what
//! is done first says whether pages are verified at opening, that of the first file whether the
//! node was killed.

use std::fs;
use std::sync::LazyLock;

use ait_engine::transaction::VerifiedTransaction;
use ait_node::chain::{StorageEngine, Stores, StoresOptions};
use ait_storage::{Batch, Direction, Durability, KeyRange, Table};

use super::database::{index_is_genuine, is_genuine};
use crate::world::{BLOCKS, WORLD, directory, open};

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

/// The files as a kill leaves them: a commit for each block, and no file closed.
static KILLED: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let folder = directory();
    let options = options(&folder);
    let stores = Stores::open(&options).unwrap();
    let mut writer = open(&stores, &WORLD.genesis).unwrap();
    for (block, certificate) in &WORLD.blocks {
        let transactions = block.transactions.iter().cloned();
        let verified: Vec<_> = transactions.map(VerifiedTransaction::assume_verified).collect();
        writer.replay(&block.header, &verified, certificate.clone()).unwrap().unwrap();
        writer.wait_until_indexed().unwrap();
    }
    FILES.iter().map(|file| fs::read(options.directory.join(file)).unwrap()).collect()
});

/// Places that hold something: most of a small database is pages never written.
fn used(files: &[Vec<u8>]) -> Vec<Vec<usize>> {
    let used = |bytes: &Vec<u8>| (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    files.iter().map(used).collect()
}

static USED: LazyLock<[Vec<Vec<usize>>; 2]> = LazyLock::new(|| [used(&GOOD), used(&KILLED)]);

fn change(used: &[usize], bytes: &mut Vec<u8>, place: usize, what: u8, with: u8) {
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
    let is_killed = changes.first().is_some_and(|change| change[0] & 0x80 != 0);
    let (mut files, used) =
        if is_killed { (KILLED.clone(), &USED[1]) } else { (GOOD.clone(), &USED[0]) };
    let changes = &changes[..changes.len().min(4)];
    let file_of = |change: &[u8; 7]| usize::from(change[0] & 0x7f) % 3;
    for one @ [_, a, b, c, d, what, with] in changes {
        let (file, place) = (file_of(one), u32::from_le_bytes([*a, *b, *c, *d]));
        change(&used[file], &mut files[file], place as usize, *what, *with);
    }
    for (name, bytes) in FILES.iter().zip(&files) {
        fs::write(options.directory.join(name), bytes).unwrap();
    }
    let Ok(stores) = Stores::open(&options) else { return };
    let Ok(writer) = open(&stores, &WORLD.genesis) else { return };
    let chain = writer.chain();
    is_genuine(chain);
    if changes.iter().all(|change| file_of(change) == 0) {
        assert_eq!(chain.head().height.get(), BLOCKS, "final blocks are gone, and nobody noticed");
    }
    if verify && writer.wait_until_indexed().is_ok() && chain.head().height.get() == BLOCKS {
        index_is_genuine(chain);
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![Vec::new()];
    for file in [0, 1, 2, 0x80, 0x81, 0x82] {
        for what in 0..6_u8 {
            for verify in [0, 0x80] {
                seeds.push(vec![file, what.wrapping_mul(77), 3, 0, 0, what | verify, 5]);
            }
        }
    }
    // The flags of the header, in which one bit says which of two commits is the newest.
    let flags = USED[1][0].iter().position(|at| *at == 9);
    for bit in 0..8 {
        seeds.extend(flags.map(|at| vec![0x80, at as u8, 0, 0, 0, 0, bit]));
    }
    seeds
}
