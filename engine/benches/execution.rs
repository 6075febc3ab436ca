//! What executing a block costs over a state of a million accounts in memory: the
//! transactions, and the state commitment over what they touched. Run with
//! `cargo bench -p ait-engine --bench execution`.

#![allow(clippy::unwrap_used, missing_docs, reason = "criterion's macros")]
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "a bench has a clock")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use ait_engine::crypto::SecretKey;
use ait_engine::execute::BlockBuilder;
use ait_engine::genesis::{Allocation, Authority, Genesis, GenesisDocument};
use ait_engine::state::{Key, MemoryState, StateProof};
use ait_engine::transaction::{Payload, Transaction, VerifiedTransaction};
use ait_engine::types::{Address, Amount, ChainId, Nonce, TimestampMs, VotingPower};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const ACCOUNTS: u64 = 1_000_000;
const TRANSFERS: usize = 10_000;

fn key(n: u64) -> SecretKey {
    let mut seed = [1; 32];
    seed[..8].copy_from_slice(&n.to_le_bytes());
    SecretKey::from_seed(seed)
}

fn chain() -> ChainId {
    "bench".parse().unwrap()
}

/// An address that nobody has the key of.
fn address(n: u64) -> Address {
    Address(*blake3_of(n).as_bytes())
}

fn blake3_of(n: u64) -> ait_engine::types::Hash {
    ait_engine::hash::Domain::DevelopmentKey.hash(&[&n.to_le_bytes()])
}

struct World {
    state: MemoryState,
    genesis: Genesis,
    transfers: Vec<VerifiedTransaction>,
}

fn world() -> World {
    let senders: Vec<SecretKey> = (0..TRANSFERS as u64).map(key).collect();
    let own = senders.iter().map(|key| key.public_key().address());
    let others = (TRANSFERS as u64..ACCOUNTS).map(address);
    let validator = key(u64::MAX);
    let document = GenesisDocument {
        chain_id: chain(),
        timestamp: 1_700_000_000,
        params: std::collections::BTreeMap::new(),
        accounts: own
            .chain(others)
            .map(|address| Allocation { address, balance: Amount::saturating(1_000_000), nonce: 0 })
            .collect(),
        authorities: vec![Authority {
            public_key: validator.public_key(),
            weight: VotingPower::saturating(1),
            payout: None,
        }],
        coordinators: Vec::new(),
        governor: None,
        minter: None,
    };
    let genesis = document.build().unwrap();
    let mut state = MemoryState::default();
    state.apply(&genesis.state);
    let transfers = senders
        .iter()
        .zip(0_u64..)
        .map(|(sender, n)| {
            // Spread over all accounts; an odd factor visits each once.
            let to = address(TRANSFERS as u64 + n * 99_991 % (ACCOUNTS - TRANSFERS as u64));
            let payload = Payload::Transfer { to, amount: Amount::saturating(1) };
            let nonce = Nonce::ZERO;
            let signed = Transaction::sign(sender, chain(), nonce, Amount::ZERO, None, payload);
            VerifiedTransaction::assume_verified(signed)
        })
        .collect();
    World { state, genesis, transfers }
}

fn execution(c: &mut Criterion) {
    let world = world();
    let proposer = key(u64::MAX).public_key().address();
    let time = TimestampMs::saturating(1_700_000_001_000);
    let build = || {
        let parent = &world.genesis.header;
        let mut builder = BlockBuilder::new(&world.state, parent, time, proposer).unwrap();
        let began = Instant::now();
        for transfer in &world.transfers {
            builder.push(transfer.clone()).unwrap();
        }
        let pushed = began.elapsed();
        let began = Instant::now();
        let built = black_box(builder.finish().unwrap());
        assert_eq!(built.0.transactions.len(), TRANSFERS);
        (pushed, began.elapsed())
    };
    let mut group = c.benchmark_group("10,000 transfers over 1 M accounts");
    group.throughput(Throughput::Elements(TRANSFERS as u64)).sample_size(20);
    group.bench_function("execute", |b| {
        b.iter_custom(|rounds| (0..rounds).map(|_| build().0).sum::<Duration>());
    });
    group.bench_function("roots and state commitment", |b| {
        b.iter_custom(|rounds| (0..rounds).map(|_| build().1).sum::<Duration>());
    });
    group.finish();
    let mut group = c.benchmark_group("proof over 1 M accounts");
    let wanted = Key::account(&address(500_000));
    let proof = StateProof::new(&world.state, &wanted).unwrap();
    let root = world.genesis.header.state_root;
    group.bench_function("make", |b| {
        b.iter(|| StateProof::new(&world.state, black_box(&wanted)).unwrap());
    });
    group.bench_function("verify", |b| b.iter(|| proof.verify(&root, black_box(&wanted)).unwrap()));
    group.finish();
}

criterion_group!(benches, execution);
criterion_main!(benches);
