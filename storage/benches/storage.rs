//! What a node asks of its storage, on every engine: a block's state changes over a large table,
//! a block as one value, single reads and scans.
//!
//! `AIT_BENCH_ENTRIES` sets the size of the table (default 200,000).
#![allow(missing_docs, clippy::unwrap_used)]

use std::{env, hint::black_box, time::Duration};

use ait_storage::{
    Batch, Direction, Durability, KeyRange, MemoryStorage, RedbOptions, RedbStorage, Storage, Table,
};
use criterion::{
    BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main,
    measurement::WallTime,
};
use tempfile::TempDir;

const ACCOUNTS: Table = Table::new("accounts");
const BLOCKS: Table = Table::new("blocks");
const UPSERTS: u64 = 20_000;
const BLOCK_BYTES: usize = 1_600_000;
const RECORD_BYTES: usize = 48;
const LOAD_BATCH: u64 = 50_000;

type Group<'a> = BenchmarkGroup<'a, WallTime>;

fn entries() -> u64 {
    env::var("AIT_BENCH_ENTRIES").map_or(200_000, |count| count.parse().unwrap())
}

/// Keys as hashes have them: 32 bytes, without order.
fn key(number: u64) -> [u8; 32] {
    let mut key = [0; 32];
    for (at, part) in key.chunks_exact_mut(8).enumerate() {
        let mut mixed = number.wrapping_add(at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        part.copy_from_slice(&(mixed ^ (mixed >> 27)).to_be_bytes());
    }
    key
}

fn load(storage: &dyn Storage) {
    for start in (0..entries()).step_by(LOAD_BATCH as usize) {
        let mut batch = Batch::new();
        for number in start..(start + LOAD_BATCH).min(entries()) {
            batch.put(ACCOUNTS, key(number), [0; RECORD_BYTES]);
        }
        storage.commit(batch, Durability::Immediate).unwrap();
    }
}

/// Upserts of which nine in ten meet an existing entry.
fn upserts(round: u64) -> Batch {
    let mut batch = Batch::new();
    for number in 0..UPSERTS {
        let chosen =
            (round * UPSERTS + number).wrapping_mul(2_654_435_761) % (entries() + entries() / 9);
        batch.put(ACCOUNTS, key(chosen), [1; RECORD_BYTES]);
    }
    batch
}

fn commits(group: &mut Group<'_>, name: &str, storage: &dyn Storage) {
    let mut round = 0;
    group.throughput(Throughput::Elements(UPSERTS));
    for (label, durability) in
        [("durable", Durability::Immediate), ("not durable", Durability::None)]
    {
        group.bench_function(format!("{name}/commit 20k random upserts, {label}"), |bencher| {
            bencher.iter_batched(
                || {
                    round += 1;
                    upserts(round)
                },
                |batch| storage.commit(batch, durability).unwrap(),
                BatchSize::PerIteration,
            );
        });
        storage.commit(Batch::new(), Durability::Immediate).unwrap();
    }
    let mut height = 0_u64;
    group.throughput(Throughput::Bytes(BLOCK_BYTES as u64));
    group.bench_function(format!("{name}/append a block of 1.6 MB, durable"), |bencher| {
        bencher.iter_batched(
            || {
                height += 1;
                let mut batch = Batch::new();
                batch.put(BLOCKS, height.to_be_bytes(), vec![height as u8; BLOCK_BYTES]);
                batch
            },
            |batch| storage.commit(batch, Durability::Immediate).unwrap(),
            BatchSize::PerIteration,
        );
    });
}

fn reads(group: &mut Group<'_>, name: &str, storage: &dyn Storage) {
    let snapshot = storage.snapshot().unwrap();
    let mut number = 0_u64;
    group.throughput(Throughput::Elements(1));
    group.bench_function(format!("{name}/random get"), |bencher| {
        bencher.iter(|| {
            number = number.wrapping_add(2_654_435_761);
            black_box(snapshot.get(ACCOUNTS, &key(number % entries())).unwrap())
        });
    });
    let count = snapshot.range(ACCOUNTS, KeyRange::all(), Direction::Forward).unwrap().count();
    group.throughput(Throughput::Elements(count as u64));
    group.bench_function(format!("{name}/ordered scan of all"), |bencher| {
        bencher.iter(|| {
            let found = snapshot.range(ACCOUNTS, KeyRange::all(), Direction::Forward).unwrap();
            black_box(found.map(|entry| entry.unwrap().1.len()).sum::<usize>())
        });
    });
}

fn storage(criterion: &mut Criterion) {
    let directory = TempDir::new().unwrap();
    let redb = |file: &str, quick_repair| {
        let options = RedbOptions { quick_repair, ..RedbOptions::default() };
        RedbStorage::open(directory.path().join(file), &options).unwrap()
    };
    let subjects: [(&str, Box<dyn Storage>); 3] = [
        ("memory", Box::new(MemoryStorage::new())),
        ("redb", Box::new(redb("quick", true))),
        ("redb without quick repair", Box::new(redb("slow", false))),
    ];
    let mut group = criterion.benchmark_group("storage");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    for (name, storage) in &subjects {
        load(&**storage);
        commits(&mut group, name, &**storage);
        reads(&mut group, name, &**storage);
    }
    group.finish();
}

criterion_group!(benches, storage);
criterion_main!(benches);
