//! Power cuts, failing and full disks, on a disk that loses what was not synced.

use super::{COMMITS, batch, newest_whole_commit, options};
use crate::{
    Batch, DiskFault, Durability, RedbOptions, RedbStorage, SimulatedDisk, Storage, StorageError,
    StorageErrorKind, Table,
};

fn open(disk: &SimulatedDisk, options: &RedbOptions) -> Result<RedbStorage, StorageError> {
    RedbStorage::on_disk(disk, options)
}

#[test]
fn power_cut_after_a_durable_commit_keeps_it_and_loses_later_ones_whole() {
    for quick_repair in [true, false] {
        // A cache this small writes pages of a transaction before it commits.
        let options = RedbOptions { quick_repair, cache_bytes: 16 * 1024, ..options() };
        let disk = SimulatedDisk::new();
        let storage = open(&disk, &options).unwrap();
        let mut unsynced = 0;
        for number in 1..=COMMITS {
            storage.commit(batch(number), Durability::Immediate).unwrap();
            storage.abandon(batch(number + 1), 150).unwrap();
            unsynced += disk.unsynced();
            for seed in 0..16 {
                let found = open(&disk.after_power_cut(seed), &options).unwrap();
                assert_eq!(newest_whole_commit(&found).unwrap(), number, "seed {seed}");
                found.commit(batch(number + 1), Durability::Immediate).unwrap();
                assert_eq!(newest_whole_commit(&found).unwrap(), number + 1);
            }
        }
        assert!(unsynced > 0, "the power cuts had nothing to lose");
    }
}

#[test]
fn power_cut_inside_a_commit_keeps_or_loses_it_whole() {
    for quick_repair in [true, false] {
        let options = RedbOptions { quick_repair, cache_bytes: 16 * 1024, ..options() };
        let disk = SimulatedDisk::new();
        let storage = open(&disk, &options).unwrap();
        let mut outcomes = [0, 0];
        for number in 1..=COMMITS {
            let cuts = disk.cut_at_each_sync(|| {
                storage.commit(batch(number), Durability::Immediate).unwrap();
            });
            assert!(cuts.len() >= 16);
            for cut in cuts {
                let newest = newest_whole_commit(&open(&cut, &options).unwrap()).unwrap();
                assert!(newest == number || newest + 1 == number, "{newest} during {number}");
                outcomes[usize::from(newest == number)] += 1;
            }
        }
        assert!(outcomes.iter().all(|&count| count > 0), "{outcomes:?}");
    }
}

#[test]
fn power_cut_after_commits_without_durability_returns_to_one_of_them() {
    for quick_repair in [true, false] {
        let options = RedbOptions { quick_repair, cache_bytes: 16 * 1024, ..options() };
        let disk = SimulatedDisk::new();
        let storage = open(&disk, &options).unwrap();
        for number in 1..=COMMITS {
            let durability = match number % 4 {
                0 => Durability::Immediate,
                _ => Durability::None,
            };
            storage.commit(batch(number), durability).unwrap();
            for seed in 0..16 {
                let found = open(&disk.after_power_cut(seed), &options).unwrap();
                let newest = newest_whole_commit(&found).unwrap();
                assert!(
                    newest >= number - number % 4 && newest <= number,
                    "{newest} after {number}"
                );
            }
        }
    }
}

#[test]
fn full_disk_at_any_moment_is_told_poisons_and_leaves_whole_commits() {
    let mut full = 0;
    for room in (0..12_000_000).step_by(700_001) {
        let disk = SimulatedDisk::new();
        let storage = open(&disk, &options()).unwrap();
        storage.commit(batch(1), Durability::Immediate).unwrap();
        disk.leave_room(room);
        let mut large = batch(2);
        large.put(Table::new("large"), *b"key", vec![1; 8_000_000]);
        let Err(error) = storage.commit(large, Durability::Immediate) else {
            continue;
        };
        full += 1;
        assert_eq!(error.kind(), StorageErrorKind::Full, "{error}");
        assert!(!error.is_retryable());
        let refused = storage.commit(Batch::new(), Durability::Immediate).unwrap_err();
        assert!(matches!(refused.kind(), StorageErrorKind::Poisoned), "{refused}");
        drop(storage);
        for seed in 0..4 {
            let found = open(&disk.after_power_cut(seed), &options()).unwrap();
            assert_eq!(newest_whole_commit(&found).unwrap(), 1);
        }
    }
    assert!(full > 3, "the disk was full only {full} times");
}

#[test]
fn disk_that_fails_at_any_operation_of_a_commit_keeps_or_loses_it_whole() {
    let options = RedbOptions { cache_bytes: 16 * 1024, ..options() };
    let fresh = SimulatedDisk::new();
    let storage = open(&fresh, &options).unwrap();
    let before = fresh.operations();
    storage.commit(batch(1), Durability::Immediate).unwrap();
    let count = fresh.operations() - before;
    assert!(count > 4, "{count} operations");
    drop(storage);
    let mut found = [0, 0];
    for fault in [DiskFault::Broken, DiskFault::Full, DiskFault::Gone] {
        for after in 0..count {
            let disk = SimulatedDisk::new();
            let storage = open(&disk, &options).unwrap();
            disk.fail_after(after, fault);
            let error = storage.commit(batch(1), Durability::Immediate).unwrap_err();
            assert_eq!(error.kind() == StorageErrorKind::Full, fault == DiskFault::Full);
            let refused = storage.commit(Batch::new(), Durability::Immediate).unwrap_err();
            assert_eq!(refused.kind(), StorageErrorKind::Poisoned);
            let mut left = vec![disk.as_synced()];
            left.extend((0..8).map(|seed| disk.after_power_cut(seed)));
            // Nothing that the handle does from now on reaches the disk.
            left.push(disk.after_kill());
            drop(storage);
            for disk in left {
                let newest = newest_whole_commit(&open(&disk, &options).unwrap()).unwrap();
                found[newest as usize] += 1;
            }
        }
    }
    assert!(found.iter().all(|count| *count > 0), "{found:?}");
}

#[test]
fn disk_that_ignores_syncs_loses_what_was_durable() {
    let disk = SimulatedDisk::new();
    let storage = open(&disk, &options()).unwrap();
    storage.commit(batch(1), Durability::Immediate).unwrap();
    disk.ignore_syncs();
    storage.commit(batch(2), Durability::Immediate).unwrap();
    let found = open(&disk.as_synced(), &options()).unwrap();
    assert_eq!(newest_whole_commit(&found).unwrap(), 1);
}
