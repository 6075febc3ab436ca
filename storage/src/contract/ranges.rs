//! Promises about keys and scans.
//!
//! No check here commits more than once.

use std::ops::Bound;

use crate::{Batch, Direction, Durability, KeyRange, Storage};

use super::{A, B, Subject, contents, get, scan};

const DIRECTIONS: [Direction; 2] = [Direction::Forward, Direction::Reverse];

pub(super) fn missing_table_is_empty(subject: &mut dyn Subject) {
    let storage = subject.open();
    let snapshot = storage.snapshot().expect("a snapshot is taken");
    assert_eq!(snapshot.get(A, b"key").expect("a key is read"), None);
    for direction in DIRECTIONS {
        assert!(scan(&*snapshot, A, KeyRange::all(), direction).is_empty());
    }
    assert!(snapshot.first(A, KeyRange::all()).expect("a first entry is sought").is_none());
    assert_eq!(storage.stats().expect("statistics are given"), []);
}

/// Keys that an order by text, by length or by signed bytes would arrange otherwise.
const ORDERED: [&[u8]; 10] = [
    b"",
    b"\x00",
    b"\x00\x00",
    b"\x00\xff",
    b"\x01",
    b"\x7f",
    b"\x7f\xff\xff\xff",
    b"\x80",
    b"\xff",
    b"\xff\xff",
];

fn with_ordered_keys(subject: &mut dyn Subject) -> Box<dyn Storage> {
    let storage = subject.open();
    let mut batch = Batch::new();
    for key in ORDERED.iter().rev() {
        batch.put(A, *key, [key, b"'s value".as_slice()].concat());
    }
    storage.commit(batch, Durability::Immediate).expect("a batch is committed");
    storage
}

pub(super) fn keys_are_ordered_as_bytes(subject: &mut dyn Subject) {
    let storage = with_ordered_keys(subject);
    let found = contents(&*storage, A);
    let keys: Vec<&[u8]> = found.iter().map(|(key, _)| key.as_slice()).collect();
    assert_eq!(keys, ORDERED);
    for (key, value) in &found {
        assert_eq!(*value, [key, b"'s value".as_slice()].concat());
        assert_eq!(get(&*storage, A, key).as_ref(), Some(value));
    }
}

pub(super) fn every_kind_of_bound(subject: &mut dyn Subject) {
    let storage = with_ordered_keys(subject);
    let snapshot = storage.snapshot().expect("a snapshot is taken");
    let absent: [&[u8]; 3] = [b"\x00\x80", b"\x40", b"\xff\xff\xff"];
    let mut bounds = vec![Bound::Unbounded];
    for key in ORDERED.iter().chain(&absent) {
        bounds.push(Bound::Included(key.to_vec()));
        bounds.push(Bound::Excluded(key.to_vec()));
    }
    for start in &bounds {
        for end in &bounds {
            let range = KeyRange::new(start.clone(), end.clone());
            let mut expected: Vec<&[u8]> =
                ORDERED.into_iter().filter(|key| range.contains(key)).collect();
            for direction in DIRECTIONS {
                let found = scan(&*snapshot, A, range.clone(), direction);
                let keys: Vec<&[u8]> = found.iter().map(|(key, _)| key.as_slice()).collect();
                assert_eq!(keys, expected, "{range:?} {direction:?}");
                expected.reverse();
            }
            let first = snapshot.first(A, range.clone()).expect("a first entry is sought");
            assert_eq!(first.map(|(key, _)| key.into_vec()).as_deref(), expected.first().copied());
            let last = snapshot.last(A, range).expect("a last entry is sought");
            assert_eq!(last.map(|(key, _)| key.into_vec()).as_deref(), expected.last().copied());
        }
    }
}

pub(super) fn scan_may_be_left(subject: &mut dyn Subject) {
    let storage = with_ordered_keys(subject);
    let snapshot = storage.snapshot().expect("a snapshot is taken");
    for taken in 0..=ORDERED.len() {
        let found = snapshot.range(A, KeyRange::all(), Direction::Forward).expect("a scan begins");
        let keys: Vec<Vec<u8>> =
            found.take(taken).map(|entry| entry.expect("a scan goes on").0.into_vec()).collect();
        assert!(keys.iter().map(Vec::as_slice).eq(ORDERED.into_iter().take(taken)));
    }
}

pub(super) fn tables_are_apart(subject: &mut dyn Subject) {
    let storage = subject.open();
    let mut batch = Batch::new();
    batch.put(A, *b"key", *b"in a");
    batch.put(B, *b"key", *b"in b");
    batch.put(B, *b"only b", *b"");
    storage.commit(batch, Durability::Immediate).expect("a batch is committed");
    let mut batch = Batch::new();
    batch.delete_range(B, KeyRange::prefix(*b"key"));
    storage.commit(batch, Durability::Immediate).expect("a batch is committed");
    assert_eq!(contents(&*storage, A), [(b"key".to_vec(), b"in a".to_vec())]);
    assert_eq!(contents(&*storage, B), [(b"only b".to_vec(), vec![])]);
}
