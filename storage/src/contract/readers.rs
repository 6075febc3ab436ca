//! Promises about threads that use one storage together.
//!
//! No check depends on how threads are scheduled, nor measures time.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Batch, Direction, Durability, KeyRange, Storage};

use super::{A, B, Subject, contents, scan};

const KEYS: u16 = 100;
const COMMITS: u32 = 60;
const READERS: usize = 3;
const WRITERS: u8 = 4;

pub(super) fn readers_see_whole_commits(subject: &mut dyn Subject) {
    let storage = subject.open();
    let storage = &*storage;
    commit_generation(storage, 0, Durability::Immediate);
    let finished = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(move || {
                let mut newest = 0;
                while !finished.load(Ordering::Acquire) {
                    let seen = generation(storage);
                    assert!(seen >= newest, "generation {seen} was seen after {newest}");
                    newest = seen;
                }
                assert_eq!(generation(storage), COMMITS);
            });
        }
        // Set even if a commit panics, or the readers would never end.
        let _end = SetOnDrop(finished);
        for number in 1..=COMMITS {
            let durability = match number % 10 {
                0 => Durability::Immediate,
                _ => Durability::None,
            };
            commit_generation(storage, number, durability);
        }
    });
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Writes one number under every key of two tables, on odd numbers in reverse.
fn commit_generation(storage: &dyn Storage, number: u32, durability: Durability) {
    let mut batch = Batch::new();
    for key in 0..KEYS {
        batch.put(A, key.to_be_bytes(), number.to_be_bytes());
        batch.put(B, key.to_le_bytes(), number.to_be_bytes());
    }
    storage.commit(batch, durability).expect("a batch is committed");
}

/// The one number that a snapshot shows everywhere.
fn generation(storage: &dyn Storage) -> u32 {
    let snapshot = storage.snapshot().expect("a snapshot is taken");
    let mut entries = scan(&*snapshot, A, KeyRange::all(), Direction::Forward);
    entries.extend(scan(&*snapshot, B, KeyRange::all(), Direction::Reverse));
    assert_eq!(entries.len(), usize::from(KEYS) * 2);
    let (_, first) = entries.first().expect("there are entries");
    assert!(
        entries.iter().all(|(_, value)| value == first),
        "a snapshot shows parts of two commits"
    );
    u32::from_be_bytes(first.as_slice().try_into().expect("a number has four bytes"))
}

pub(super) fn writers_take_turns(subject: &mut dyn Subject) {
    let storage = subject.open();
    let shared = &*storage;
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || {
                for number in 0..10_u8 {
                    let mut batch = Batch::new();
                    batch.put(A, [writer, number], [number]);
                    batch.put(B, [writer], [number]);
                    shared.commit(batch, Durability::None).expect("a batch is committed");
                }
            });
        }
    });
    storage.commit(Batch::new(), Durability::Immediate).expect("a batch is committed");
    drop(storage);
    let storage = subject.open();
    assert_eq!(contents(&*storage, A).len(), usize::from(WRITERS) * 10);
    let last: Vec<_> = (0..WRITERS).map(|writer| (vec![writer], vec![9])).collect();
    assert_eq!(contents(&*storage, B), last);
}
