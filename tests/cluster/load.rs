//! Load: accounts that each send one transfer after the other, and the hashes of all that a
//! node acknowledged.
//!
//! An account stays with a node until that node does not answer, and begins each scenario
//! with another: what a node that is cut off acknowledged would otherwise hold up, by its
//! nonce, all that the account sends elsewhere, and soon every account.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use ait_engine::crypto::SecretKey;
use ait_engine::transaction::{Payload, Transaction};
use ait_engine::types::{Address, Amount, ChainId, Nonce, TxHash};
use ait_net::rest::{RestClient, RestError};
use tokio::task::JoinHandle;

use crate::cluster::{ACCOUNTS, Cluster};

/// How long a node has to acknowledge before another is tried.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Wait before the same transaction is tried at another node.
const RETRY: Duration = Duration::from_millis(100);

/// Transactions that were acknowledged, and the nodes that are asked.
#[derive(Default)]
pub struct Book {
    acknowledged: Mutex<Vec<TxHash>>,
    refused: AtomicU64,
    unanswered: AtomicU64,
}

impl Book {
    pub fn acknowledged(&self) -> MutexGuard<'_, Vec<TxHash>> {
        self.acknowledged.lock().unwrap()
    }

    pub fn count(&self) -> usize {
        self.acknowledged().len()
    }

    /// Answers that were no acknowledgement, and requests that got none.
    pub fn failures(&self) -> (u64, u64) {
        (self.refused.load(Ordering::Relaxed), self.unanswered.load(Ordering::Relaxed))
    }
}

/// An account that sends. What has no acknowledgement yet is sent again, never replaced.
struct Sender {
    key: SecretKey,
    to: Address,
    chain_id: ChainId,
    nonce: u64,
    /// Number of the node that is asked.
    home: usize,
}

pub struct Load {
    pub book: Arc<Book>,
    idle: Vec<Sender>,
    busy: Vec<JoinHandle<Sender>>,
    stop: Arc<AtomicBool>,
    /// Between two transfers of one account.
    pace: Duration,
    clients: Vec<RestClient>,
    began: Instant,
    had: usize,
}

impl Load {
    /// Of this many transfers a second in all; nothing is sent yet.
    pub fn new(cluster: &Cluster, per_second: u32) -> Self {
        let name = |at: usize| format!("account-{}", at % ACCOUNTS);
        let sender = |at: usize| Sender {
            key: cluster.accounts.secret_key(&name(at)),
            to: cluster.accounts.secret_key(&name(at + 1)).public_key().address(),
            chain_id: cluster.chain_id,
            nonce: 0,
            home: at,
        };
        Self {
            book: Arc::default(),
            idle: (0..ACCOUNTS).map(sender).collect(),
            busy: Vec::new(),
            stop: Arc::default(),
            pace: Duration::from_secs(1) * u32::try_from(ACCOUNTS).unwrap() / per_second,
            clients: cluster.nodes.iter().map(|node| node.client.clone()).collect(),
            began: Instant::now(),
            had: 0,
        }
    }

    /// Sends through these nodes in turn until stopped.
    pub fn start(&mut self, nodes: &[usize]) {
        assert!(self.busy.is_empty(), "the load runs already");
        (self.began, self.had) = (Instant::now(), self.book.count());
        self.stop = Arc::default();
        let clients: Vec<_> = nodes.iter().map(|at| self.clients[*at].clone()).collect();
        for mut sender in self.idle.drain(..) {
            sender.home += 1;
            let (book, stop) = (Arc::clone(&self.book), Arc::clone(&self.stop));
            let work = send(sender, clients.clone(), book, stop, self.pace);
            self.busy.push(tokio::spawn(work));
        }
    }

    /// Stops; gives how many were acknowledged, and for how long it ran.
    pub async fn stop(&mut self) -> (usize, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let ran = self.began.elapsed();
        for worker in self.busy.drain(..) {
            self.idle.push(worker.await.expect("a sender panicked"));
        }
        (self.book.count() - self.had, ran)
    }
}

async fn send(
    mut sender: Sender,
    clients: Vec<RestClient>,
    book: Arc<Book>,
    stop: Arc<AtomicBool>,
    pace: Duration,
) -> Sender {
    while !stop.load(Ordering::Relaxed) {
        let payload = Payload::Transfer { to: sender.to, amount: Amount::saturating(1) };
        let (nonce, fee) = (Nonce::saturating(sender.nonce), Amount::saturating(10));
        let signed = Transaction::sign(&sender.key, sender.chain_id, nonce, fee, None, payload);
        let client = &clients[sender.home % clients.len()];
        if is_acknowledged(client, &signed, &book).await {
            book.acknowledged().push(signed.hash());
            sender.nonce += 1;
            tokio::time::sleep(pace).await;
        } else {
            sender.home += 1;
            tokio::time::sleep(RETRY).await;
        }
    }
    sender
}

async fn is_acknowledged(client: &RestClient, signed: &Transaction, book: &Book) -> bool {
    match tokio::time::timeout(ANSWER_TIMEOUT, client.send(signed)).await {
        Ok(Ok(_)) => true,
        // Nobody else signs for this account: what used the nonce is this very transaction,
        // whose acknowledgement was lost with a node or a connection.
        Ok(Err(RestError::Refused { body, .. })) if body.code == "nonce_used" => true,
        Ok(Err(RestError::Refused { .. })) => {
            book.refused.fetch_add(1, Ordering::Relaxed);
            false
        }
        Ok(Err(_)) | Err(_) => {
            book.unanswered.fetch_add(1, Ordering::Relaxed);
            false
        }
    }
}
