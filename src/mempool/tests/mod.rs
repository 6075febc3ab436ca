//! Tests of the mempool. Signatures play no part here: transactions are taken as verified.

#![allow(clippy::unwrap_used)]

mod admission;
mod journal;
mod model;
mod order;
mod shared;

use std::sync::Arc;

use ait_engine::crypto::{PublicKey, Signature};
use ait_engine::params::Settings;
use ait_engine::state::Account;
use ait_engine::transaction::{Payload, Transaction, VerifiedTransaction};
use ait_engine::types::{Address, Amount, ChainId, Height, Nonce, TimestampMs, TxHash};

use super::pool::{Pool, Removed, Taken};
use super::{MempoolError, MempoolLimits, Rules};

/// Bytes of a transfer.
fn transfer_bytes() -> u64 {
    u64::from(Tx::of(1).build().byte_count())
}

fn chain_id() -> ChainId {
    ChainId::from_bytes(b"test").unwrap()
}

fn time(ms: u64) -> TimestampMs {
    TimestampMs::new(ms).unwrap()
}

fn height(value: u64) -> Height {
    Height::new(value).unwrap()
}

fn nonce(value: u64) -> Nonce {
    Nonce::new(value).unwrap()
}

fn account(balance: u64, next: u64) -> Account {
    Account { balance: Amount::new(balance).unwrap(), nonce: nonce(next) }
}

fn rules(head: u64) -> Rules {
    Rules { chain_id: chain_id(), head: height(head), settings: Settings::default() }
}

fn key(sender: u8) -> PublicKey {
    PublicKey([sender; 32])
}

fn address(sender: u8) -> Address {
    key(sender).address()
}

/// A transfer of 1 to nobody in particular, changed as a test needs.
#[derive(Debug, Clone)]
struct Tx(Transaction);

impl Tx {
    fn of(sender: u8) -> Self {
        let amount = Amount::new(1).unwrap();
        Self(Transaction {
            chain_id: chain_id(),
            public_key: key(sender),
            nonce: Nonce::ZERO,
            fee: Amount::new(100).unwrap(),
            expires_at: None,
            payload: Payload::Transfer { to: Address([9; 32]), amount },
            signature: Signature([0; 64]),
        })
    }

    fn nonce(mut self, value: u64) -> Self {
        self.0.nonce = nonce(value);
        self
    }

    fn fee(mut self, value: u64) -> Self {
        self.0.fee = Amount::new(value).unwrap();
        self
    }

    fn pays(mut self, value: u64) -> Self {
        let amount = Amount::new(value).unwrap();
        self.0.payload = Payload::Transfer { to: Address([9; 32]), amount };
        self
    }

    fn expires(mut self, value: u64) -> Self {
        self.0.expires_at = Some(height(value));
        self
    }

    fn payload(mut self, payload: Payload) -> Self {
        self.0.payload = payload;
        self
    }

    fn build(self) -> VerifiedTransaction {
        VerifiedTransaction::assume_verified(self.0)
    }

    fn hash(&self) -> TxHash {
        self.0.hash()
    }
}

/// Limits that no test meets by accident.
fn roomy() -> MempoolLimits {
    MempoolLimits {
        count_max: 1_000,
        bytes_max: 1 << 20,
        per_sender_max: 16,
        per_sender_bytes_max: 1 << 18,
        ttl_ms: 1_000,
    }
}

const RICH: u64 = 1_000_000;

/// Inserts for a sender with plenty and nonce 0 at height 0.
fn add(pool: &mut Pool, tx: Tx) -> Result<Vec<Removed>, MempoolError> {
    add_with(pool, tx, account(RICH, 0))
}

fn add_with(pool: &mut Pool, tx: Tx, account: Account) -> Result<Vec<Removed>, MempoolError> {
    match pool.insert(Arc::new(tx.build()), account, &rules(0), time(0))? {
        Taken::Accepted { removed } => Ok(removed),
        Taken::Duplicate => panic!("a duplicate"),
    }
}

fn code(result: Result<Vec<Removed>, MempoolError>) -> &'static str {
    result.err().map_or("accepted", |error| error.code())
}

fn codes(removed: &[Removed]) -> Vec<(TxHash, &'static str)> {
    removed.iter().map(|one| (one.transaction.hash(), one.reason.code())).collect()
}

/// Sender's first key byte and nonce of each selected transaction.
fn picks(pool: &Pool, count_max: usize, bytes_max: u64) -> Vec<(u8, u64)> {
    let selected = pool.select(count_max, bytes_max);
    let pick = |one: &Arc<VerifiedTransaction>| {
        (one.transaction().public_key.0[0], one.transaction().nonce.get())
    };
    selected.iter().map(pick).collect()
}
