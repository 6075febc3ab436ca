#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::time::Duration;

use ait_engine::transaction::Payload;
use ait_engine::types::{Address, ChainId};

use super::record::Recorder;
use super::target::stage_sums;
use super::workload::{Generator, Senders, Signed, Workload, key};

const SEED: [u8; 32] = [9; 32];

fn generator(workload: Workload, senders: usize) -> Generator {
    let chain: ChainId = "bench-test".parse().unwrap();
    let mut generator = Generator::new(workload, Senders::new(&SEED, senders), chain, 3);
    generator.coordinator = Some(key(&SEED, 1_000));
    generator
}

fn recipients(made: &[Signed]) -> BTreeSet<Address> {
    let to = made.iter().filter_map(|one| match one.transaction().unwrap().payload {
        Payload::Transfer { to, .. } => Some(to),
        _ => None,
    });
    to.collect()
}

#[test]
fn every_transaction_is_another_one_valid_and_in_its_senders_order() {
    for workload in [Workload::Uniform, Workload::Zipf, Workload::Hot, Workload::Mixed] {
        let mut generator = generator(workload, 20);
        let mut made = generator.make(300).unwrap();
        made.extend(generator.make(300).unwrap());
        let hashes: BTreeSet<_> = made.iter().map(|one| one.hash).collect();
        assert_eq!(hashes.len(), 600, "{workload:?}");
        let mut next = std::collections::BTreeMap::new();
        for one in made {
            let transaction = one.transaction().unwrap();
            assert_eq!(one.hash, transaction.hash());
            let expected = next.entry(transaction.sender()).or_insert(0_u64);
            assert_eq!(transaction.nonce.get(), *expected, "{workload:?}");
            *expected += 1;
            transaction.verify().unwrap();
        }
    }
}

#[test]
fn a_seed_gives_the_same_transactions_again() {
    let hashes = |made: Vec<Signed>| made.iter().map(|one| one.hash).collect::<Vec<_>>();
    let twice = [(); 2].map(|()| hashes(generator(Workload::Mixed, 5).make(100).unwrap()));
    assert_eq!(twice[0], twice[1]);
}

#[test]
fn workloads_are_what_they_are_called() {
    let made = generator(Workload::Hot, 10).make(100).unwrap();
    assert_eq!(recipients(&made).len(), 1);

    let made = generator(Workload::Zipf, 1_000).make(10_000).unwrap();
    let mut counts = std::collections::BTreeMap::<_, u32>::new();
    for one in &made {
        *counts.entry(one.transaction().unwrap().sender()).or_default() += 1;
    }
    let mut counts: Vec<u32> = counts.into_values().collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    // The busiest of 1,000 sends 1 of 7.5 by the formula; uniformly it would be 1 of 1,000.
    assert!((1_000..1_800).contains(&counts[0]), "{}", counts[0]);

    let claims = |made: &[Signed]| {
        made.iter()
            .filter(|one| matches!(one.transaction().unwrap().payload, Payload::ReceiptClaim(_)))
            .count()
    };
    assert_eq!(claims(&generator(Workload::Claims, 10).make(50).unwrap()), 50);
    assert_eq!(claims(&generator(Workload::Mixed, 10).make(50).unwrap()), 5);
    assert_eq!(claims(&generator(Workload::Uniform, 10).make(50).unwrap()), 0);
}

#[test]
fn only_what_is_ours_and_in_time_is_counted() {
    let made = generator(Workload::Uniform, 10).make(4).unwrap();
    let hashes: Vec<_> = made.iter().map(|one| one.hash).collect();
    let recorder = Recorder::new(Duration::from_secs(10));
    let began = recorder.began();
    recorder.submitted(&hashes[..3], began);
    let at = |seconds| began + Duration::from_secs(seconds);
    // One of three is ours, and one that nobody sent is none.
    assert_eq!(recorder.finalised(&[hashes[0], hashes[3]], at(2)), 1);
    // After the end: it has a latency, but does not count as throughput.
    assert_eq!(recorder.finalised(&hashes[1..2], at(11)), 1);
    recorder.refused(&hashes[2], "nonce_used");
    assert_eq!(recorder.pending(), 0);
    let second = recorder.tick();
    assert_eq!(second.finals, 2);
    let record = recorder.record();
    assert_eq!((record.final_count, record.blocks, record.finals.count()), (1, 1, 2));
    assert!((1_999.0..2_002.0).contains(&record.finals.quantile_ms(0.5)));
    assert_eq!(record.refused["nonce_used"], 1);
}

#[test]
fn stages_are_read_from_a_page_of_metrics() {
    let page = "# TYPE pipeline_stage_seconds histogram
pipeline_stage_seconds_bucket{stage=\"verify\",le=\"0.1\"} 3
pipeline_stage_seconds_sum{stage=\"verify\"} 1.5
pipeline_stage_seconds_count{stage=\"verify\"} 3
pipeline_stage_seconds_sum{stage=\"commit_tree\"} 0.25
pipeline_stage_seconds_sum{broken 7
other_seconds_sum{stage=\"x\"} 9
";
    let sums = stage_sums(page);
    assert_eq!(sums.len(), 2);
    assert!((sums["verify"] - 1.5).abs() < 1e-9 && (sums["commit_tree"] - 0.25).abs() < 1e-9);
}
