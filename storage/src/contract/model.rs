//! Random operations on a storage and on a plain sorted map, compared after every commit.
//!
//! The same operations on every run and every engine: the generator is seeded with a constant.

use std::{collections::BTreeMap, ops::Bound};

use crate::{Batch, Direction, Durability, KeyRange, Storage, Table};

use super::{A, B, Pairs, Subject, contents, scan};

const SEEDS: [u64; 3] = [1, 2, 3];
const COMMITS: usize = 60;
const CHANGES_MAX: u64 = 120;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

pub(super) fn random_operations(subject: &mut dyn Subject) {
    for seed in SEEDS {
        subject.renew();
        run(subject, seed);
    }
}

fn run(subject: &mut dyn Subject, seed: u64) {
    let mut random = Random(seed);
    let mut models = [(A, Model::new()), (B, Model::new())];
    let mut storage = subject.open();
    for number in 0..COMMITS {
        let batch = random_batch(&mut random, &mut models);
        let durability = match random.below(4) {
            0 => Durability::Immediate,
            _ => Durability::None,
        };
        storage.commit(batch, durability).expect("a batch is committed");
        if random.below(10) == 0 {
            storage.commit(Batch::new(), Durability::Immediate).expect("a batch is committed");
            drop(storage);
            storage = subject.open();
        }
        compare(&mut random, &*storage, &models, &format!("seed {seed}, commit {number}"));
    }
}

fn random_batch(random: &mut Random, models: &mut [(Table, Model); 2]) -> Batch {
    let mut batch = Batch::new();
    for _ in 0..random.below(CHANGES_MAX) {
        let (table, model) = &mut models[usize::from(random.below(2) == 1)];
        match random.below(20) {
            0 => {
                let range = random.range();
                model.retain(|key, _| !range.contains(key));
                batch.delete_range(*table, range);
            }
            1..=6 => {
                let key = random.key();
                model.remove(&key);
                batch.delete(*table, key);
            }
            _ => {
                let (key, value) = (random.key(), random.value());
                model.insert(key.clone(), value.clone());
                batch.put(*table, key, value);
            }
        }
    }
    batch
}

fn compare(
    random: &mut Random,
    storage: &dyn Storage,
    models: &[(Table, Model); 2],
    context: &str,
) {
    let snapshot = storage.snapshot().expect("a snapshot is taken");
    for (table, model) in models {
        let all: Pairs = model.clone().into_iter().collect();
        assert_eq!(contents(storage, *table), all, "{context}");
        for _ in 0..10 {
            let key = random.key();
            let found = snapshot.get(*table, &key).expect("a key is read");
            assert_eq!(found.as_deref(), model.get(&key).map(Vec::as_slice), "{context}");
            let range = random.range();
            let mut expected: Pairs =
                all.iter().filter(|(key, _)| range.contains(key)).cloned().collect();
            let found = scan(&*snapshot, *table, range.clone(), Direction::Forward);
            assert_eq!(found, expected, "{context}, {range:?}");
            expected.reverse();
            let found = scan(&*snapshot, *table, range.clone(), Direction::Reverse);
            assert_eq!(found, expected, "{context}, {range:?} in reverse");
        }
    }
}

/// SplitMix64: enough to choose operations by.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Few and similar, so that operations meet, and now and then a long one.
    fn key(&mut self) -> Vec<u8> {
        let length = match self.below(50) {
            0 => 700,
            _ => self.below(4),
        };
        let alphabet = [0, 1, 127, 128, 255];
        (0..length).map(|_| alphabet[self.below(5) as usize]).collect()
    }

    fn value(&mut self) -> Vec<u8> {
        let length = match self.below(100) {
            0 => 20_000,
            1..=10 => 1_000,
            _ => self.below(40),
        };
        (0..length).map(|_| self.next() as u8).collect()
    }

    fn range(&mut self) -> KeyRange {
        let start = self.bound();
        let end = self.bound();
        KeyRange::new(start, end)
    }

    fn bound(&mut self) -> Bound<Vec<u8>> {
        match self.below(5) {
            0 => Bound::Unbounded,
            1 | 2 => Bound::Included(self.key()),
            _ => Bound::Excluded(self.key()),
        }
    }
}
