//! What signing and verifying cost: one by one and in batches, with and without
//! cached keys. Run with `cargo bench -p ait-engine --bench signatures`.

#![allow(clippy::unwrap_used, missing_docs, reason = "criterion's macros")]

use std::hint::black_box;

use ait_engine::crypto::{KeyCache, PublicKey, SecretKey, Signature, verify, verify_batch};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// About the length of an encoded transfer.
const MESSAGE_BYTES: usize = 150;
const BATCH_COUNTS: [usize; 4] = [64, 512, 1024, 2048];

fn key(n: usize) -> SecretKey {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&(n as u64).to_le_bytes());
    SecretKey::from_seed(seed)
}

/// Signed messages, each of another key.
fn signed(count: usize) -> Vec<(PublicKey, [u8; MESSAGE_BYTES], Signature)> {
    let one = |n: usize| {
        let (key, mut message) = (key(n), [0x5a; MESSAGE_BYTES]);
        message[..8].copy_from_slice(&(n as u64).to_le_bytes());
        (key.public_key(), message, key.sign(&message))
    };
    (0..count).map(one).collect()
}

fn one_by_one(c: &mut Criterion) {
    let mut group = c.benchmark_group("signature");
    group.throughput(Throughput::Elements(1));
    let (secret, items) = (key(0), signed(1));
    let (public, message, signature) = &items[0];
    group.bench_function("sign", |b| b.iter(|| secret.sign(black_box(message))));
    group.bench_function("verify", |b| {
        b.iter(|| verify(black_box(public), message, signature).unwrap());
    });
    group.finish();
}

fn batches(c: &mut Criterion) {
    let mut group = c.benchmark_group("batch");
    for count in BATCH_COUNTS {
        let signed = signed(count);
        let items: Vec<_> = signed.iter().map(|(k, m, s)| (*k, m.as_slice(), *s)).collect();
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new("no cache", count), |b| {
            b.iter(|| verify_batch(black_box(&items), None).unwrap());
        });
        // Far more places than keys, so that few share one.
        let cache = KeyCache::new(count * 64);
        verify_batch(&items, Some(&cache)).unwrap();
        group.bench_function(BenchmarkId::new("cached keys", count), |b| {
            b.iter(|| verify_batch(black_box(&items), Some(&cache)).unwrap());
        });
    }
    group.finish();
}

/// The dearest batches: bad signatures spread over them.
fn bad_batches(c: &mut Criterion) {
    let mut group = c.benchmark_group("batch of 512 with bad ones");
    group.throughput(Throughput::Elements(512));
    for bad in [0, 1, 8, 64, 512] {
        let mut signed = signed(512);
        let other = key(9_999).sign(b"another message");
        for at in 0..bad {
            signed[at * 512 / bad].2 = other;
        }
        let items: Vec<_> = signed.iter().map(|(k, m, s)| (*k, m.as_slice(), *s)).collect();
        group.bench_function(BenchmarkId::from_parameter(bad), |b| {
            b.iter(|| verify_batch(black_box(&items), None).is_ok());
        });
    }
    group.finish();
}

criterion_group!(benches, one_by_one, batches, bad_batches);
criterion_main!(benches);
