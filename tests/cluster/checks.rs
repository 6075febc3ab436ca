//! What must hold after every scenario: one block per height everywhere, each with a
//! quorum's certificate that is checked here, equal roots, nothing acknowledged lost, and no
//! node that keeps the rules banned by another.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ait_engine::types::{BlockId, Height, StateRoot, TxHash};
use ait_net::wire::{BlockBody, BlockRange, PeerList, TransactionView, read_canonical};

use crate::cluster::Cluster;
use crate::load::Book;

/// How long acknowledged transactions may take to be final once nothing disturbs.
const FINAL_TIMEOUT: Duration = Duration::from_secs(90);
/// Blocks of one request, with and without bodies.
const BODIES_MAX: u64 = 100;
const SUMMARIES_MAX: u64 = 1_000;
/// Latest acknowledged transactions that are looked up at every node.
const LOOKED_UP: usize = 10;

/// The chain as it was read from one node and verified here.
#[derive(Default)]
pub struct Ledger {
    /// Id and state root by height, from genesis.
    blocks: Vec<(BlockId, StateRoot)>,
    transactions: BTreeSet<TxHash>,
}

impl Ledger {
    pub fn height(&self) -> u64 {
        (self.blocks.len() as u64).saturating_sub(1)
    }

    pub fn transaction_count(&self) -> usize {
        self.transactions.len()
    }

    /// Reads what is new from a node; every block must follow from the one before and bear
    /// a certificate of the genesis validators.
    pub async fn read_from(&mut self, cluster: &Cluster, at: usize) {
        let client = &cluster.nodes[at].client;
        if self.blocks.is_empty() {
            let genesis: BlockBody = client.get("/rpc/blocks/0").await.unwrap();
            self.blocks.push((genesis.summary.hash, genesis.summary.state_root));
        }
        loop {
            let from = self.blocks.len() as u64;
            let last = from + BODIES_MAX - 1;
            let path = format!("/rpc/blocks-range?start={from}&end={last}&canonical=true");
            let range: BlockRange = client.get(&path).await.unwrap();
            if range.blocks.is_empty() {
                return;
            }
            for summary in range.blocks {
                self.take(cluster, &summary.canonical.expect("asked for"));
            }
        }
    }

    fn take(&mut self, cluster: &Cluster, canonical: &str) {
        let (block, certificate) = read_canonical(canonical).unwrap();
        let height = Height::saturating(self.blocks.len() as u64);
        let id = block.header.id();
        assert_eq!(block.header.height, height);
        assert_eq!(block.header.parent, self.blocks.last().unwrap().0, "parent of {height}");
        assert!(block.body_matches_header(), "body of {height}");
        let checked = certificate.verify(&cluster.chain_id, height, id, &cluster.validators);
        checked.unwrap_or_else(|error| panic!("certificate of block {height}: {error}"));
        for transaction in &block.transactions {
            let is_new = self.transactions.insert(transaction.hash());
            assert!(is_new, "transaction {} is in the chain twice", transaction.hash());
        }
        self.blocks.push((id, block.header.state_root));
    }
}

/// Waits until the running nodes stand at one height with all that was acknowledged final,
/// then compares every height of every one of them. Gives how long the waiting took.
pub async fn settle(cluster: &mut Cluster, ledger: &mut Ledger, book: &Book) -> Duration {
    let running = cluster.running();
    let began = Instant::now();
    loop {
        cluster.check_alive();
        ledger.read_from(cluster, running[0]).await;
        let missing: Vec<TxHash> = {
            let all = book.acknowledged();
            all.iter().filter(|hash| !ledger.transactions.contains(*hash)).copied().collect()
        };
        let heights: Vec<u64> = running.iter().map(|at| cluster.height(*at)).collect();
        let is_level = heights.iter().all(|height| *height == ledger.height());
        if missing.is_empty() && is_level {
            break;
        }
        if began.elapsed() > FINAL_TIMEOUT {
            let why = explain(cluster, &running, &missing).await;
            panic!(
                "after {FINAL_TIMEOUT:?} heights of {running:?} are {heights:?} and {} of {} \
                 acknowledged transactions are in no block: {why}",
                missing.len(),
                book.count(),
            );
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let took = began.elapsed();
    for at in &running {
        compare(cluster, ledger, *at).await;
        look_up(cluster, book, *at).await;
        check_standing(cluster, &running, *at).await;
    }
    took
}

/// What each node says of the first that are missing.
async fn explain(cluster: &Cluster, nodes: &[usize], missing: &[TxHash]) -> String {
    let mut text = String::new();
    for hash in missing.iter().take(3) {
        for at in nodes {
            let path = format!("/rpc/tx/{hash}/why");
            let why = cluster.nodes[*at].client.get::<serde_json::Value>(&path).await;
            let why = why.map_or_else(|error| error.to_string(), |why| why.to_string());
            text += &format!("\n  {hash} at node {at}: {why}");
        }
    }
    text
}

/// Every height of a node against the verified chain.
async fn compare(cluster: &Cluster, ledger: &Ledger, at: usize) {
    let mut height = 0;
    while height <= ledger.height() {
        let last = (height + SUMMARIES_MAX - 1).min(ledger.height());
        let path = format!("/rpc/blocks-range?start={height}&end={last}");
        let range: BlockRange = cluster.nodes[at].client.get(&path).await.unwrap();
        assert!(!range.blocks.is_empty(), "node {at} has no block {height}");
        for summary in range.blocks {
            let (id, root) = ledger.blocks[usize::try_from(height).unwrap()];
            assert_eq!(summary.height.get(), height, "node {at}");
            assert_eq!(summary.hash, id, "FORK: block {height} of node {at}");
            assert_eq!(summary.state_root, root, "root of block {height} at node {at}");
            height += 1;
        }
    }
}

/// A node that keeps the rules must not be banned, whatever others made of what it said.
async fn check_standing(cluster: &Cluster, running: &[usize], at: usize) {
    let list: PeerList = cluster.nodes[at].client.get("/rpc/peers").await.unwrap();
    for other in running {
        let id = cluster.nodes[*other].plan.peer.id.to_string();
        let line = list.peers.iter().find(|peer| peer.id == id);
        let is_banned = line.is_some_and(|peer| peer.banned_seconds.is_some());
        assert!(!is_banned, "node {at} has banned node {other}, which did nothing wrong");
    }
}

/// The newest acknowledged transactions must be found by their hashes, too.
async fn look_up(cluster: &Cluster, book: &Book, at: usize) {
    let newest: Vec<TxHash> = book.acknowledged().iter().rev().take(LOOKED_UP).copied().collect();
    for hash in newest {
        let path = format!("/rpc/tx/{hash}");
        let found = cluster.nodes[at].client.get::<TransactionView>(&path).await;
        found.unwrap_or_else(|error| panic!("{hash} at node {at}: {error}"));
    }
}
