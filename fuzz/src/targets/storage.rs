//! A sequence of commits, read from the bytes, on both storage engines and on a sorted map. All
//! three hold the same after each, and redb also after it is opened again.

use std::collections::BTreeMap;
use std::ops::Bound;

use ait_storage::{
    Batch, Direction, Durability, KeyRange, MemoryStorage, RedbOptions, RedbStorage, Storage, Table,
};

use crate::world::directory;

const TABLES: [Table; 2] = [Table::new("a"), Table::new("b")];
/// Commits of a run at most: each is a few milliseconds of redb.
const COMMITS_MAX: usize = 24;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// Takes what operations need off the bytes; zeros behind their end.
struct Source<'a>(&'a [u8]);

impl Source<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) =
            self.0.split_first().map_or((0, self.0), |(first, rest)| (*first, rest));
        self.0 = rest;
        first
    }

    /// Few and similar keys, so that operations meet.
    fn key(&mut self) -> Vec<u8> {
        let shape = self.byte();
        let byte = [0, 1, 127, 255][usize::from(shape & 3)];
        let length = match shape >> 2 {
            63 => 700,
            short => usize::from(short % 4),
        };
        let mut key = vec![byte; length];
        key.extend((shape & 64 != 0).then_some(shape));
        key
    }

    fn bound(&mut self) -> Bound<Vec<u8>> {
        match self.byte() % 3 {
            0 => Bound::Unbounded,
            1 => Bound::Included(self.key()),
            _ => Bound::Excluded(self.key()),
        }
    }
}

fn entries(storage: &dyn Storage, table: Table, range: &KeyRange) -> [Vec<(Vec<u8>, Vec<u8>)>; 2] {
    let snapshot = storage.snapshot().unwrap();
    [Direction::Forward, Direction::Reverse].map(|direction| {
        let all = snapshot.range(table, range.clone(), direction).unwrap();
        all.map(|entry| entry.map(|(key, value)| (key.into_vec(), value.into_vec())).unwrap())
            .collect()
    })
}

pub fn run(input: &[u8]) {
    let folder = directory();
    let path = folder.path().join("store.redb");
    let options = RedbOptions { cache_bytes: 1 << 20, ..RedbOptions::default() };
    let memory = MemoryStorage::new();
    let mut redb = RedbStorage::open(&path, &options).unwrap();
    let mut maps = [Map::new(), Map::new()];
    let mut source = Source(input);
    for _ in 0..COMMITS_MAX {
        if source.0.is_empty() {
            break;
        }
        let (mut batch, mut same) = (Batch::new(), Batch::new());
        let durability = match source.byte() % 4 {
            0 => Durability::Immediate,
            _ => Durability::None,
        };
        for _ in 0..source.byte() % 16 {
            let at = usize::from(source.byte() & 1);
            let (table, map) = (TABLES[at], &mut maps[at]);
            match source.byte() % 4 {
                0 => {
                    let range = KeyRange::new(source.bound(), source.bound());
                    map.retain(|key, _| !range.contains(key));
                    batch.delete_range(table, range.clone());
                    same.delete_range(table, range);
                }
                1 => {
                    let key = source.key();
                    map.remove(&key);
                    batch.delete(table, key.clone());
                    same.delete(table, key);
                }
                _ => {
                    let (key, byte) = (source.key(), source.byte());
                    let length = if byte > 250 { 20_000 } else { usize::from(byte % 40) };
                    let value = vec![byte; length];
                    map.insert(key.clone(), value.clone());
                    batch.put(table, key.clone(), value.clone());
                    same.put(table, key, value);
                }
            }
        }
        memory.commit(batch, durability).unwrap();
        redb.commit(same, durability).unwrap();
        if source.byte() % 16 == 0 {
            redb.commit(Batch::new(), Durability::Immediate).unwrap();
            drop(redb);
            redb = RedbStorage::open(&path, &options).unwrap();
        }
        let range = KeyRange::new(source.bound(), source.bound());
        for (table, map) in TABLES.into_iter().zip(&maps) {
            for range in [&range, &KeyRange::all()] {
                let expected: Vec<_> = map
                    .iter()
                    .filter(|(key, _)| range.contains(key))
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect();
                let reverse = expected.iter().rev().cloned().collect();
                let expected = [expected, reverse];
                assert_eq!(entries(&memory, table, range), expected, "memory, {range:?}");
                assert_eq!(entries(&redb, table, range), expected, "redb, {range:?}");
            }
        }
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut rng = fastrand::Rng::with_seed(7);
    [40, 200, 600].map(|length| (0..length).map(|_| rng.u8(..)).collect()).to_vec()
}
