//! A node of the simulation: the parts that ship, without threads of their own for what
//! the simulation decides.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ait_engine::block::Block;
use ait_engine::genesis::GenesisDocument;
use ait_engine::state::Account;
use ait_engine::transaction::{Transaction, VerifiedTransaction};
use ait_engine::types::{Address, Height, TimestampMs, TxHash};
use ait_net::peer::{Fault, PeerAddress, PeerId};
use ait_net::protocol::{Delivery, Input, Local, Output, Protocol, ProtocolOptions};
use tokio::sync::broadcast;

use super::device::Device;
use super::disk::Disk;
use super::plan::key;
use super::ports::{SimLog, SimSigner};
use super::{Bug, replay};
use crate::chain::{self, Chain, ChainOptions, GenesisSource, Step, Stores, trusted};
use crate::gossip::{Judged, judge};
use crate::import::{self, ImportBlock};
use crate::ingress::{self, Clock, SubmitError, Submitted};
use crate::mempool::{Journal, Mempool, MempoolLimits};
use crate::network::bridge::{self, Given};
use crate::network::serve::Bodies;
use crate::node::open_voter_as;
use crate::sequencer::{self, Effect, SequencerCore, SequencerOptions};

/// Pending transactions that a new peer, or all after a while, are told of.
const SHARED_MAX: usize = 2_000;
const SHARE_AGAIN_MS: u64 = 30_000;
/// How often accepted transactions are synced.
const FLUSH_MS: u64 = 250;
/// Of so many occasions, one on which a part of the work behind the writer goes on.
const BEHIND_EVERY: usize = 3;

/// How a node begins.
pub(super) struct Boot<'a> {
    pub(super) n: usize,
    pub(super) document: &'a GenesisDocument,
    pub(super) is_validator: bool,
    pub(super) peers: Vec<PeerAddress>,
    pub(super) disk: &'a Disk,
    pub(super) now_ms: u64,
    /// Time as the node's own clock shows it.
    pub(super) clock_ms: Arc<AtomicU64>,
    pub(super) bug: Option<Bug>,
    /// Until when what the journal holds is synced.
    pub(super) flushed_ms: u64,
}

/// A running process.
pub(super) struct Process {
    pub(super) protocol: Protocol,
    core: SequencerCore<SimSigner, SimLog>,
    pub(super) chain: Chain,
    /// Height of the chain as the process found it.
    pub(super) found: Height,
    pub(super) mempool: Arc<Mempool>,
    accepted: broadcast::Receiver<Arc<VerifiedTransaction>>,
    bodies: Bodies,
    clock: Clock,
    began_ms: u64,
    shared_ms: u64,
    imports: BTreeMap<u64, PeerId>,
    next_import: u64,
    flushed_ms: u64,
    is_journal_failing: bool,
    device: Device,
    journal: PathBuf,
    bug: Option<Bug>,
}

/// What is to be done for a node, one after the other: a process may end between any two.
pub(super) enum Work {
    Effect(Effect),
    Protocol(Input),
    Sequencer(sequencer::Input),
    Deliver(Delivery),
    /// A step of what ships as threads behind the writer.
    Behind(Step),
}

/// What concerns others.
pub(super) enum Outcome {
    Network(Output),
    Effect(Effect),
    Nothing,
}

pub(super) fn id(n: usize) -> PeerId {
    PeerId::from(key("network", n).public_key())
}

impl Process {
    pub(super) fn boot(boot: Boot<'_>, work: &mut VecDeque<Work>) -> Result<Self, String> {
        let disk = boot.disk;
        let stores = disk.stores(boot.bug).map_err(|error| error.to_string())?;
        let booted = Self::begin(boot, &stores, work);
        if booted.is_err() {
            disk.stop();
        }
        booted
    }

    fn begin(boot: Boot<'_>, stores: &Stores, work: &mut VecDeque<Work>) -> Result<Self, String> {
        let Boot { n, document, is_validator, peers, disk, now_ms, clock_ms, .. } = boot;
        let (bug, flushed_ms) = (boot.bug, boot.flushed_ms);
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let build = || Ok(document.build()?);
        let source = GenesisSource { fingerprint: [7; 32], build: &build };
        let mut options = ChainOptions::default();
        options.checkpoints.blocks = 8;
        options.in_steps = true;
        options.planted = bug.filter(|bug| *bug != Bug::FeesTwice || disk.is_in_memory());
        let writer = chain::open(stores, &source, &options, &mut |_| {}).map_err(|e| text(&e))?;
        let chain = writer.chain().clone();
        let clock: Clock =
            Arc::new(move || TimestampMs::saturating(clock_ms.load(Ordering::Relaxed)));
        let journal = Journal::open(&disk.journal());
        let (journal, mut pending) = journal.map_err(|e| text(&e))?;
        if matches!(bug, Some(Bug::ForgottenJournal)) {
            pending.transactions.clear();
        }
        let mempool = Arc::new(Mempool::new(MempoolLimits::default(), Some(journal)));
        let accepted = mempool.subscribe_accepted();
        ingress::restore(&mempool, &chain, pending, clock()).map_err(|e| text(&e))?;
        let (voter, logged) = if is_validator {
            replay::check(disk.directory(), &writer, n)
                .map_err(|what| format!("replaying the log twice: {what}"))?;
            let wrap = |signer, log| {
                let (record, device) = (disk.directory().join("signer.record"), &disk.device);
                let signer =
                    SimSigner::new(signer, key("validator", n), record, device.clone(), bug);
                (signer, SimLog::new(log, disk.log(), device.clone()))
            };
            let opened = open_voter_as(disk.directory(), &writer, key("validator", n), wrap);
            let (voter, logged) = opened.map_err(|e| text(&e))?;
            (Some(voter), logged)
        } else {
            (None, None)
        };
        let interval = Duration::from_millis(200);
        let options = SequencerOptions { block_interval: interval, ..SequencerOptions::default() };
        let mut core =
            SequencerCore::new(writer, voter, Arc::clone(&mempool), Arc::clone(&clock), options);
        let effects = core.recover(logged, Duration::ZERO).map_err(|e| text(&e))?;
        work.extend(effects.into_iter().map(Work::Effect));
        let height = core.writer().height();
        let is_full = disk.device.is_full();
        let protocol = ProtocolOptions {
            us: id(n),
            peers,
            wanted: 0,
            connections_max: 64,
            exchanges_addresses: false,
            seed: n as u64 + 1,
        };
        let mut process = Self {
            protocol: Protocol::new(protocol, height, now_ms),
            core,
            chain,
            found: height,
            mempool,
            accepted,
            bodies: Bodies::default(),
            clock,
            began_ms: now_ms,
            shared_ms: now_ms,
            imports: BTreeMap::new(),
            next_import: 0,
            flushed_ms,
            is_journal_failing: false,
            device: disk.device.clone(),
            journal: disk.journal(),
            bug,
        };
        if is_full {
            process.fail_journal()?;
        }
        Ok(process)
    }

    /// From now on the journal cannot be written: the system answers each write that there is
    /// no room.
    pub(super) fn fail_journal(&mut self) -> Result<(), String> {
        self.is_journal_failing = true;
        let redirected = self.mempool.redirect_journal(Path::new("/dev/full"));
        redirected.map_err(|error| error.to_string())
    }

    /// The journal can be written again.
    pub(super) fn mend_journal(&mut self) -> Result<(), String> {
        if !std::mem::take(&mut self.is_journal_failing) {
            return Ok(());
        }
        self.mempool.redirect_journal(&self.journal).map_err(|error| error.to_string())
    }

    fn since(&self, now_ms: u64) -> Duration {
        Duration::from_millis(now_ms.saturating_sub(self.began_ms))
    }

    /// When the sequencer wants to be woken, in virtual milliseconds.
    pub(super) fn wakes_at(&self) -> Option<u64> {
        if matches!(self.bug, Some(Bug::Busy)) {
            return Some(0);
        }
        let at = self.core.wakes_at()?;
        Some(self.began_ms.saturating_add(u64::try_from(at.as_micros().div_ceil(1_000)).ok()?))
    }

    /// Every now and then.
    pub(super) fn tick(&mut self, now_ms: u64, work: &mut VecDeque<Work>) {
        self.mempool.sweep((self.clock)());
        let is_due = now_ms.saturating_sub(self.flushed_ms) >= FLUSH_MS && !self.is_journal_failing;
        if is_due && self.mempool.flush().is_ok() {
            self.flushed_ms = now_ms;
            self.device.journal_flushed(&self.journal, self.mempool.is_journal_synced());
        }
        if now_ms.saturating_sub(self.shared_ms) >= SHARE_AGAIN_MS {
            self.shared_ms = now_ms;
            let waiting = self.waiting();
            work.push_back(Work::Protocol(Input::Local(Local::Accepted(waiting))));
        }
        work.push_back(Work::Protocol(Input::Tick));
        work.push_back(Work::Sequencer(sequencer::Input::Tick));
        self.go_on_behind(work);
    }

    /// The work behind the writer goes on, now or later.
    fn go_on_behind(&self, work: &mut VecDeque<Work>) {
        for step in [Step::Blocks, Step::Index, Step::Checkpoint] {
            if self.device.below(BEHIND_EVERY) == 0 {
                work.push_back(Work::Behind(step));
            }
        }
    }

    /// Brings the index up to the newest block.
    pub(super) fn index_all(&self) -> Result<(), String> {
        self.core.writer().wait_until_indexed().map_err(|error| error.to_string())
    }

    fn waiting(&self) -> Vec<Arc<VerifiedTransaction>> {
        self.mempool.list(SHARED_MAX, None).into_iter().map(|one| one.transaction).collect()
    }

    /// A client's transactions.
    pub(super) fn submit(
        &mut self,
        transactions: Vec<Transaction>,
        work: &mut VecDeque<Work>,
    ) -> Vec<Result<Submitted, SubmitError>> {
        let results =
            ingress::submit(&self.mempool, &self.chain, transactions, (self.clock)(), None);
        let mut accepted = Vec::new();
        while let Ok(one) = self.accepted.try_recv() {
            accepted.push(one);
        }
        if !accepted.is_empty() {
            work.push_back(Work::Protocol(Input::Local(Local::Accepted(accepted))));
            // The mempool rings the sequencer's bell.
            work.push_back(Work::Sequencer(sequencer::Input::Tick));
        }
        results
    }

    /// Does one thing; what follows from it here goes to the end of the work.
    ///
    /// # Errors
    /// The fault that ends the process.
    pub(super) fn step(
        &mut self,
        one: Work,
        now_ms: u64,
        work: &mut VecDeque<Work>,
    ) -> Result<Vec<Outcome>, String> {
        if self.bug == Some(Bug::Restless) {
            work.push_back(Work::Sequencer(sequencer::Input::Tick));
        }
        match one {
            Work::Protocol(input) => {
                let outputs = self.protocol.handle(now_ms, input);
                let outcome = |output| match output {
                    Output::Deliver(delivery) => {
                        work.push_back(Work::Deliver(delivery));
                        Outcome::Nothing
                    }
                    output => Outcome::Network(output),
                };
                Ok(outputs.into_iter().map(outcome).collect())
            }
            Work::Sequencer(input) => {
                let effects = self.core.handle(self.since(now_ms), input);
                let effects = effects.map_err(|error| error.to_string())?;
                work.extend(effects.into_iter().map(Work::Effect));
                Ok(Vec::new())
            }
            Work::Effect(Effect::Imported { id, result }) => {
                if let (Some(peer), Err(error)) = (self.imports.remove(&id), result) {
                    work.extend(bridge::refused(peer, &error).into_iter().map(Work::Protocol));
                }
                Ok(Vec::new())
            }
            Work::Effect(effect) => Ok(self.effect(effect, work)),
            Work::Deliver(delivery) => {
                self.deliver(delivery, work);
                Ok(Vec::new())
            }
            Work::Behind(step) => {
                self.core.writer().step(step);
                // A fault of the other stores is told at the next commit.
                self.device.ended().map_or(Ok(Vec::new()), |strike| Err(strike.text()))
            }
        }
    }

    fn effect(&mut self, effect: Effect, work: &mut VecDeque<Work>) -> Vec<Outcome> {
        let told = match &effect {
            // What was decided again at the start was told before.
            Effect::Committed(block) if block.height() > self.found => {
                Some(Effect::Committed(Arc::clone(block)))
            }
            Effect::Publish(message) => Some(Effect::Publish(message.clone())),
            _ => None,
        };
        if let Effect::Diverged { .. } = &effect {
            return vec![Outcome::Effect(effect)];
        }
        if let Effect::Committed(block) = &effect {
            assert!(self.bug != Some(Bug::Panic) || block.height().get() < 3, "planted");
            self.go_on_behind(work);
        }
        let said = bridge::said(effect, &mut self.bodies);
        work.extend(said.map(Work::Protocol));
        told.into_iter().map(Outcome::Effect).collect()
    }

    fn deliver(&mut self, delivery: Delivery, work: &mut VecDeque<Work>) {
        let is_final = matches!(delivery, Delivery::Final { .. } | Delivery::Import { .. });
        if is_final && matches!(self.bug, Some(Bug::Deaf)) {
            return;
        }
        match bridge::given(delivery) {
            Given::Sequencer(input) => work.push_back(Work::Sequencer(input)),
            Given::Connected(peer) => {
                let transactions = self.waiting();
                let share = Local::Share { peer, transactions };
                work.push_back(Work::Protocol(Input::Local(share)));
                work.push_back(Work::Sequencer(sequencer::Input::Connected { peer }));
            }
            Given::Transactions(peer, all) => self.take(peer, all, work),
            Given::Import(peer, block, certificate) => {
                let import = ImportBlock { block: *block, certificate };
                self.import(peer, import, work);
            }
        }
    }

    fn take(&mut self, peer: PeerId, all: Vec<(TxHash, Transaction)>, work: &mut VecDeque<Work>) {
        let (hashes, transactions): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        let results = self.submit(transactions, work);
        let Judged { invalid, tally, not_taken } = judge(hashes, results);
        if let Some(reason) = invalid {
            let fault = Fault::BadTransaction;
            work.push_back(Work::Protocol(Input::Fault { peer, fault, reason }));
        }
        let local = Local::Judged { peer, tally, not_taken };
        work.push_back(Work::Protocol(Input::Local(local)));
    }

    fn import(&mut self, peer: PeerId, import: ImportBlock, work: &mut VecDeque<Work>) {
        let Ok(validators) = self.chain.validators() else { return };
        let validators = trusted(validators, self.bug);
        let verify = &mut |all| self.mempool.verify(all);
        let (prepared, error) = import::prepare(vec![import], &validators, verify);
        for prepared in prepared {
            self.next_import += 1;
            let (id, prepared) = (self.next_import, Box::new(prepared));
            self.imports.insert(id, peer);
            work.push_back(Work::Sequencer(sequencer::Input::Import { id, prepared }));
        }
        if let Some(error) = error {
            work.extend(bridge::refused(peer, &error).into_iter().map(Work::Protocol));
        }
    }

    /// A block that was proposed and executed here.
    pub(super) fn proposal(&self, block_id: &ait_engine::types::BlockId) -> Option<&Block> {
        self.core.writer().proposal(block_id)
    }

    /// Until when what was accepted is synced.
    pub(super) fn flushed_ms(&self) -> u64 {
        self.flushed_ms
    }

    /// Next nonce of an account, as committed here, and what it holds.
    pub(super) fn account(&self, address: &Address) -> Result<Account, String> {
        let account = self.chain.account(address).map_err(|error| error.to_string())?;
        Ok(account.unwrap_or_default())
    }

    /// The frame of a body, for who asks.
    pub(super) fn body(&self, block_id: &ait_engine::types::BlockId) -> Option<Vec<u8>> {
        self.bodies.frame(block_id)
    }
}

/// Where a node's files are.
pub(super) fn directory(root: &Path, n: usize) -> PathBuf {
    root.join(format!("node-{n}"))
}
