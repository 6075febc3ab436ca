//! What is driven: a node in this process, or running nodes by their REST interface.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ait_engine::crypto::SecretKey;
use ait_engine::genesis::{Allocation, Authority, CoordinatorEntry, GenesisDocument};
use ait_engine::transaction::Transaction;
use ait_engine::types::{Amount, ChainId, TxHash, VotingPower};
use tokio::sync::mpsc;

use super::remote::Remote;
use super::workload::{Senders, idle_address, key};
use super::{BenchError, EmbeddedOptions};
use crate::chain::{ChainError, GenesisSource};
use crate::ingress::SubmitError;
use crate::mempool::TxStatus;
use crate::node::{Node, NodeOptions};
use crate::telemetry::metrics;

/// What each account of an embedded chain has at first.
const BALANCE: Amount = Amount::saturating(1_000_000_000);
/// Keys of an embedded chain follow from these bytes: nobody's money.
const SEED: [u8; 32] = *b"ait-node bench: an embedded node";
const CHAIN: &str = "ait-bench";

/// A block that became final, as it was heard of.
#[derive(Debug)]
pub(super) struct FinalBlock {
    /// When.
    pub(super) at: Instant,
    /// Its transactions.
    pub(super) hashes: Vec<TxHash>,
}

/// Why a transaction was not taken.
#[derive(Debug, Clone)]
pub(super) struct Refused {
    /// Stable code.
    pub(super) code: String,
    /// Whether the same one may be sent again.
    pub(super) is_temporary: bool,
}

impl From<SubmitError> for Refused {
    fn from(error: SubmitError) -> Self {
        Self { code: error.code().to_owned(), is_temporary: error.is_temporary() }
    }
}

/// A node in this process.
#[derive(Debug)]
pub(super) struct Embedded {
    node: Node,
    data_dir: PathBuf,
}

/// What is driven.
#[derive(Debug)]
pub(super) enum Target {
    /// A node in this process.
    Embedded(Box<Embedded>),
    /// Running nodes.
    Remote(Remote),
}

/// The key of the coordinator of an embedded chain.
#[must_use]
pub(super) fn embedded_coordinator() -> SecretKey {
    key(&SEED, u64::MAX - 1)
}

/// The senders of an embedded chain.
#[must_use]
pub(super) fn embedded_senders(count: usize) -> Senders {
    Senders::new(&SEED, count)
}

/// The name of an embedded chain.
///
/// # Errors
/// Never: it is a good name.
pub(super) fn embedded_chain() -> Result<ChainId, BenchError> {
    CHAIN.parse().map_err(|_| BenchError::NoSenders)
}

fn genesis(senders: &Senders, accounts: u64) -> Result<GenesisDocument, BenchError> {
    let known = senders.addresses().len() as u64;
    let addresses = senders.addresses().iter().copied();
    let addresses = addresses.chain((known..accounts).map(idle_address));
    let allocate = |address| Allocation { address, balance: BALANCE, nonce: 0 };
    Ok(GenesisDocument {
        chain_id: embedded_chain()?,
        timestamp: 1_700_000_000,
        params: BTreeMap::new(),
        accounts: addresses.map(allocate).collect(),
        authorities: vec![Authority {
            public_key: key(&SEED, u64::MAX).public_key(),
            weight: VotingPower::saturating(1),
            payout: None,
        }],
        coordinators: vec![CoordinatorEntry {
            public_key: embedded_coordinator().public_key(),
            payout: None,
        }],
        governor: None,
        minter: None,
    })
}

impl Embedded {
    /// Makes a chain of `accounts` accounts in an empty directory and starts its node.
    ///
    /// # Errors
    /// [`BenchError`] if the node does not start.
    pub(super) fn start(options: &EmbeddedOptions, senders: &Senders) -> Result<Self, BenchError> {
        let document = genesis(senders, options.accounts)?;
        let mut fingerprint = [7; 32];
        if options.is_kept {
            let path = options.data_dir.join("genesis.json");
            let file = std::fs::File::create(&path)?;
            serde_json::to_writer(std::io::BufWriter::new(file), &document)
                .map_err(std::io::Error::from)?;
            // That of the file, so that `run` knows the chain without building it again.
            fingerprint = GenesisSource::fingerprint_of(&path, &options.data_dir.join("chain"))?;
        }
        let build = || document.build().map_err(ChainError::from);
        let source = GenesisSource { fingerprint, build: &build };
        let mut node = NodeOptions::new(&options.data_dir, options.engine);
        node.stores.cache_bytes = options.cache_bytes;
        node.chain.index = options.index;
        node.sequencer.block_interval = options.block_interval;
        node.sequencer.candidates_max = options.block_transactions;
        // What is under way is bounded by the generator; a limit below it would measure itself.
        node.ingress.queue_max = options.in_flight.saturating_mul(2);
        node.mempool.count_max = node.mempool.count_max.max(options.in_flight.saturating_mul(2));
        node.mempool.per_sender_max = node.mempool.count_max as u64;
        node.mempool.bytes_max = u64::MAX;
        node.mempool.per_sender_bytes_max = u64::MAX;
        let clock = crate::clock::system();
        let node = Node::start(&node, &source, key(&SEED, u64::MAX), &clock, &mut |_| {})?;
        Ok(Self { node, data_dir: options.data_dir.clone() })
    }

    /// Where the node keeps its files.
    #[must_use]
    pub(super) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Waits until the index lists every account of genesis, which happens once in a chain's
    /// life and takes minutes if they are many.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(super) fn wait_for_list(&self, accounts: u64) -> Result<(), BenchError> {
        while self.node.chain().index().account_count()? < accounts {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Waits until the indexes have every block; gives how long that took. None if there are none.
    #[must_use]
    pub(super) fn wait_for_indexes(&self) -> Option<Duration> {
        if !self.node.chain().index().is_kept() {
            return None;
        }
        let began = Instant::now();
        while self.node.chain().indexed_height() < self.node.chain().head().height {
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(began.elapsed())
    }

    /// Stops the node.
    ///
    /// # Errors
    /// [`BenchError`] if it failed.
    pub(super) fn stop(self) -> Result<(), BenchError> {
        Ok(self.node.stop()?)
    }
}

impl Target {
    /// Tells of every block that becomes final from now on.
    ///
    /// # Errors
    /// [`BenchError`] if a running node cannot be subscribed to.
    pub(super) async fn finals(&self) -> Result<mpsc::UnboundedReceiver<FinalBlock>, BenchError> {
        match self {
            Self::Remote(remote) => remote.finals().await,
            Self::Embedded(embedded) => {
                let (sender, receiver) = mpsc::unbounded_channel();
                let mut events = embedded.node.chain().events();
                std::thread::spawn(move || {
                    // Ends with the node, with a listener that left, or if it cannot keep up.
                    while let Ok(block) = events.blocking_recv() {
                        let at = Instant::now();
                        let block = FinalBlock { at, hashes: block.tx_hashes.clone() };
                        if sender.send(block).is_err() {
                            return;
                        }
                    }
                });
                Ok(receiver)
            }
        }
    }

    /// Hands transactions over; the answers stand in their order. `connection` chooses among
    /// several nodes.
    pub(super) async fn submit(
        &self,
        transactions: Vec<Transaction>,
        connection: usize,
    ) -> Vec<Result<(), Refused>> {
        match self {
            Self::Remote(remote) => remote.submit(transactions, connection).await,
            Self::Embedded(embedded) => {
                let results = embedded.node.ingress().submit_many(transactions).await;
                results.into_iter().map(|result| Ok(result.map(|_| ())?)).collect()
            }
        }
    }

    /// Seconds that each stage of the pipeline worked until now; empty if the node does not
    /// tell.
    pub(super) async fn stages(&self) -> BTreeMap<String, f64> {
        let page = match self {
            Self::Remote(remote) => remote.metrics().await,
            Self::Embedded(_) => metrics::install(false).map(|handle| handle.render()).ok(),
        };
        page.map(|page| stage_sums(&page)).unwrap_or_default()
    }

    /// What the node says of a transaction that is not final.
    pub(super) async fn why(&self, hash: &TxHash) -> String {
        match self {
            Self::Remote(remote) => remote.why(hash).await,
            Self::Embedded(embedded) => match embedded.node.mempool().status(hash) {
                TxStatus::Pending { missing_nonce: None, .. } => "it waits for a block".to_owned(),
                TxStatus::Pending { missing_nonce: Some(nonce), .. } => {
                    format!("it waits for the transaction with nonce {nonce}")
                }
                TxStatus::Dropped(dropped) => dropped.reason.to_string(),
                TxStatus::Unknown => "the node does not know it".to_owned(),
            },
        }
    }

    /// Height of the chain.
    pub(super) async fn height(&self) -> Option<u64> {
        match self {
            Self::Remote(remote) => remote.height().await,
            Self::Embedded(embedded) => Some(embedded.node.chain().head().height.get()),
        }
    }
}

/// The sums of `pipeline_stage_seconds` of a page of metrics, by stage.
#[must_use]
pub(super) fn stage_sums(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter_map(|line| line.strip_prefix("pipeline_stage_seconds_sum{"));
    lines
        .filter_map(|line| {
            let (labels, value) = line.rsplit_once("} ")?;
            let stage = labels.split_once("stage=\"")?.1.split_once('"')?.0;
            Some((stage.to_owned(), value.parse().ok()?))
        })
        .collect()
}
