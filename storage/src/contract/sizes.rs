//! Promises about how large things may be and how large they are.

use crate::{
    Batch, Durability, KeyRange, LimitKind, StorageError,
    limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX},
};

use super::{A, B, Subject, contents, get};

pub(super) fn empty_key_and_value(subject: &mut dyn Subject) {
    let storage = subject.open();
    let mut batch = Batch::new();
    batch.put(A, [], []);
    batch.put(A, [0], []);
    batch.put(B, [], [1]);
    storage.commit(batch, Durability::Immediate).expect("a batch is committed");
    assert_eq!(contents(&*storage, A), [(vec![], vec![]), (vec![0], vec![])]);
    assert_eq!(get(&*storage, A, &[]), Some(vec![]));
    assert_eq!(get(&*storage, B, &[]), Some(vec![1]));
    let mut batch = Batch::new();
    batch.delete(A, []);
    storage.commit(batch, Durability::Immediate).expect("a batch is committed");
    assert_eq!(get(&*storage, A, &[]), None);
    assert_eq!(get(&*storage, A, &[0]), Some(vec![]));
}

/// Bytes that repeat only after a long way, so that a page lost or repeated shows.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8 ^ (at / 4096) as u8).collect()
}

pub(super) fn largest_key_and_value(subject: &mut dyn Subject) {
    let key = pattern(KEY_BYTES_MAX);
    let value = pattern(VALUE_BYTES_MAX);
    let storage = subject.open();
    let mut batch = Batch::new();
    batch.put(A, key.clone(), value.clone());
    batch.put(A, [255; KEY_BYTES_MAX], [7]);
    storage.commit(batch, Durability::Immediate).expect("a batch is committed");
    drop(storage);
    let storage = subject.open();
    assert!(get(&*storage, A, &key) == Some(value), "the largest value is read back");
    assert_eq!(get(&*storage, A, &[255; KEY_BYTES_MAX]), Some(vec![7]));
}

pub(super) fn larger_is_refused(subject: &mut dyn Subject) {
    let storage = subject.open();
    let mut long_key = Batch::new();
    long_key.put(A, [1], [1]);
    long_key.put(A, [2; KEY_BYTES_MAX + 1], [2]);
    let refused = storage.commit(long_key, Durability::Immediate);
    assert!(matches!(
        refused,
        Err(StorageError::Limit { what: LimitKind::Key, expected: KEY_BYTES_MAX, found }) if found == KEY_BYTES_MAX + 1
    ));
    let mut long_value = Batch::new();
    long_value.put(A, [1], [1]);
    long_value.put(A, [2], vec![0; VALUE_BYTES_MAX + 1]);
    let refused = storage.commit(long_value, Durability::Immediate);
    assert!(matches!(
        refused,
        Err(StorageError::Limit { what: LimitKind::Value, expected: VALUE_BYTES_MAX, found }) if found == VALUE_BYTES_MAX + 1
    ));
    assert!(contents(&*storage, A).is_empty());
    let mut batch = Batch::new();
    batch.put(A, [1], [1]);
    storage.commit(batch, Durability::Immediate).expect("a refused batch leaves the handle good");
    // A key that can never be stored can still be asked for.
    assert_eq!(get(&*storage, A, &[2; KEY_BYTES_MAX + 1]), None);
}

pub(super) fn statistics_count(subject: &mut dyn Subject) {
    let storage = subject.open();
    let mut batch = Batch::new();
    for number in 0..1000_u32 {
        batch.put(B, number.to_be_bytes(), [0; 10]);
    }
    batch.put(A, *b"key", *b"value");
    storage.commit(batch, Durability::Immediate).expect("a batch is committed");
    let stats = storage.stats().expect("statistics are given");
    let found: Vec<_> = stats
        .iter()
        .map(|table| (table.name.as_str(), table.entries, table.stored_bytes))
        .collect();
    assert_eq!(found, [("a", 1, 8), ("b", 1000, 14_000)]);
    let mut batch = Batch::new();
    batch.delete_range(B, KeyRange::from(10_u32.to_be_bytes()));
    storage.commit(batch, Durability::Immediate).expect("a batch is committed");
    let stats = storage.stats().expect("statistics are given");
    let found: Vec<_> = stats.iter().map(|table| (table.entries, table.stored_bytes)).collect();
    assert_eq!(found, [(1, 8), (10, 140)]);
}
