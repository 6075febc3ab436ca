//! Promises about what a commit does and what a failed one leaves.

use std::sync::Arc;

use crate::{
    Batch, Direction, Durability, Fault, FaultEffect, FaultMoment, FaultPlan, Faulty, KeyRange,
    Operation, Place, Storage, StorageError, StorageErrorKind,
};

use super::{A, B, Pairs, Subject, contents, get, scan};

pub(super) fn later_change_wins(subject: &mut dyn Subject) {
    let storage = subject.open();
    let mut batch = Batch::new();
    batch.put(A, [1], *b"first");
    batch.put(A, [1], *b"second");
    batch.put(A, [2], *b"put");
    batch.delete(A, [2]);
    batch.delete(A, [3]);
    batch.put(A, [3], *b"put");
    storage.commit(batch, Durability::Immediate).expect("a batch is committed");
    assert_eq!(contents(&*storage, A), [(vec![1], b"second".to_vec()), (vec![3], b"put".to_vec())]);
    let mut batch = Batch::new();
    batch.put(A, [1], *b"third");
    batch.delete(A, [3]);
    storage.commit(batch, Durability::Immediate).expect("a batch is committed");
    assert_eq!(contents(&*storage, A), [(vec![1], b"third".to_vec())]);
}

pub(super) fn range_deletion_is_ordered(subject: &mut dyn Subject) {
    let storage = subject.open();
    commit_digits(&*storage);
    let mut batch = Batch::new();
    batch.put(A, [5, 5], *b"before");
    batch.delete_range(A, KeyRange::between([3], [7]));
    batch.put(A, [4], *b"after");
    batch.put(B, [5], *b"elsewhere");
    storage.commit(batch, Durability::Immediate).expect("a batch is committed");
    let keys: Vec<Vec<u8>> = contents(&*storage, A).into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, [[0], [1], [2], [4], [7], [8], [9]]);
    assert_eq!(get(&*storage, A, &[4]), Some(b"after".to_vec()));

    let mut batch = Batch::new();
    batch.put(A, [0], *b"before");
    batch.delete_range(A, KeyRange::all());
    batch.put(A, [1], *b"after");
    batch.delete_range(A, KeyRange::from([9]));
    storage.commit(batch, Durability::Immediate).expect("a batch is committed");
    assert_eq!(contents(&*storage, A), [(vec![1], b"after".to_vec())]);
    assert_eq!(contents(&*storage, B), [(vec![5], b"elsewhere".to_vec())]);
}

pub(super) fn deleting_nothing(subject: &mut dyn Subject) {
    let storage = subject.open();
    let mut batch = Batch::new();
    batch.delete(A, [1]);
    batch.delete_range(B, KeyRange::all());
    storage.commit(batch, Durability::Immediate).expect("a batch is committed");
    assert!(contents(&*storage, A).is_empty());
    assert!(contents(&*storage, B).is_empty());
}

pub(super) fn empty_batch(subject: &mut dyn Subject) {
    let storage = subject.open();
    commit_digits(&*storage);
    let before = contents(&*storage, A);
    for durability in [Durability::None, Durability::Immediate] {
        storage.commit(Batch::new(), durability).expect("an empty batch is committed");
    }
    assert_eq!(contents(&*storage, A), before);
}

pub(super) fn parts_are_one(subject: &mut dyn Subject) {
    let storage = subject.open();
    commit_digits(&*storage);
    let before = contents(&*storage, A);
    let part = |number: u8| {
        let mut part = Batch::new();
        part.put(A, [number], *b"of a part");
        part.delete_range(A, KeyRange::from([9 - number]));
        part
    };
    // A part that fails, in the middle and as the only one.
    for good in [0, 2] {
        let mut number = 0;
        let mut next = || {
            assert_eq!(contents(&*storage, A), before, "a part is seen before its commit");
            number += 1;
            if number <= good { Ok(Some(part(number))) } else { Err(refusal()) }
        };
        let failed = storage.commit_parts(&mut next, Durability::Immediate);
        assert_eq!(failed.map_err(|error| error.kind()), Err(refusal().kind()));
        assert_eq!(contents(&*storage, A), before);
    }
    let mut parts = vec![part(1), part(2), Batch::new()].into_iter();
    let mut next = || Ok(parts.next());
    storage.commit_parts(&mut next, Durability::Immediate).expect("parts are committed");
    let mut whole = Batch::new();
    whole.append(part(1));
    whole.append(part(2));
    let expected = contents(&*storage, A);
    subject.renew();
    let storage = subject.open();
    commit_digits(&*storage);
    storage.commit(whole, Durability::Immediate).expect("a batch is committed");
    assert_eq!(contents(&*storage, A), expected);
}

fn refusal() -> StorageError {
    StorageError::Missing { place: Place::Wrapper }
}

pub(super) fn snapshot_is_isolated(subject: &mut dyn Subject) {
    let storage = subject.open();
    let empty = storage.snapshot().expect("a snapshot is taken");
    commit_digits(&*storage);
    let digits = contents(&*storage, A);
    let full = storage.snapshot().expect("a snapshot is taken");
    let mut open_scan = full.range(A, KeyRange::all(), Direction::Forward).expect("a scan begins");
    let first = open_scan.next().expect("the scan has entries").expect("a scan goes on");
    assert_eq!(*first.0, [0]);
    let mut batch = Batch::new();
    batch.delete_range(A, KeyRange::all());
    batch.put(A, [5], *b"new");
    batch.put(B, [1], *b"new table");
    storage.commit(batch, Durability::None).expect("a batch is committed");
    for round in 0..20_u8 {
        let mut batch = Batch::new();
        batch.put(A, [5], [round; 5000]);
        storage.commit(batch, Durability::Immediate).expect("a batch is committed");
    }

    assert_eq!(open_scan.count(), digits.len() - 1);
    assert_eq!(scan(&*full, A, KeyRange::all(), Direction::Forward), digits);
    assert_eq!(full.get(B, &[1]).expect("a key is read"), None);
    assert_eq!(empty.get(A, &[5]).expect("a key is read"), None);
    assert!(scan(&*empty, A, KeyRange::all(), Direction::Reverse).is_empty());
    assert_eq!(contents(&*storage, A), [(vec![5], vec![19; 5000])]);
}

pub(super) fn value_outlives_its_snapshot(subject: &mut dyn Subject) {
    let storage = subject.open();
    let mut batch = Batch::new();
    batch.put(A, *b"key", vec![1; 10_000]);
    storage.commit(batch, Durability::Immediate).expect("a batch is committed");
    let snapshot = storage.snapshot().expect("a snapshot is taken");
    let value = snapshot.get(A, b"key").expect("a key is read").expect("the key is there");
    drop(snapshot);
    for round in 2..20_u8 {
        let mut batch = Batch::new();
        batch.put(A, *b"key", vec![round; 10_000]);
        storage.commit(batch, Durability::Immediate).expect("a batch is committed");
    }
    assert_eq!(value, *[1; 10_000].as_slice());
}

/// A batch over two tables that leaves neither as it was.
fn replacement() -> Batch {
    let mut batch = Batch::new();
    batch.delete_range(A, KeyRange::between([2], [5]));
    for key in 4..200_u8 {
        batch.put(A, [key], *b"replaced");
        batch.put(B, [key], *b"replaced");
    }
    batch
}

fn replaced(mut before: Pairs) -> (Pairs, Pairs) {
    before.retain(|(key, _)| key.as_slice() < [2].as_slice());
    let new: Pairs = (4..200_u8).map(|key| (vec![key], b"replaced".to_vec())).collect();
    before.extend(new.clone());
    (before, new)
}

pub(super) fn failed_commit_is_whole_or_absent(subject: &mut dyn Subject) {
    for effect in [FaultEffect::Fail, FaultEffect::Crash] {
        for moment in [FaultMoment::Before, FaultMoment::Inside, FaultMoment::After] {
            subject.renew();
            let storage: Arc<dyn Storage> = Arc::from(subject.open());
            commit_digits(&*storage);
            let before = contents(&*storage, A);
            let plan = FaultPlan::none().with(Fault {
                operation: Some(Operation::Commit),
                number: 1,
                moment,
                effect,
            });
            let faulty = Faulty::new(storage, plan);
            let failed = faulty.commit(replacement(), Durability::Immediate);
            let expected = match effect {
                FaultEffect::Fail => (StorageErrorKind::Injected, StorageErrorKind::Poisoned),
                FaultEffect::Crash => (StorageErrorKind::Crashed, StorageErrorKind::Crashed),
            };
            assert_eq!(failed.map_err(|error| error.kind()), Err(expected.0));
            let refused = faulty.commit(Batch::new(), Durability::Immediate);
            assert_eq!(refused.map_err(|error| error.kind()), Err(expected.1));
            drop(faulty);

            let reopened = subject.open();
            let found = (contents(&*reopened, A), contents(&*reopened, B));
            let expected = match moment {
                FaultMoment::Before | FaultMoment::Inside => (before, vec![]),
                FaultMoment::After => replaced(before),
            };
            assert_eq!(found, expected, "{effect:?} {moment:?}");
        }
    }
}

pub(super) fn abandoned_batch_leaves_nothing(subject: &mut dyn Subject) {
    let storage = subject.open();
    commit_digits(&*storage);
    let before = contents(&*storage, A);
    let whole = replacement().len();
    for staged in [0, 1, 2, 50, whole - 1, whole, whole + 1] {
        storage.abandon(replacement(), staged).expect("a batch is abandoned");
        assert_eq!(contents(&*storage, A), before);
        assert!(contents(&*storage, B).is_empty());
    }
    storage.commit(replacement(), Durability::Immediate).expect("a batch is committed");
    assert_eq!((contents(&*storage, A), contents(&*storage, B)), replaced(before));
}

fn commit_digits(storage: &dyn Storage) {
    let mut batch = Batch::new();
    for key in 0..10_u8 {
        batch.put(A, [key], [key, key]);
    }
    storage.commit(batch, Durability::Immediate).expect("a batch is committed");
}
