//! That faults strike where the plan says and nowhere else.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::{Fault, FaultEffect, FaultMoment, FaultPlan, Faulty, Operation};
use crate::{
    Batch, Direction, Durability, KeyRange, MemoryStorage, Storage, StorageError, StorageErrorKind,
    Table,
};

const TABLE: Table = Table::new("table");
const MOMENTS: [FaultMoment; 3] = [FaultMoment::Before, FaultMoment::Inside, FaultMoment::After];

fn put(key: u8) -> Batch {
    let mut batch = Batch::new();
    batch.put(TABLE, [key], [key]);
    batch.put(TABLE, [key, 0], [key]);
    batch
}

fn keys(storage: &dyn Storage) -> Result<Vec<u8>, StorageError> {
    let snapshot = storage.snapshot()?;
    snapshot
        .range(TABLE, KeyRange::all(), Direction::Forward)?
        .map(|entry| entry.map(|(key, _)| key.first().copied().unwrap_or_default()))
        .collect()
}

/// Commits three batches with a read of everything after each.
fn work(storage: &dyn Storage) -> (usize, Result<(), StorageError>) {
    let mut acknowledged = 0;
    let mut step = |key| {
        storage.commit(put(key), Durability::Immediate)?;
        acknowledged += 1;
        keys(storage).map(|_| ())
    };
    let result = step(1).and_then(|()| step(2)).and_then(|()| step(3));
    (acknowledged, result)
}

#[test]
fn crash_at_every_operation_loses_nothing_acknowledged_and_halves_nothing() {
    let counting = Faulty::new(MemoryStorage::new(), FaultPlan::none());
    work(&counting).1.unwrap();
    let operations = counting.operations();
    assert_eq!(operations, 9);
    for number in 1..=operations {
        for moment in MOMENTS {
            let inner = Arc::new(MemoryStorage::new());
            let faulty = Faulty::new(Arc::clone(&inner), FaultPlan::crash_at(number, moment));
            let (acknowledged, result) = work(&faulty);
            assert!(matches!(result, Err(StorageError::Crashed)), "{number} {moment:?}");
            assert!(faulty.has_crashed());
            assert!(matches!(faulty.stats(), Err(StorageError::Crashed)));
            assert!(matches!(faulty.snapshot().map(|_| ()), Err(StorageError::Crashed)));
            let found = keys(&inner.recover()).unwrap();
            let whole = |count: u8| (1..=count).flat_map(|key| [key, key]).collect::<Vec<_>>();
            let committed = acknowledged as u8;
            assert!(
                found == whole(committed) || found == whole(committed + 1),
                "{number} {moment:?}: {found:?}"
            );
        }
    }
}

#[test]
fn failed_read_is_reported_once_and_the_handle_stays_good() {
    for operation in [Operation::Snapshot, Operation::Range] {
        for moment in [FaultMoment::Before, FaultMoment::After] {
            let faulty =
                Faulty::new(MemoryStorage::new(), FaultPlan::fail_at(operation, 2, moment));
            faulty.commit(put(1), Durability::Immediate).unwrap();
            assert_eq!(keys(&faulty).unwrap(), [1, 1]);
            let failed = keys(&faulty).unwrap_err();
            assert!(
                matches!(failed, StorageError::Injected { operation: failed, number: 2 } if failed == operation)
            );
            assert_eq!(keys(&faulty).unwrap(), [1, 1]);
            faulty.commit(put(2), Durability::Immediate).unwrap();
        }
    }
}

#[test]
fn scan_that_fails_inside_ends_after_one_entry() {
    let faulty = Faulty::new(
        MemoryStorage::new(),
        FaultPlan::fail_at(Operation::Range, 1, FaultMoment::Inside),
    );
    faulty.commit(put(1), Durability::Immediate).unwrap();
    let snapshot = faulty.snapshot().unwrap();
    let mut scan = snapshot.range(TABLE, KeyRange::all(), Direction::Forward).unwrap();
    assert!(scan.next().unwrap().is_ok());
    assert!(matches!(scan.next().unwrap(), Err(StorageError::Injected { .. })));
    assert!(scan.next().is_none());
}

#[test]
fn snapshots_and_scans_end_with_the_crash_of_their_handle() {
    let plan = FaultPlan::none().with(Fault {
        operation: Some(Operation::Commit),
        number: 2,
        moment: FaultMoment::Before,
        effect: FaultEffect::Crash,
    });
    let faulty = Faulty::new(MemoryStorage::new(), plan);
    faulty.commit(put(1), Durability::Immediate).unwrap();
    let snapshot = faulty.snapshot().unwrap();
    let mut scan = snapshot.range(TABLE, KeyRange::all(), Direction::Forward).unwrap();
    assert!(scan.next().unwrap().is_ok());
    let crashed = faulty.commit(put(2), Durability::Immediate);
    assert_eq!(crashed.unwrap_err().kind(), StorageErrorKind::Crashed);
    assert!(matches!(scan.next().unwrap(), Err(StorageError::Crashed)));
    assert!(matches!(snapshot.get(TABLE, &[1]), Err(StorageError::Crashed)));
}

#[test]
fn batch_above_the_limits_does_not_poison() {
    let faulty = Faulty::new(MemoryStorage::new(), FaultPlan::none());
    let mut batch = Batch::new();
    batch.put(TABLE, vec![0; crate::limits::KEY_BYTES_MAX + 1], []);
    let refused = faulty.commit(batch, Durability::Immediate);
    assert_eq!(refused.unwrap_err().kind(), StorageErrorKind::Limit);
    faulty.commit(put(1), Durability::Immediate).unwrap();
}

#[test]
fn power_cut_in_memory_loses_what_was_not_durable() {
    let storage = MemoryStorage::new();
    storage.commit(put(1), Durability::None).unwrap();
    storage.commit(put(2), Durability::Immediate).unwrap();
    storage.commit(put(3), Durability::None).unwrap();
    assert_eq!(keys(&storage).unwrap(), [1, 1, 2, 2, 3, 3]);
    assert_eq!(keys(&storage.recover()).unwrap(), [1, 1, 2, 2]);
}
