//! A chain of a million accounts for the benches, and transfers over all of them.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each bench uses its part")]

pub mod load;

use std::collections::BTreeMap;

use ait_engine::crypto::SecretKey;
use ait_engine::genesis::{Allocation, Authority, GenesisDocument};
use ait_engine::transaction::{Payload, Transaction};
use ait_engine::types::{Address, Amount, ChainId, Nonce, VotingPower};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Accounts at genesis; fewer with `AIT_BENCH_ACCOUNTS`.
pub fn account_count() -> u64 {
    std::env::var("AIT_BENCH_ACCOUNTS").map_or(1_000_000, |text| text.parse().unwrap())
}

pub fn key(n: u64) -> SecretKey {
    let mut seed = [1; 32];
    seed[..8].copy_from_slice(&n.to_le_bytes());
    SecretKey::from_seed(seed)
}

pub fn validator() -> SecretKey {
    key(u64::MAX)
}

pub fn chain() -> ChainId {
    "bench".parse().unwrap()
}

/// An address that nobody has the key of.
pub fn address(n: u64) -> Address {
    Address(*blake3::hash(&n.to_le_bytes()).as_bytes())
}

/// Genesis of this many accounts, the first `senders` of which can send.
pub fn genesis(accounts: u64, senders: u64) -> GenesisDocument {
    let own = (0..senders).map(|n| key(n).public_key().address());
    GenesisDocument {
        chain_id: chain(),
        timestamp: 1_700_000_000,
        params: BTreeMap::new(),
        accounts: own
            .chain((senders..accounts).map(address))
            .map(|address| Allocation { address, balance: Amount::saturating(1_000_000), nonce: 0 })
            .collect(),
        authorities: vec![Authority {
            public_key: validator().public_key(),
            weight: VotingPower::saturating(1),
            payout: None,
        }],
        coordinators: Vec::new(),
        governor: None,
        minter: None,
    }
}

/// One signed transfer of each sender with this nonce, to accounts all over the state.
pub fn transfers(accounts: u64, senders: u64, nonce: u64) -> Vec<Transaction> {
    let transfer = |n: u64| {
        let to = address(senders + (n + nonce * senders) * 99_991 % (accounts - senders));
        let payload = Payload::Transfer { to, amount: Amount::saturating(1) };
        let nonce = Nonce::saturating(nonce);
        Transaction::sign(&key(n), chain(), nonce, Amount::saturating(1), None, payload)
    };
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let part = senders.div_ceil(cores);
    std::thread::scope(|scope| {
        let signing: Vec<_> = (0..cores)
            .map(|core| core * part..((core + 1) * part).min(senders))
            .map(|range| scope.spawn(move || range.map(transfer).collect::<Vec<_>>()))
            .collect();
        signing.into_iter().flat_map(|part| part.join().unwrap()).collect()
    })
}
