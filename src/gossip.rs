//! Joins gossip and the node: what was accepted here goes to every backend, what others
//! publish goes the way of all transactions, through the ingress.
//!
//! Nothing that a backend brings is trusted, and nothing is verified twice because it came
//! over two of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ait_engine::transaction::{Transaction, VerifiedTransaction};
use ait_engine::types::TxHash;
use ait_net::gossip::{
    Aging, Gossip, Incoming, RedisError, RedisGossip, RedisOptions, RedisUrl, Verdict,
};
use ait_net::peer::Tally;
use metrics::counter;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{Notify, Semaphore, broadcast, mpsc};
use tokio::time::MissedTickBehavior;

use crate::chain::Chain;
use crate::ingress::{Ingress, SubmitError, Submitted};
use crate::mempool::Mempool;
use crate::node::Node;

/// Accepted transactions that are sent on together, and how long the first waits.
const TOGETHER_MAX: usize = 512;
const LINGER: Duration = Duration::from_millis(2);
/// Batches of others that are verified at once.
const BATCHES_MAX: usize = 8;
/// Transactions that wait this long are told of again, so many of them.
const SHARE_AGAIN: Duration = Duration::from_secs(30);
const SHARE_AGAIN_MAX: usize = 2_000;
/// Transactions that came are remembered for less than [`SHARE_AGAIN`].
const TURN_MS: u64 = 10_000;
const SEEN_MAX: usize = 500_000;

/// A backend, and what the others publish over it.
pub type Backend = (Arc<dyn Gossip>, mpsc::Receiver<Incoming>);

/// Gossip over these backends and over Redis if there is a URL; nothing if there is none.
/// To be called inside a runtime; its tasks end with the node's mempool and the backends.
///
/// # Errors
/// [`RedisError`] when the URL cannot be used. That no server answers is no error.
pub fn start(
    node: &Node,
    mut backends: Vec<Backend>,
    redis: Option<&RedisUrl>,
) -> Result<(), RedisError> {
    let back = Arc::new(Notify::new());
    if let Some(url) = redis {
        let (url, genesis) = (url.clone(), genesis(node.chain()));
        let options = RedisOptions { url, genesis, connected: Arc::clone(&back) };
        let (gossip, incoming) = RedisGossip::start(options)?;
        backends.push((Arc::new(gossip), incoming));
    }
    if backends.is_empty() {
        return Ok(());
    }
    let collect = Arc::new(Collect {
        ingress: node.ingress().clone(),
        seen: Mutex::new(Aging::new(TURN_MS, SEEN_MAX)),
        began: Instant::now(),
        slots: Arc::new(Semaphore::new(BATCHES_MAX)),
    });
    let mut all = Vec::new();
    for (gossip, incoming) in backends {
        all.push(Arc::clone(&gossip));
        tokio::spawn(Arc::clone(&collect).run(gossip, incoming));
    }
    let spread = Spread { mempool: Arc::clone(node.mempool()), backends: all };
    tokio::spawn(spread.run(back));
    Ok(())
}

fn genesis(chain: &Chain) -> ait_engine::types::Hash {
    ait_engine::types::Hash(chain.genesis_id().0)
}

/// Tells of what was accepted here.
struct Spread {
    mempool: Arc<Mempool>,
    backends: Vec<Arc<dyn Gossip>>,
}

impl Spread {
    async fn run(self, back: Arc<Notify>) {
        let mut accepted = self.mempool.subscribe_accepted();
        let mut again = tokio::time::interval(SHARE_AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        again.reset();
        loop {
            tokio::select! {
                first = accepted.recv() => match first {
                    Ok(first) => {
                        if accepted.is_empty() {
                            tokio::time::sleep(LINGER).await;
                        }
                        self.publish(&together(first, &mut accepted));
                    }
                    // They are pending, and are shared again later.
                    Err(RecvError::Lagged(missed)) => {
                        counter!("gossip_dropped_total", "backend" => "all", "reason" => "lagged")
                            .increment(missed);
                    }
                    Err(RecvError::Closed) => return,
                },
                () = back.notified() => self.publish_again(),
                _ = again.tick() => self.publish_again(),
            }
        }
    }

    fn publish(&self, transactions: &[Arc<VerifiedTransaction>]) {
        for backend in &self.backends {
            // What does not fit is counted by the backend, and shared again later.
            backend.publish(transactions);
        }
    }

    fn publish_again(&self) {
        let listed = self.mempool.list(SHARE_AGAIN_MAX, None);
        let waiting: Vec<_> = listed.into_iter().map(|one| one.transaction).collect();
        for part in waiting.chunks(TOGETHER_MAX) {
            self.publish(part);
        }
    }
}

fn together(
    first: Arc<VerifiedTransaction>,
    accepted: &mut broadcast::Receiver<Arc<VerifiedTransaction>>,
) -> Vec<Arc<VerifiedTransaction>> {
    let mut together = vec![first];
    while together.len() < TOGETHER_MAX {
        match accepted.try_recv() {
            Ok(one) => together.push(one),
            Err(TryRecvError::Lagged(_)) => {}
            Err(_) => break,
        }
    }
    together
}

/// Hands what came to the ingress.
struct Collect {
    ingress: Ingress,
    seen: Mutex<Aging<TxHash, ()>>,
    began: Instant,
    slots: Arc<Semaphore>,
}

impl Collect {
    async fn run(self: Arc<Self>, gossip: Arc<dyn Gossip>, mut incoming: mpsc::Receiver<Incoming>) {
        loop {
            // Before the batch is taken: what cannot be verified waits at its sender.
            let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else { return };
            let Some(mut batch) = incoming.recv().await else { return };
            batch.transactions = self.new_ones(batch.transactions);
            if batch.transactions.is_empty() {
                continue;
            }
            let (collect, gossip) = (Arc::clone(&self), Arc::clone(&gossip));
            tokio::spawn(async move {
                let _slot = slot;
                collect.submit(&*gossip, batch).await;
            });
        }
    }

    fn with_seen<T>(&self, work: impl FnOnce(&mut Aging<TxHash, ()>) -> T) -> T {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.age(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX));
        work(&mut seen)
    }

    /// Those that came over no other backend.
    fn new_ones(&self, all: Vec<(TxHash, Transaction)>) -> Vec<(TxHash, Transaction)> {
        self.with_seen(|seen| all.into_iter().filter(|(h, _)| seen.insert(*h, ())).collect())
    }

    async fn submit(&self, gossip: &dyn Gossip, batch: Incoming) {
        let source = batch.source;
        let (hashes, transactions): (Vec<_>, Vec<_>) = batch.transactions.into_iter().unzip();
        let results = self.ingress.submit_many(transactions).await;
        let Judged { invalid, tally, not_taken } = judge(hashes, results);
        self.with_seen(|seen| not_taken.iter().for_each(|hash| seen.remove(hash)));
        if invalid.is_some() || !not_taken.is_empty() || tally != Tally::default() {
            gossip.judged(Verdict { source, invalid, tally, not_taken });
        }
    }
}

/// What became of transactions that one peer or process sent.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    pub(crate) invalid: Option<String>,
    pub(crate) tally: Tally,
    pub(crate) not_taken: Vec<TxHash>,
}

pub(crate) fn judge(hashes: Vec<TxHash>, results: Vec<Result<Submitted, SubmitError>>) -> Judged {
    let mut judged = Judged::default();
    for (hash, result) in hashes.into_iter().zip(results) {
        match result {
            Ok(submitted) => judged.tally.accepted += u32::from(!submitted.duplicate),
            Err(SubmitError::Invalid(error)) => {
                judged.invalid = Some(error.to_string());
                judged.not_taken.push(hash);
            }
            Err(error) if error.is_temporary() => judged.not_taken.push(hash),
            Err(error) if error.is_knowable() => judged.tally.refused += 1,
            Err(_) => judged.tally.late += 1,
        }
    }
    judged
}
