//! Promises about what the next process finds.

use crate::{Batch, Durability, KeyRange, Storage};

use super::{A, B, Subject, contents};

pub(super) fn durable_commits_are_found(subject: &mut dyn Subject) {
    let mut expected = Vec::new();
    for round in 0..5_u8 {
        let storage = subject.open();
        assert_eq!(contents(&*storage, A), expected);
        put(&*storage, round, Durability::Immediate);
        expected.push((vec![round], vec![round; 3000]));
    }
    let storage = subject.open();
    let mut batch = Batch::new();
    batch.delete_range(A, KeyRange::all());
    batch.put(B, [0], [0]);
    storage.commit(batch, Durability::Immediate).expect("a batch is committed");
    drop(storage);
    let storage = subject.open();
    assert!(contents(&*storage, A).is_empty());
    assert_eq!(contents(&*storage, B), [(vec![0], vec![0])]);
}

pub(super) fn durable_commit_keeps_earlier_ones(subject: &mut dyn Subject) {
    let storage = subject.open();
    for round in 0..8 {
        put(&*storage, round, Durability::None);
    }
    let visible = contents(&*storage, A);
    assert_eq!(visible.len(), 8);
    storage.commit(Batch::new(), Durability::Immediate).expect("a batch is committed");
    drop(storage);
    assert_eq!(contents(&*subject.open(), A), visible);
}

fn put(storage: &dyn Storage, round: u8, durability: Durability) {
    let mut batch = Batch::new();
    batch.put(A, [round], [round; 3000]);
    storage.commit(batch, durability).expect("a batch is committed");
}
