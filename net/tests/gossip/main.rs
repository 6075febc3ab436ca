//! One contract for every gossip backend, over real sockets and a real Redis server.

#![allow(clippy::unwrap_used, missing_docs)]

mod contract;
mod quic;
mod redis;
#[path = "../../../tests/common/redis.rs"]
mod server;

use std::sync::Arc;
use std::time::Duration;

use ait_engine::crypto::SecretKey;
use ait_engine::transaction::{Payload, Transaction, VerifiedTransaction};
use ait_engine::types::{Address, Amount, ChainId, Nonce, TxHash};
use ait_net::gossip::{Gossip, Incoming};
use tokio::sync::mpsc;

/// Everything that is waited for must come within this.
const PATIENCE: Duration = Duration::from_secs(30);
/// What must not come is waited for this long.
const SILENCE: Duration = Duration::from_millis(400);

/// One of those who gossip with each other.
struct Member {
    gossip: Arc<dyn Gossip>,
    incoming: mpsc::Receiver<Incoming>,
}

impl Member {
    fn publish(&self, transactions: &[Arc<VerifiedTransaction>]) {
        assert!(self.gossip.publish(transactions), "a queue that is read is not full");
    }

    /// The next `count` transactions, and how often something came.
    async fn hear(&mut self, count: usize) -> Vec<TxHash> {
        let mut heard = Vec::new();
        while heard.len() < count {
            let next = tokio::time::timeout(PATIENCE, self.incoming.recv()).await;
            let Ok(Some(incoming)) = next else {
                panic!("{}: {} of {count} came", self.gossip.name(), heard.len());
            };
            heard.extend(incoming.transactions.iter().map(|(hash, _)| *hash));
        }
        heard
    }

    async fn hears_nothing(&mut self) {
        let heard = tokio::time::timeout(SILENCE, self.incoming.recv()).await;
        assert!(heard.is_err(), "{}: {heard:?} must not come", self.gossip.name());
    }
}

/// Distinct signed transactions of one sender.
fn transactions(sender: u8, count: u64) -> Vec<Arc<VerifiedTransaction>> {
    let key = SecretKey::from_seed([sender; 32]);
    let chain = ChainId::from_bytes(b"gossip").unwrap();
    let fee = Amount::new(10).unwrap();
    let payload =
        |nonce| Payload::Transfer { to: Address([7; 32]), amount: Amount::new(nonce + 1).unwrap() };
    let sign = |nonce| {
        let nonce_of = Nonce::new(nonce).unwrap();
        Transaction::sign(&key, chain, nonce_of, fee, None, payload(nonce))
    };
    let all: Vec<_> = (0..count).map(sign).collect();
    let verified = ait_engine::transaction::verify_transactions(all, None);
    verified.into_iter().map(|one| Arc::new(one.unwrap())).collect()
}

fn hashes(transactions: &[Arc<VerifiedTransaction>]) -> Vec<TxHash> {
    transactions.iter().map(|one| one.hash()).collect()
}
