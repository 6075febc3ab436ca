//! Wiring: which parts a node has and how they hang together. Start and stop.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ait_engine::crypto::SecretKey;

use crate::chain::{
    self, Chain, ChainError, ChainOptions, GenesisSource, OpenProgress, Stores, StoresOptions,
};
use crate::consensus::{Consensus, ConsensusConfig, FileLog, FileSigner, LogError, SignerError};
use crate::ingress::{self, Clock, Ingress, IngressOptions, IngressThreads, SubmitError};
use crate::mempool::{Journal, JournalError, Mempool, MempoolError, MempoolLimits};
use crate::sequencer::{Sequencer, SequencerError, SequencerOptions};

/// How often pending transactions are synced to disk and old ones dropped.
const UPKEEP: Duration = Duration::from_secs(1);

/// What a node needs to know to start.
#[derive(Debug)]
pub struct NodeOptions {
    /// Directory of everything that the node keeps.
    pub data_dir: PathBuf,
    /// The stores.
    pub stores: StoresOptions,
    /// The chain.
    pub chain: ChainOptions,
    /// The mempool.
    pub mempool: MempoolLimits,
    /// The way in.
    pub ingress: IngressOptions,
    /// The sequencer.
    pub sequencer: SequencerOptions,
}

impl NodeOptions {
    /// Usual options for a node in this directory.
    #[must_use]
    pub fn new(data_dir: &Path, engine: chain::StorageEngine) -> Self {
        let directory = data_dir.join("chain");
        Self {
            data_dir: data_dir.to_owned(),
            stores: StoresOptions { engine, directory, cache_bytes: 512 << 20 },
            chain: ChainOptions::default(),
            mempool: MempoolLimits::default(),
            ingress: IngressOptions::default(),
            sequencer: SequencerOptions::default(),
        }
    }
}

/// Why a node does not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The chain cannot be opened.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The write-ahead log cannot be opened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The signer cannot be opened.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// The journal of pending transactions cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Pending transactions cannot be taken up.
    #[error("pending transactions cannot be taken up: {0}")]
    Restore(SubmitError),
    /// The mempool failed.
    #[error(transparent)]
    Mempool(#[from] MempoolError),
    /// The sequencer failed.
    #[error(transparent)]
    Sequencer(#[from] SequencerError),
    /// A thread cannot be started or ended badly.
    #[error("the thread {name} {what}")]
    Thread {
        /// Which.
        name: &'static str,
        /// What happened.
        what: String,
    },
    /// The key is of no validator of this chain.
    #[error("the key {0} belongs to no validator of this chain; name its validator's key")]
    NotValidator(ait_engine::types::Address),
}

/// A running node of one validator.
#[derive(Debug)]
pub struct Node {
    chain: Chain,
    mempool: Arc<Mempool>,
    ingress: Ingress,
    threads: Option<IngressThreads>,
    stop: Arc<AtomicBool>,
    sequencer: Option<JoinHandle<Result<(), SequencerError>>>,
    upkeep: Option<JoinHandle<()>>,
    failure: Arc<Mutex<Option<String>>>,
}

impl Node {
    /// Opens everything, takes up what was under way, and starts making blocks.
    ///
    /// # Errors
    /// [`NodeError`]: which part cannot start and why.
    pub fn start(
        options: &NodeOptions,
        source: &GenesisSource<'_>,
        key: SecretKey,
        clock: &Clock,
        progress: &mut dyn FnMut(OpenProgress),
    ) -> Result<Self, NodeError> {
        let stores = Stores::open(&options.stores)?;
        let writer = chain::open(&stores, source, &options.chain, progress)?;
        let chain = writer.chain().clone();
        let address = key.public_key().address();
        if writer.validators().get(&address).is_none() {
            return Err(NodeError::NotValidator(address));
        }
        let (journal, pending) = Journal::open(&options.data_dir.join("mempool.journal"))?;
        let mempool = Arc::new(Mempool::new(options.mempool, Some(journal)));
        ingress::restore(&mempool, &chain, pending, clock()).map_err(NodeError::Restore)?;
        let (log, logged) = FileLog::open(&options.data_dir.join("consensus.log"))?;
        let record = options.data_dir.join("signer.record");
        let signer = FileSigner::open(&record, chain.chain_id(), key)?;
        let config = ConsensusConfig::new(chain.chain_id(), address);
        let next = writer.height().next().unwrap_or(writer.height());
        let log = log.into_writer(logged.as_ref());
        let consensus = Consensus::new(config, next, writer.validators(), signer, log);
        let stop = Arc::new(AtomicBool::new(false));
        let mut sequencer = Sequencer::new(
            writer,
            consensus,
            Arc::clone(&mempool),
            address,
            Arc::clone(clock),
            options.sequencer,
            Arc::clone(&stop),
        );
        let failure = Arc::new(Mutex::new(None));
        let noted = Arc::clone(&failure);
        let sequencer = spawn("sequencer", move || {
            let result = sequencer.recover(logged).and_then(|()| sequencer.run());
            if let Err(error) = &result {
                tracing::error!(%error, "the sequencer stopped");
                *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
            }
            result
        })?;
        let source = Arc::new(chain.clone());
        let started =
            Ingress::start(options.ingress, Arc::clone(&mempool), source, Arc::clone(clock));
        let (ingress, threads) = started
            .map_err(|error| NodeError::Thread { name: "ingress", what: error.to_string() })?;
        let upkeep = start_upkeep(&mempool, &stop, clock)?;
        Ok(Self {
            chain,
            mempool,
            ingress,
            threads: Some(threads),
            stop,
            sequencer: Some(sequencer),
            upkeep: Some(upkeep),
            failure,
        })
    }

    /// The chain, to read from.
    #[must_use]
    pub const fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Pending transactions.
    #[must_use]
    pub const fn mempool(&self) -> &Arc<Mempool> {
        &self.mempool
    }

    /// The way in.
    #[must_use]
    pub const fn ingress(&self) -> &Ingress {
        &self.ingress
    }

    /// Why the node does not make blocks any more, if it failed.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.clone().or_else(|| self.mempool.failure())
    }

    /// Stops: nothing accepted is lost.
    ///
    /// # Errors
    /// The fault that had ended a part, or one while stopping.
    pub fn stop(mut self) -> Result<(), NodeError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), NodeError> {
        if let Some(threads) = self.threads.take() {
            threads.shut_down();
        }
        self.stop.store(true, Ordering::Relaxed);
        let panicked = |name| NodeError::Thread { name, what: "panicked".to_owned() };
        let sequenced = match self.sequencer.take() {
            Some(thread) => thread.join().map_err(|_| panicked("sequencer"))?,
            None => Ok(()),
        };
        if let Some(thread) = self.upkeep.take() {
            thread.join().map_err(|_| panicked("upkeep"))?;
        }
        self.mempool.compact()?;
        self.mempool.flush()?;
        Ok(sequenced?)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.sequencer.is_some()
            && let Err(error) = self.end()
        {
            tracing::error!(%error, "the node did not stop cleanly");
        }
    }
}

fn spawn<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, NodeError> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    spawned.map_err(|error| NodeError::Thread { name, what: error.to_string() })
}

fn start_upkeep(
    mempool: &Arc<Mempool>,
    stop: &Arc<AtomicBool>,
    clock: &Clock,
) -> Result<JoinHandle<()>, NodeError> {
    let (mempool, stop, clock) = (Arc::clone(mempool), Arc::clone(stop), Arc::clone(clock));
    spawn("upkeep", move || {
        while !stop.load(Ordering::Relaxed) {
            std::thread::park_timeout(UPKEEP / 4);
            mempool.sweep(clock());
            if let Err(error) = mempool.flush() {
                // Latched by the mempool, which refuses from now on and says so in health.
                tracing::error!(%error, "pending transactions cannot be synced");
                return;
            }
        }
    })
}
