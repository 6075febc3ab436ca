//! Wiring: which parts a node has and how they hang together. Start and stop.

mod error;
mod upkeep;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ait_engine::crypto::SecretKey;
use ait_engine::types::Address;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::mpsc;

use crate::chain::{
    self, Chain, ChainOptions, ChainWriter, GenesisSource, OpenProgress, Stores, StoresOptions,
};
use crate::config::NodeConfig;
use crate::consensus::{
    Consensus, ConsensusConfig, FileLog, FileSigner, LogError, LogWriter, Logged, SignerError,
    VoteSigner, WriteAheadLog,
};
use crate::cross_site::CrossSiteView;
use crate::disk::{Disk, DiskOptions, Shortage};
use crate::health::{Looked, Watchdog};
use crate::import::{ImportDesk, Importer};
use crate::ingress::{self, Clock, Ingress, IngressOptions, IngressThreads};
use crate::mempool::{Journal, Mempool, MempoolLimits};
use crate::rpc::Backend;
use crate::sequencer::{
    self, Begin, Effect, Inbox, SequencerCore, SequencerError, SequencerOptions, Voter,
};
use crate::telemetry::metrics;
use crate::{divergence, evidence};
pub use error::NodeError;
use upkeep::Upkeep;

/// Inputs that may wait for the sequencer.
const INBOX_MAX: usize = 8_192;
/// Blocks that may wait to be imported.
const IMPORTS_MAX: usize = 1_024;

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
    /// Room on the disk.
    pub disk: DiskOptions,
}

impl NodeOptions {
    /// The options of a configuration.
    #[must_use]
    pub fn from_config(config: &NodeConfig) -> Self {
        let mut options = Self::new(&config.data_dir, config.storage.engine);
        options.stores.cache_bytes = config.storage.cache_bytes;
        options.chain.checkpoints.blocks = config.storage.checkpoint_blocks;
        options.chain.checkpoints.entries = config.storage.checkpoint_entries;
        options.chain.state_bytes = config.storage.state_bytes;
        options.chain.index = config.storage.index;
        options.mempool = MempoolLimits {
            count_max: config.mempool.transactions_max,
            bytes_max: config.mempool.bytes_max,
            per_sender_max: config.mempool.per_sender_max,
            per_sender_bytes_max: config.mempool.per_sender_bytes_max,
            ttl_ms: u64::try_from(config.mempool.ttl.as_millis()).unwrap_or(u64::MAX),
        };
        options.disk = DiskOptions {
            free_bytes_min: config.storage.free_bytes_min,
            reserve_bytes: config.storage.reserve_bytes,
        };
        options.sequencer.block_interval = config.sequencer.block_interval;
        options
    }

    /// Usual options for a node in this directory.
    #[must_use]
    pub fn new(data_dir: &Path, engine: chain::StorageEngine) -> Self {
        let directory = data_dir.join("chain");
        Self {
            data_dir: data_dir.to_owned(),
            stores: StoresOptions { engine, directory, cache_bytes: 512 << 20, verify: false },
            chain: ChainOptions::default(),
            mempool: MempoolLimits::default(),
            ingress: IngressOptions::default(),
            sequencer: SequencerOptions::default(),
            disk: DiskOptions::default(),
        }
    }
}

/// What a node is on its chain, and where its sequencer's effects go.
#[derive(Debug)]
pub struct Joining {
    /// The validator's key; none for a node that follows.
    pub key: Option<SecretKey>,
    /// To the network; none if this node is alone.
    pub effects: Option<mpsc::Sender<Effect>>,
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    chain: Chain,
    mempool: Arc<Mempool>,
    ingress: Ingress,
    importer: Importer,
    inbox: Arc<Inbox>,
    threads: Option<IngressThreads>,
    stop: Arc<AtomicBool>,
    sequencer: Option<JoinHandle<Result<(), SequencerError>>>,
    workers: Vec<(&'static str, JoinHandle<()>)>,
    failure: Arc<Mutex<Option<String>>>,
    health: Arc<Watchdog>,
    disk: Arc<Disk>,
    validator: Option<Address>,
    storage_engine: chain::StorageEngine,
}

impl Node {
    /// Starts a node that is alone on its chain, as the validator of this key.
    ///
    /// # Errors
    /// As [`Node::join`].
    pub fn start(
        options: &NodeOptions,
        source: &GenesisSource<'_>,
        key: SecretKey,
        clock: &Clock,
        progress: &mut dyn FnMut(OpenProgress),
    ) -> Result<Self, NodeError> {
        let joining = Joining { key: Some(key), effects: None };
        Self::join(options, source, joining, clock, progress)
    }

    /// Opens everything, takes up what was under way, and starts making or taking blocks.
    ///
    /// # Errors
    /// [`NodeError`]: which part cannot start and why.
    pub fn join(
        options: &NodeOptions,
        source: &GenesisSource<'_>,
        joining: Joining,
        clock: &Clock,
        progress: &mut dyn FnMut(OpenProgress),
    ) -> Result<Self, NodeError> {
        // Before anything is opened: without room the reserve is given up for that.
        let disk = Arc::new(look_at_disk(options)?);
        let stores = Stores::open(&options.stores)?;
        let writer = chain::open(&stores, source, &options.chain, progress)?;
        let chain = writer.chain().clone();
        metrics::opened(chain.head().height.get());
        let validator = joining.key.as_ref().map(|key| key.public_key().address());
        if let Some(address) = validator
            && writer.validators().get(&address).is_none()
        {
            return Err(NodeError::NotValidator(address));
        }
        let (journal, pending) = Journal::open(&options.data_dir.join("mempool.journal"))?;
        let mempool = Arc::new(Mempool::new(options.mempool, Some(journal)));
        mempool.pause(disk.shortage());
        ingress::restore(&mempool, &chain, pending, clock()).map_err(NodeError::Restore)?;
        let (voter, logged) = match joining.key {
            Some(key) => {
                let (voter, logged) = open_voter(&options.data_dir, &writer, key)?;
                (Some(voter), logged)
            }
            None => (None, None),
        };
        let core = SequencerCore::new(
            writer,
            voter,
            Arc::clone(&mempool),
            Arc::clone(clock),
            options.sequencer,
        );
        let source = Arc::new(chain.clone());
        let started =
            Ingress::start(options.ingress, Arc::clone(&mempool), source, Arc::clone(clock));
        let (ingress, threads) = started
            .map_err(|error| NodeError::Thread { name: "ingress", what: error.to_string() })?;
        let (importer, desk) = ImportDesk::new(IMPORTS_MAX);
        let interval = options.sequencer.block_interval;
        let mut node = Self {
            disk,
            health: Arc::new(Watchdog::new(interval, chain.head().height, Instant::now())),
            chain,
            mempool,
            ingress,
            importer,
            inbox: Arc::new(Inbox::new(INBOX_MAX)),
            threads: Some(threads),
            stop: Arc::new(AtomicBool::new(false)),
            sequencer: None,
            workers: Vec::new(),
            failure: Arc::new(Mutex::new(None)),
            validator,
            storage_engine: options.stores.engine,
        };
        // Whoever asks at once is told.
        let (height, shortage) = (node.chain.head().height, node.disk.shortage());
        let damage = node.chain.damage();
        let looked = Looked { height, shortage, damage, ..Looked::default() };
        node.health.observe(Instant::now(), looked);
        node.start_sequencer(core, logged, desk, joining.effects, options.data_dir.clone())?;
        node.start_upkeep(clock)?;
        Ok(node)
    }

    fn start_sequencer(
        &mut self,
        mut core: SequencerCore<FileSigner, LogWriter>,
        logged: Option<Logged>,
        desk: ImportDesk,
        effects: Option<mpsc::Sender<Effect>>,
        data_dir: PathBuf,
    ) -> Result<(), NodeError> {
        let answers = desk.answers();
        let mut outlet: sequencer::Outlet = Box::new(move |effect| match effect {
            Effect::Imported { id, result } => answers.give(id, result),
            Effect::Diverged { divergence } => divergence::report(&data_dir, &divergence),
            Effect::Equivocated { evidence } => evidence::report(&data_dir, &evidence),
            effect => {
                if let Some(effects) = &effects {
                    // The network never waits for the sequencer, so that this wait ends; at a
                    // stop nobody listens any more.
                    let _ = effects.blocking_send(effect);
                }
            }
        });
        // What was final before is so again before anybody can ask.
        let begin = match self.disk.shortage() {
            None => Begin::Recovered(core.recover(logged, Duration::ZERO)?),
            Some(_) => Begin::Logged(logged),
        };
        let bell = Arc::clone(&self.inbox);
        self.mempool.on_executable(move || bell.ring());
        let (inbox, stop) = (Arc::clone(&self.inbox), Arc::clone(&self.stop));
        let (noted, disk) = (Arc::clone(&self.failure), Arc::clone(&self.disk));
        self.sequencer = Some(spawn("sequencer", move || {
            let result = sequencer::run(core, begin, &inbox, &stop, &disk, &mut outlet);
            if let Err(error) = &result {
                tracing::error!(%error, "the sequencer stopped");
                disk.note_failure(error);
                *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
            }
            result
        })?);
        let (chain, mempool) = (self.chain.clone(), Arc::clone(&self.mempool));
        let (inbox, stop) = (Arc::clone(&self.inbox), Arc::clone(&self.stop));
        let work = move || desk.run(&chain, &mempool, &inbox, &stop);
        self.workers.push(("import", spawn("import", work)?));
        Ok(())
    }

    fn start_upkeep(&mut self, clock: &Clock) -> Result<(), NodeError> {
        let upkeep = Upkeep {
            chain: self.chain.clone(),
            mempool: Arc::clone(&self.mempool),
            stop: Arc::clone(&self.stop),
            clock: Arc::clone(clock),
            failure: Arc::clone(&self.failure),
            health: Arc::clone(&self.health),
            disk: Arc::clone(&self.disk),
        };
        self.workers.push(("upkeep", spawn("upkeep", move || upkeep.run())?));
        Ok(())
    }

    /// What a REST server of this node needs.
    #[must_use]
    pub fn backend(&self, clock: &Clock, metrics: PrometheusHandle) -> Backend {
        Backend {
            chain: self.chain.clone(),
            mempool: Arc::clone(&self.mempool),
            ingress: self.ingress.clone(),
            health: Arc::clone(&self.health),
            validator: self.validator,
            storage_engine: self.storage_engine,
            clock: Arc::clone(clock),
            metrics,
            admin_token: None,
            dev: None,
            network: None,
            importer: Some(self.importer.clone()),
            cross_site: CrossSiteView::default(),
        }
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

    /// Where certified blocks are handed in.
    #[must_use]
    pub const fn importer(&self) -> &Importer {
        &self.importer
    }

    /// Where the network hands in what validators say.
    #[must_use]
    pub const fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// Whether blocks are made here, and as which validator.
    #[must_use]
    pub const fn validator(&self) -> Option<Address> {
        self.validator
    }

    /// Room on the disk of its data directory.
    #[must_use]
    pub const fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    /// Why the node does not make blocks any more, if it failed.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if failure.is_some() {
            return failure.clone();
        }
        let fault = self.mempool.failure()?;
        self.disk.note_failure(&fault);
        Some(fault.to_string())
    }

    /// Stops: nothing accepted is lost.
    ///
    /// # Errors
    /// The fault that had ended a part, or one while stopping. Every part is stopped all the
    /// same, and what was accepted is on the disk unless the error is that it cannot be written.
    pub fn stop(mut self) -> Result<(), NodeError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), NodeError> {
        if let Some(threads) = self.threads.take() {
            threads.shut_down();
        }
        self.stop.store(true, Ordering::Relaxed);
        self.importer.close();
        // First, because a checkpoint may take long and the rest may fail. What cannot be written
        // was not written since the last time.
        let is_read_only = self.disk.shortage() == Some(Shortage::ReadOnly);
        let flushed = if is_read_only { Ok(()) } else { self.mempool.flush() };
        let panicked = |name| NodeError::Thread { name, what: "panicked".to_owned() };
        let mut result = match self.sequencer.take().map(JoinHandle::join) {
            Some(Err(_)) => Err(panicked("sequencer")),
            Some(Ok(ended)) => ended.map_err(NodeError::from),
            None => Ok(()),
        };
        for (name, thread) in self.workers.drain(..) {
            thread.thread().unpark();
            result = result.and(thread.join().map_err(|_| panicked(name)));
        }
        // Makes the next start shorter, and nothing depends on it.
        if self.disk.shortage().is_none()
            && let Err(error) = self.mempool.compact()
        {
            tracing::warn!(%error, "the journal of pending transactions is not made shorter");
        }
        result.and(flushed.map_err(NodeError::from))
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

fn look_at_disk(options: &NodeOptions) -> Result<Disk, NodeError> {
    let directory = &options.data_dir;
    let look = || {
        std::fs::create_dir_all(directory)?;
        let disk = Disk::open(directory, options.disk)?;
        match disk.shortage() {
            // Not even the databases can be opened.
            Some(Shortage::ReadOnly) => Err(ErrorKind::ReadOnlyFilesystem.into()),
            _ => Ok(disk),
        }
    };
    look().map_err(|source| NodeError::Disk { directory: directory.clone(), source })
}

/// Opens the log and the signer's record of a validator.
pub(crate) fn open_voter(
    data_dir: &Path,
    writer: &ChainWriter,
    key: SecretKey,
) -> Result<(Voter<FileSigner, LogWriter>, Option<Logged>), NodeError> {
    open_voter_as(data_dir, writer, key, |signer, log| (signer, log))
}

/// The same with something around the signer and the log.
pub(crate) fn open_voter_as<S: VoteSigner, L: WriteAheadLog>(
    data_dir: &Path,
    writer: &ChainWriter,
    key: SecretKey,
    wrap: impl FnOnce(FileSigner, LogWriter) -> (S, L),
) -> Result<(Voter<S, L>, Option<Logged>), NodeError> {
    let (chain_id, address) = (writer.chain().chain_id(), key.public_key().address());
    let log_path = data_dir.join("consensus.log");
    let head = writer.height();
    let next = head.next().unwrap_or(head);
    let (log, logged) = FileLog::open(&log_path, next)?;
    let record = data_dir.join("signer.record");
    let mut signer = FileSigner::open(&record, chain_id, key)?;
    if let Some(logged) = &logged {
        if signer.is_ahead(logged) {
            return Err(LogError::Damaged { path: log_path, offset: log.bytes() }.into());
        }
        let caught_up = signer.catch_up(logged);
        caught_up.map_err(|source| SignerError::Io { path: record, source })?;
    }
    let planted = writer.planted();
    let config = ConsensusConfig { planted, ..ConsensusConfig::new(chain_id, address) };
    let log = log.into_writer(logged.as_ref());
    let is_alone = writer.validators().count() == 1;
    let is_logged = logged.as_ref().is_some_and(|(height, all)| *height == next && !all.is_empty());
    let first = match signer.height() {
        // Nobody else has the blocks that are missing here. What is signed is logged before.
        Some(signed) if is_alone && (signed > next || signed == next && !is_logged) => {
            return Err(NodeError::SignedAhead { signed, head });
        }
        Some(signed) if !is_alone && !is_logged => signed.next().unwrap_or(signed).max(next),
        _ => next,
    };
    let (signer, log) = wrap(signer, log);
    let consensus = Consensus::new(config, next, writer.validators(), signer, log);
    Ok((Voter { consensus, address, first }, logged))
}

fn spawn<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, NodeError> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    spawned.map_err(|error| NodeError::Thread { name, what: error.to_string() })
}
