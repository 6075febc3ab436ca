//! Processes: how they start, do their work, and end.

use super::*;

impl World {
    pub(super) fn start(&mut self, n: usize) -> Result<(), Violation> {
        if self.sites[n].process.is_some() {
            return Ok(());
        }
        let power_cut = self.power_cut();
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
            power_cut,
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
                self.sites[n].process = Some(process);
                self.note(|| format!("node {n} starts at height {found}"));
                if is_first {
                    self.at(n as u64, Happening::Tick(n));
                }
                self.work(n)
            }
            // It was cut off while it opened its files.
            Err(_) if power_cut.is_some() => self.crashed(n, "a power cut at its start"),
            Err(reason) => Err(Violation::Failed { node: n, reason }),
        }
    }

    /// Whether the next power cut of a process is planned, and at which commit.
    pub(super) fn power_cut(&mut self) -> Option<(u64, FaultMoment)> {
        let is_wanted = !self.is_quiet && self.options.faults.has(FaultKind::PowerCut);
        if !is_wanted || self.rng.u8(0..4) > 0 {
            return None;
        }
        let moments = [FaultMoment::Before, FaultMoment::Inside, FaultMoment::After];
        Some((self.rng.u64(3..60), moments[self.rng.usize(0..3)]))
    }

    /// The process is gone; its connections are found dead later.
    pub(super) fn crashed(&mut self, n: usize, why: &str) -> Result<(), Violation> {
        self.note(|| format!("node {n} ends: {why}"));
        let site = &mut self.sites[n];
        site.process = None;
        site.work.clear();
        (site.wake_ms, site.fuse) = (None, None);
        let dead: Vec<_> = self
            .connections
            .iter()
            .filter(|((a, b), _)| *a == n || *b == n)
            .map(|(k, v)| (*k, *v))
            .collect();
        for ((a, b), connection) in dead {
            self.at(IDLE_MS, Happening::Idle { a, b, connection });
        }
        let pause = if self.is_quiet { 1 } else { self.about(6_000) };
        self.at(pause, Happening::Start(n));
        Ok(())
    }

    pub(super) fn feed(&mut self, n: usize, input: Input) -> Result<(), Violation> {
        self.sites[n].work.push_back(Work::Protocol(input));
        self.work(n)
    }

    /// Does what there is to do, one thing after the other.
    pub(super) fn work(&mut self, n: usize) -> Result<(), Violation> {
        while let Some(one) = self.sites[n].work.pop_front() {
            let (now_ms, site) = (self.now_ms, &mut self.sites[n]);
            let Some(process) = &mut site.process else {
                site.work.clear();
                return Ok(());
            };
            if let Some(fuse) = &mut site.fuse {
                if *fuse == 0 {
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
                Err(reason) if reason.contains("crash") => {
                    // The wrapper around the storage ended it.
                    self.faults.count(FaultKind::PowerCut);
                    self.sites[n].process = None;
                    self.sites[n].disk.cut_power();
                    return self.crashed(n, "a power cut in a commit");
                }
                Err(reason) => return Err(Violation::Failed { node: n, reason }),
            }
        }
        let site = &mut self.sites[n];
        let wake = site.process.as_ref().and_then(Process::wakes_at);
        if let Some(at) = wake
            && site.wake_ms.is_none_or(|known| at < known || known < self.now_ms)
        {
            site.wake_ms = Some(at.max(self.now_ms));
            let at = at.max(self.now_ms);
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
            }
            Outcome::Effect(Effect::Publish(message)) => self.checks.published(n, &message)?,
            Outcome::Effect(_) => {}
            Outcome::Network(output) => self.perform(n, output),
        }
        Ok(())
    }
}
