//! Processes: how they start, do their work, and end.

use super::byzantine::WRONG_ROOT;
use super::*;
use crate::disk::{Shortage, want_of_room};

/// What a node says that finds in its log what it would not say, or has no record of.
const CONTRADICTED: [&str; 3] = [
    "does not match the recorded one",
    "which was signed already",
    "something else was signed already",
];

/// Final blocks that are read again after a restart.
const REREAD: usize = 3;

impl World {
    pub(super) fn start(&mut self, n: usize) -> Result<(), Violation> {
        if self.sites[n].process.is_some() {
            return Ok(());
        }
        self.plan_power_cut(n);
        self.sites[n].disk.restart();
        let count = self.sites.len().max(self.options.nodes());
        let address = |to| PeerAddress { id: id(to), host: format!("node-{to}"), port: 7_000 };
        let is_validator = n < self.options.weights.len();
        let (now_ms, site) = (self.now_ms, &mut self.sites[n]);
        site.work.clear();
        let boot = Boot {
            n,
            document: &self.document,
            is_validator,
            peers: (0..count).filter(|to| *to != n).map(address).collect(),
            disk: &site.disk,
            now_ms,
            clock_ms: Arc::clone(&site.clock_ms),
            bug: self.options.bug,
            flushed_ms: site.flushed_ms,
        };
        let is_first = site.boot == 0;
        site.boot += 1;
        match Process::boot(boot, &mut site.work) {
            Ok(process) => {
                let found = process.found.get();
                let before = self.checks.height_of(n);
                for height in before + 1..=found {
                    // Durable, and told to nobody before the process ended.
                    let block = process.chain.block(Height::saturating(height));
                    let missing = || Violation::Lost { node: n, before: height, found };
                    let block = block.ok().flatten().ok_or_else(missing)?;
                    self.checks.committed(n, &block)?;
                }
                self.checks.restarted(n, found)?;
                self.checks.own_state(n, &process.chain)?;
                // All of them at the end.
                let sample = (0..REREAD).map(|_| self.rng.u64(0..=found));
                let sample: Vec<_> = sample.collect();
                self.checks.blocks_stand(n, &process.chain, sample.into_iter())?;
                let lost_after_ms = self.sites[n].lost_after_ms.take();
                self.checks.holds(n, &process, lost_after_ms)?;
                self.sites[n].process = Some(process);
                self.note(|| format!("node {n} starts at height {found}"));
                if is_first {
                    self.at(n as u64, Happening::Tick(n));
                }
                self.work(n)
            }
            Err(reason) => self.ended(n, reason),
        }
    }

    /// Plans, at times, a power cut in a commit of the next process.
    fn plan_power_cut(&mut self, n: usize) {
        let is_wanted =
            !self.is_quiet && !self.is_calm && self.options.faults.has(FaultKind::PowerCut);
        if !is_wanted || self.rng.u8(0..4) > 0 {
            return;
        }
        let (count, commits) = match self.rng.u8(0..4) {
            0 => (Count::State, self.rng.u64(0..4)),
            1 => (Count::Index, self.rng.u64(0..30)),
            _ => (Count::Blocks, self.rng.u64(2..60)),
        };
        let moment = MOMENTS[self.rng.usize(0..MOMENTS.len())];
        self.sites[n].disk.device.strike_in(count, commits, Strike::Cut(moment));
    }

    /// A process ended by itself: by what was done to it, or by a fault of its own.
    fn ended(&mut self, n: usize, reason: String) -> Result<(), Violation> {
        let strike = self.sites[n].disk.device.take_end();
        match strike {
            Some(strike) if !strike.explains(&reason) => Err(Violation::Failed { node: n, reason }),
            Some(Strike::Short) => {
                self.faults.count(FaultKind::ShortWrite);
                self.crashed(n, "a write failed")
            }
            Some(Strike::Full) => {
                self.faults.count(FaultKind::DiskFull);
                self.crashed(n, "no room on its disk")
            }
            Some(Strike::Torn) => {
                self.faults.count(FaultKind::Torn);
                self.power_fails(n, "a power cut in a write")
            }
            Some(Strike::Cut(_)) => {
                self.faults.count(FaultKind::PowerCut);
                self.power_fails(n, "a power cut in a commit")
            }
            // Others passed on to it what it said twice: it forgets, as such a one would.
            None if self.byzantine.contains(&n)
                && CONTRADICTED.iter().any(|c| reason.contains(c)) =>
            {
                self.sites[n].disk.lose_log();
                self.crashed(n, "its log holds what it said twice")
            }
            None | Some(Strike::Gone) => Err(Violation::Failed { node: n, reason }),
        }
    }

    /// The power of a node is cut.
    pub(super) fn power_fails(&mut self, n: usize, why: &str) -> Result<(), Violation> {
        let tears = self.options.faults.has(FaultKind::Torn);
        self.crashed(n, why)?;
        if tears {
            let site = &mut self.sites[n];
            site.lost_after_ms = site.lost_after_ms.or(Some(site.flushed_ms));
        }
        let bug = self.options.bug;
        let unsynced =
            self.sites[n].disk.cut_power(tears, bug).map_err(|error| failed(n, &error))?;
        self.note(|| format!("{unsynced} writes of its stores were not synced"));
        Ok(())
    }

    /// The signer may have taken its time, or signed too early.
    fn look_at_device(&mut self, n: usize) -> Result<(), Violation> {
        let device = &self.sites[n].disk.device;
        if let Some(what) = device.broken_barrier() {
            return Err(Violation::Barrier { node: n, what });
        }
        let waited_ms = device.take_wait();
        if waited_ms > 0 {
            self.faults.count(FaultKind::SlowSigner);
            self.sites[n].busy_ms = self.now_ms + waited_ms;
            self.at(waited_ms, Happening::Resume(n));
        }
        Ok(())
    }

    /// The process is gone; its connections are found dead later.
    pub(super) fn crashed(&mut self, n: usize, why: &str) -> Result<(), Violation> {
        self.note(|| format!("node {n} ends: {why}"));
        let site = &mut self.sites[n];
        if let Some(process) = site.process.take() {
            self.checks.holds(n, &process, None)?;
            site.flushed_ms = process.flushed_ms();
            site.disk.stop();
        }
        site.disk.device.take_end();
        if matches!(self.options.bug, Some(Bug::NoRecord)) {
            site.disk.lose_log();
        }
        site.work.clear();
        (site.wake_ms, site.fuse, site.busy_ms) = (None, None, 0);
        let dead: Vec<_> = self
            .connections
            .iter()
            .filter(|((a, b), _)| *a == n || *b == n)
            .map(|(k, v)| (*k, *v))
            .collect();
        for ((a, b), connection) in dead {
            self.at(IDLE_MS, Happening::Idle { a, b, connection });
        }
        let pause = if self.is_quiet || self.is_calm { 1 } else { self.about(6_000) };
        self.at(pause, Happening::Start(n));
        Ok(())
    }

    pub(super) fn feed(&mut self, n: usize, input: Input) -> Result<(), Violation> {
        self.sites[n].work.push_back(Work::Protocol(input));
        self.work(n)
    }

    /// Does what there is to do, one thing after the other.
    pub(super) fn work(&mut self, n: usize) -> Result<(), Violation> {
        while let Some(one) = self.sites[n].next_work(self.now_ms) {
            self.at_once()?;
            let (now_ms, site) = (self.now_ms, &mut self.sites[n]);
            let Some(process) = &mut site.process else {
                site.work.clear();
                return Ok(());
            };
            if let Some(fuse) = &mut site.fuse {
                if *fuse == 0 {
                    self.faults.count(FaultKind::Crash);
                    return self.crashed(n, "a crash between two effects");
                }
                *fuse -= 1;
            }
            match process.step(one, now_ms, &mut site.work) {
                Ok(outcomes) => {
                    for outcome in outcomes {
                        self.outcome(n, outcome)?;
                    }
                }
                Err(reason) => return self.ended(n, reason),
            }
            self.look_at_device(n)?;
        }
        if let Some(reason) = self.sites[n].process.as_ref().and_then(|p| p.mempool.failure()) {
            let strike = self.sites[n].disk.device.journal_strike();
            let kind = match strike.filter(|_| want_of_room(&reason) == Some(Shortage::FULL)) {
                Some(Strike::Full) => FaultKind::DiskFull,
                Some(_) => FaultKind::ShortWrite,
                None => return Err(Violation::Failed { node: n, reason: reason.to_string() }),
            };
            self.faults.count(kind);
            self.sites[n].disk.shorten_journal().map_err(|error| failed(n, &error))?;
            return self.crashed(n, "its journal cannot be written");
        }
        let site = &mut self.sites[n];
        let wake = site.process.as_ref().and_then(Process::wakes_at);
        // Not while its signer is waited for.
        let wake = wake.map(|at| at.max(self.now_ms).max(site.busy_ms));
        if let Some(at) = wake
            && site.wake_ms.is_none_or(|known| at < known || known < self.now_ms)
        {
            site.wake_ms = Some(at);
            self.at(at - self.now_ms, Happening::Wake(n, at));
        }
        Ok(())
    }

    pub(super) fn outcome(&mut self, n: usize, outcome: Outcome) -> Result<(), Violation> {
        match outcome {
            Outcome::Nothing => {}
            Outcome::Effect(Effect::Committed(block)) => {
                let (height, id) = (block.height(), block.id);
                self.note(|| format!("node {n} commits {height} {id}"));
                self.checks.committed(n, &block)?;
                self.sent.retain(|hash, _| self.checks.is_open(hash));
                self.remember(&block.block.transactions);
                let process = self.sites[n].process.as_ref();
                let chain = process.map(|process| &process.chain);
                if let Some(chain) = chain {
                    self.checks.own_state(n, chain)?;
                    if chain.head().height.get() == self.checks.height() {
                        self.checks.balances(n, chain)?;
                    }
                }
                self.certify_lies(n, &block);
            }
            Outcome::Effect(Effect::Publish(message)) => {
                self.sites[n].disk.device.publishes();
                if !self.byzantine.contains(&n) {
                    self.checks.published(n, &message)?;
                }
                self.lie(n, &message);
            }
            Outcome::Effect(Effect::Diverged { divergence }) => {
                // Whoever lies may propose anew, with a wrong root, what another has made.
                if divergence.block.header.state_root != WRONG_ROOT {
                    return Err(Violation::Failed { node: n, reason: divergence.reason.clone() });
                }
            }
            Outcome::Effect(_) => {}
            Outcome::Network(Output::Disconnect { peer, reason })
                if reason.starts_with("banned") && self.is_wronged(n, &peer) =>
            {
                let node = self.index(&peer).unwrap_or(n);
                return Err(Violation::Banned { node, by: n, reason });
            }
            Outcome::Network(output) => self.perform(n, output),
        }
        Ok(())
    }

    /// Whether both keep the rules.
    fn is_wronged(&self, by: usize, peer: &PeerId) -> bool {
        let honest = |n: usize| !self.byzantine.contains(&n);
        honest(by) && self.index(peer).is_some_and(honest)
    }
}

impl Site {
    /// The next thing to do, unless the signer is waited for.
    fn next_work(&mut self, now_ms: u64) -> Option<Work> {
        if now_ms < self.busy_ms { None } else { self.work.pop_front() }
    }
}

pub(super) fn failed(node: usize, error: &dyn std::fmt::Display) -> Violation {
    Violation::Failed { node, reason: error.to_string() }
}
