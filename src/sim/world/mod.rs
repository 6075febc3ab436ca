//! The cluster: events in the order of virtual time, links, clients, faults.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ait_engine::certificate::Certificate;
use ait_engine::codec::Canonical;
use ait_engine::genesis::GenesisDocument;
use ait_engine::transaction::{Payload, Transaction};
use ait_engine::types::{Amount, Height, Nonce, TxHash};
use ait_net::gossip::TransactionBatch;
use ait_net::message::{Blocks, Body, Control, Hello, Request, hello};
use ait_net::peer::{PeerAddress, PeerId};
use ait_net::protocol::{Frame, Input, Output};
use fastrand::Rng;

use super::check::Checks;
use super::device::{Count, MOMENTS, Strike};
use super::disk::Disk;
use super::faults::{FaultCounts, FaultKind};
use super::node::{Boot, Outcome, Process, Work, directory, id};
use super::plan::{ACCOUNTS, BEGAN, HOSTILE, SimOptions, chain_id, document, key};
use super::{Bug, SimFailure, SimReport, Violation};
use crate::network::serve;
use crate::sequencer::Effect;
use crate::telemetry::panics::contained;

mod byzantine;
mod clients;
mod links;
mod nodes;
mod strike;

const TICK_MS: u64 = 100;
/// A connection without a packet ends.
const IDLE_MS: u64 = 10_000;
/// A lost packet is sent again after about this long.
const AGAIN_MS: u64 = 250;
/// Mean time between two faults, and between two transactions.
const FAULT_MS: u64 = 2_500;
const CLIENT_MS: u64 = 40;
/// Longest cut of links: some outlast the connections.
const TROUBLE_MS_MAX: u64 = 15_000;
/// How often clients look what became of what they sent, and nodes for what they accepted.
const RESEND_MS: u64 = 500;
/// How long things go wrong at most, for each height that is to be reached.
const HEIGHT_MS: u64 = 4_000;
/// How long things go wrong at a stretch.
const WILD_MS: u64 = 20_000;
/// While validators lie every node must have a new block within this: a block may need rounds
/// that grow longer and longer.
const CALM_MS_MAX: u64 = 600_000;
/// Once nothing is wrong any more everything accepted must be final within this.
const QUIET_MS_MAX: u64 = 60_000;
/// Events, and things that nodes do, in one millisecond that only one causes that never comes
/// to rest.
const EVENTS_MAX: u64 = 20_000;
/// Last things that a failure shows.
const TRACE_MAX: usize = 60;

enum Happening {
    Tick(usize),
    Wake(usize, u64),
    Client,
    Strike,
    Arrive {
        to: usize,
        from: usize,
        connection: u64,
        input: Box<Input>,
        kind: usize,
    },
    Call {
        to: usize,
        from: usize,
        boot: u64,
    },
    Told {
        at: usize,
        boot: u64,
        input: Box<Input>,
    },
    Ask {
        to: usize,
        from: usize,
        connection: u64,
        id: u64,
        request: Request,
    },
    Idle {
        a: usize,
        b: usize,
        connection: u64,
    },
    Start(usize),
    Heal(usize),
    /// A node's disk has room again.
    Room(usize),
    /// A node's signer is quick again.
    Quick(usize),
    /// A signer that was waited for is done.
    Resume(usize),
    /// Clients send again what a node lost.
    Resend,
}

struct Site {
    disk: Disk,
    process: Option<Process>,
    work: VecDeque<Work>,
    /// Counts starts: what was meant for an earlier process is for nobody.
    boot: u64,
    clock_ms: Arc<AtomicU64>,
    skew_ms: i64,
    wake_ms: Option<u64>,
    /// Effects until the process ends, if it is to.
    fuse: Option<u64>,
    /// Its signer is waited for until then.
    busy_ms: u64,
    /// Until when what the last process accepted is synced.
    flushed_ms: u64,
    /// The last process ended in a power cut: what it accepted from then on may be gone.
    lost_after_ms: Option<u64>,
    /// A validator that breaks the rules says nothing until then.
    mute_ms: u64,
}

/// A cut or a slow link that ends.
struct Trouble {
    blocked: BTreeSet<(usize, usize)>,
    slow: BTreeSet<usize>,
}

pub(super) struct World {
    seed: u64,
    options: SimOptions,
    rng: Rng,
    now_ms: u64,
    events: u64,
    /// Events, and things that nodes did, since virtual time last moved.
    at_once: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    sequence: u64,
    sites: Vec<Site>,
    document: GenesisDocument,
    connections: BTreeMap<(usize, usize), u64>,
    next_connection: u64,
    /// When the last message of a stream arrives: they do not overtake each other.
    streams: BTreeMap<(usize, usize, usize), u64>,
    /// On which connection a node takes no transactions from a peer, and until when.
    pauses: BTreeMap<(usize, usize), (u64, u64)>,
    pause_count: u64,
    troubles: BTreeMap<usize, Trouble>,
    next_trouble: usize,
    nonces: [u64; ACCOUNTS],
    /// What clients sent that is in no block yet.
    sent: BTreeMap<TxHash, Transaction>,
    /// Some that is.
    included: Vec<Transaction>,
    /// Validators that break the rules.
    byzantine: BTreeSet<usize>,
    /// Certificates that they saw and may tell again.
    certificates: Vec<Certificate>,
    /// Whether one of them is yet to send more than a peer may that is refused.
    floods: bool,
    checks: Checks,
    faults: FaultCounts,
    /// Nothing new goes wrong, but validators lie as before.
    is_calm: bool,
    mended: u64,
    /// Nothing goes wrong any more.
    is_quiet: bool,
    trace: VecDeque<String>,
    hash: blake3::Hasher,
    // Removed with it; nothing else of it is read.
    folder: tempfile::TempDir,
}

impl World {
    pub(super) fn new(seed: u64, options: SimOptions) -> Self {
        let document = document(&options);
        // In memory where there is such a place: what is synced there costs nothing.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let folder = folder.expect("a temporary directory can be made");
        Self {
            seed,
            rng: Rng::with_seed(seed),
            now_ms: 0,
            events: 0,
            at_once: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            sites: Vec::new(),
            connections: BTreeMap::new(),
            next_connection: 0,
            streams: BTreeMap::new(),
            pauses: BTreeMap::new(),
            pause_count: 0,
            troubles: BTreeMap::new(),
            next_trouble: 0,
            nonces: [0; ACCOUNTS],
            checks: Checks::new(&options),
            sent: BTreeMap::new(),
            included: Vec::new(),
            byzantine: BTreeSet::new(),
            certificates: Vec::new(),
            floods: false,
            faults: FaultCounts::default(),
            is_calm: false,
            mended: 0,
            is_quiet: false,
            trace: VecDeque::new(),
            hash: blake3::Hasher::new(),
            document,
            options,
            folder,
        }
    }

    pub(super) fn run(mut self) -> Result<SimReport, Box<SimFailure>> {
        let played = contained(|| self.play());
        match played.unwrap_or_else(|what| Err(Violation::Panicked(what))) {
            Ok(()) => Ok(SimReport {
                seed: self.seed,
                height: self.checks.height(),
                transactions: self.checks.count(),
                virtual_ms: self.now_ms,
                events: self.events,
                faults: self.faults,
                extra_rounds: self.checks.extra_rounds,
                healed_round: self.checks.healed_round,
                mended: self.mended,
                pauses: self.pause_count,
                trace: self.hash.finalize().to_hex()[..16].to_owned(),
            }),
            Err(violation) => Err(Box::new(SimFailure {
                seed: self.seed,
                violation,
                virtual_ms: self.now_ms,
                faults: self.faults,
                trace: self.trace.into(),
            })),
        }
    }

    fn play(&mut self) -> Result<(), Violation> {
        self.choose_byzantine();
        for n in 0..self.options.nodes() {
            let root = self.folder.path();
            let (seed, bug) = (self.rng.u64(..), self.options.bug);
            let disk = Disk::new(directory(root, n), n % 2 == 0, seed, bug);
            let failed =
                |error: std::io::Error| Violation::Failed { node: n, reason: error.to_string() };
            self.sites.push(Site {
                disk: disk.map_err(failed)?,
                process: None,
                work: VecDeque::new(),
                boot: 0,
                clock_ms: Arc::default(),
                skew_ms: 0,
                wake_ms: None,
                fuse: None,
                busy_ms: 0,
                flushed_ms: 0,
                lost_after_ms: None,
                mute_ms: 0,
            });
            self.start(n)?;
        }
        self.at(1, Happening::Client);
        self.at(RESEND_MS, Happening::Resend);
        self.at(FAULT_MS, Happening::Strike);
        let mut wild_ms = self.options.heights.saturating_mul(HEIGHT_MS);
        let is_reached = |world: &Self| world.checks.height() >= world.options.heights;
        while !self.pass(wild_ms.min(WILD_MS), is_reached)? {
            wild_ms = wild_ms.saturating_sub(WILD_MS);
            // Also after the last: a run in which nothing is ever decided is not a good one.
            self.calm()?;
            if wild_ms == 0 {
                break;
            }
        }
        self.quiet()?;
        let is_done = |world: &Self| {
            world.checks.unfinished().is_none()
                && world.honest().all(|n| world.checks.height_of(n) == world.checks.height())
        };
        if !self.pass(QUIET_MS_MAX, is_done)? {
            return Err(self.stalled());
        }
        let honest: Vec<_> = self.honest().collect();
        honest.into_iter().try_for_each(|n| self.compare(n))
    }

    /// Lets time pass until something holds, or it is over; whether it holds.
    fn pass(&mut self, limit_ms: u64, holds: impl Fn(&Self) -> bool) -> Result<bool, Violation> {
        let end = self.now_ms.saturating_add(limit_ms);
        while !holds(self) {
            let next = self.queue.first_key_value().filter(|((at, _), _)| *at <= end);
            let Some(((at, _), happening)) =
                next.is_some().then(|| self.queue.pop_first()).flatten()
            else {
                return Ok(false);
            };
            if at > self.now_ms {
                (self.now_ms, self.at_once) = (at, 0);
            }
            self.at_once()?;
            self.events += 1;
            for site in &self.sites {
                let now = i64::try_from(BEGAN * 1_000 + at).unwrap_or(i64::MAX);
                let shown = now.saturating_add(site.skew_ms);
                site.clock_ms.store(u64::try_from(shown).unwrap_or(0), Ordering::Relaxed);
            }
            self.happen(happening)?;
        }
        Ok(true)
    }

    /// Counts what happens at one instant, which must come to an end.
    fn at_once(&mut self) -> Result<(), Violation> {
        self.at_once += 1;
        if self.at_once > EVENTS_MAX { Err(Violation::Busy(self.now_ms)) } else { Ok(()) }
    }

    /// Why not everything is final.
    fn stalled(&self) -> Violation {
        if let Some((hash, node)) = self.checks.unfinished() {
            let at: Vec<_> = self
                .sites
                .iter()
                .map(|site| {
                    let process = site.process.as_ref()?;
                    Some(format!("{:?}", process.mempool.status(&hash)))
                })
                .collect();
            return Violation::Unfinished { hash, node, what: format!("{at:?}") };
        }
        let heights: Vec<_> = (0..self.sites.len()).map(|n| self.checks.height_of(n)).collect();
        Violation::Stalled(format!("heights {heights:?}"))
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        let line = format!("{:>8} ms  {}", self.now_ms, what());
        tracing::debug!("{line}");
        self.hash.update(line.as_bytes());
        if self.trace.len() == TRACE_MAX {
            self.trace.pop_front();
        }
        self.trace.push_back(line);
    }

    fn at(&mut self, after_ms: u64, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((self.now_ms + after_ms, self.sequence), happening);
    }

    /// Around a mean; exponential would need floats.
    fn about(&mut self, mean_ms: u64) -> u64 {
        self.rng.u64(0..=mean_ms * 2)
    }

    fn happen(&mut self, happening: Happening) -> Result<(), Violation> {
        match happening {
            Happening::Tick(n) => {
                self.at(TICK_MS, Happening::Tick(n));
                let (now_ms, site) = (self.now_ms, &mut self.sites[n]);
                if let Some(process) = &mut site.process {
                    process.tick(now_ms, &mut site.work);
                    if now_ms % 1_000 < TICK_MS {
                        self.checks.holds(n, process, None)?;
                    }
                }
                self.work(n)
            }
            Happening::Wake(n, at) => {
                if self.sites[n].wake_ms == Some(at) && self.sites[n].process.is_some() {
                    self.sites[n].wake_ms = None;
                    let tick = Work::Sequencer(crate::sequencer::Input::Tick);
                    self.sites[n].work.push_back(tick);
                    return self.work(n);
                }
                Ok(())
            }
            Happening::Client => {
                if self.is_quiet {
                    return Ok(());
                }
                let pause = self.about(CLIENT_MS).max(1);
                self.at(pause, Happening::Client);
                self.client()
            }
            Happening::Strike => {
                if self.is_quiet {
                    return Ok(());
                }
                let pause = self.about(FAULT_MS).max(1);
                self.at(pause, Happening::Strike);
                if self.is_calm { Ok(()) } else { self.strike() }
            }
            Happening::Start(n) => self.start(n),
            Happening::Heal(trouble) => {
                self.troubles.remove(&trouble);
                Ok(())
            }
            Happening::Arrive { to, from, connection, input, kind } => {
                self.arrive(to, from, connection, input, kind)
            }
            Happening::Call { to, from, boot } => self.called(to, from, boot),
            Happening::Told { at, boot, input } => {
                if self.sites[at].boot == boot {
                    return self.feed(at, *input);
                }
                Ok(())
            }
            Happening::Ask { to, from, connection, id, request } => {
                self.asked(to, from, connection, id, request)
            }
            Happening::Idle { a, b, connection } => self.idle(a, b, connection),
            Happening::Room(n) => self.make_room(n),
            Happening::Quick(n) => {
                self.sites[n].disk.device.set_slow(false);
                Ok(())
            }
            Happening::Resume(n) => self.work(n),
            Happening::Resend => {
                self.at(RESEND_MS, Happening::Resend);
                self.resend()
            }
        }
    }

    /// Nodes that keep the rules.
    fn honest(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.sites.len()).filter(|n| !self.byzantine.contains(n))
    }

    /// What a node holds at the end, and what the model says.
    fn compare(&mut self, n: usize) -> Result<(), Violation> {
        if self.sites[n].disk.device.is_behind() {
            // It would end at its next block.
            self.crashed(n, "the work behind it has ended")?;
            self.start(n)?;
        }
        let Some(process) = &self.sites[n].process else {
            return Err(Violation::Failed { node: n, reason: "it does not run".to_owned() });
        };
        let chain = &process.chain;
        self.checks.own_state(n, chain)?;
        self.checks.balances(n, chain)?;
        self.checks.proofs(n, chain)?;
        self.checks.blocks_stand(n, chain, 1..=self.checks.height())?;
        self.checks.holds(n, process, None)?;
        process.index_all().map_err(|reason| Violation::Failed { node: n, reason })?;
        self.checks.index(n, chain)
    }
}
