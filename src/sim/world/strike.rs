//! What goes wrong on purpose.

use super::nodes::failed;
use super::*;

impl World {
    pub(super) fn strike(&mut self) -> Result<(), Violation> {
        let kinds: Vec<_> = self.options.faults.kinds().collect();
        if kinds.is_empty() {
            return Ok(());
        }
        let kind = kinds[self.rng.usize(0..kinds.len())];
        let count = self.sites.len();
        let n = self.rng.usize(0..count);
        let is_of_links =
            matches!(kind, FaultKind::Partition | FaultKind::OneWay | FaultKind::Slow);
        if is_of_links && !self.troubles.is_empty() {
            // One after the other, so that there is a time between them.
            return Ok(());
        }
        match kind {
            // They strike each message or commit.
            FaultKind::Loss
            | FaultKind::Duplication
            | FaultKind::Reordering
            | FaultKind::PowerCut
            | FaultKind::Byzantine
            | FaultKind::Hostile => return Ok(()),
            FaultKind::Partition => {
                let mut side: Vec<bool> = (0..count).map(|_| self.rng.bool()).collect();
                // Somebody is on each side.
                side[n] = !side[(n + 1) % count];
                let all = (0..count).flat_map(|a| (0..count).map(move |b| (a, b)));
                let blocked = all.filter(|(a, b)| side[*a] != side[*b]).collect();
                self.note(|| format!("partition {side:?}"));
                self.trouble(blocked, BTreeSet::new());
            }
            FaultKind::OneWay => {
                let to = (n + self.rng.usize(1..count.max(2))) % count;
                self.note(|| format!("node {to} hears nothing of node {n}"));
                self.trouble(BTreeSet::from([(n, to)]), BTreeSet::new());
            }
            FaultKind::Slow => {
                self.note(|| format!("node {n} is slow"));
                self.trouble(BTreeSet::new(), BTreeSet::from([n]));
            }
            FaultKind::Crash => {
                // After some more effects: between any two. Counted then.
                self.sites[n].fuse = Some(self.rng.u64(0..200));
                return Ok(());
            }
            FaultKind::CrashAll => {
                let is_cut = self.options.faults.has(FaultKind::Torn) && self.rng.bool();
                for n in 0..count {
                    if self.sites[n].process.is_none() {
                        continue;
                    }
                    match is_cut {
                        true => self.power_fails(n, "the power of all is cut")?,
                        false => self.crashed(n, "all end at once")?,
                    }
                }
            }
            // Counted where they strike.
            FaultKind::Torn | FaultKind::ShortWrite => {
                let is_torn = kind == FaultKind::Torn;
                let strike = if is_torn { Strike::Torn } else { Strike::Short };
                if !is_torn && self.rng.u8(0..4) == 0 {
                    self.sites[n].disk.device.break_journal();
                    return self.fail_journal(n);
                }
                let (count, writes) = match self.rng.u8(0..5) {
                    0 => (Count::State, self.rng.u64(0..2)),
                    1 => (Count::Index, self.rng.u64(0..10)),
                    _ => (Count::Waited, self.rng.u64(0..60)),
                };
                self.sites[n].disk.device.strike_in(count, writes, strike);
                return Ok(());
            }
            FaultKind::DiskFull => {
                self.note(|| format!("the disk of node {n} is full"));
                self.sites[n].disk.device.set_full(true);
                let long = self.rng.u64(500..TROUBLE_MS_MAX);
                self.at(long, Happening::Room(n));
                return self.fail_journal(n);
            }
            FaultKind::SlowSigner => {
                self.note(|| format!("the signer of node {n} is slow"));
                self.sites[n].disk.device.set_slow(true);
                let long = self.rng.u64(500..TROUBLE_MS_MAX);
                self.at(long, Happening::Quick(n));
                return Ok(());
            }
            FaultKind::Clock => {
                let skew = self.rng.i64(-3_000..3_000);
                self.sites[n].skew_ms = skew;
                self.note(|| format!("the clock of node {n} is off by {skew} ms"));
            }
        }
        self.faults.count(kind);
        Ok(())
    }

    fn fail_journal(&mut self, n: usize) -> Result<(), Violation> {
        let process = self.sites[n].process.as_mut();
        process.map_or(Ok(()), Process::fail_journal).map_err(|error| failed(n, &error))
    }

    /// A disk that was full has room again.
    pub(super) fn make_room(&mut self, n: usize) -> Result<(), Violation> {
        let site = &mut self.sites[n];
        site.disk.device.set_full(false);
        if site.disk.device.journal_strike().is_some() {
            return Ok(());
        }
        let process = site.process.as_mut();
        process.map_or(Ok(()), Process::mend_journal).map_err(|error| failed(n, &error))
    }

    pub(super) fn trouble(&mut self, blocked: BTreeSet<(usize, usize)>, slow: BTreeSet<usize>) {
        let number = self.next_trouble;
        self.next_trouble += 1;
        for (a, b) in &blocked {
            if let Some(connection) = self.connection(*a, *b) {
                let (a, b) = ((*a).min(*b), (*a).max(*b));
                self.at(IDLE_MS, Happening::Idle { a, b, connection });
            }
        }
        self.troubles.insert(number, Trouble { blocked, slow });
        let long = self.rng.u64(500..TROUBLE_MS_MAX);
        self.at(long, Happening::Heal(number));
    }

    /// The network heals and every node runs, while validators that break the rules go on, and
    /// so do clients: every node that keeps the rules must get a new block.
    pub(super) fn calm(&mut self) -> Result<(), Violation> {
        self.note(|| "all is mended".to_owned());
        self.is_calm = true;
        self.checks.healed(true);
        self.mend()?;
        let wanted = self.checks.height() + 1;
        let is_new = |world: &Self| world.honest().all(|n| world.checks.height_of(n) >= wanted);
        if !self.pass(CALM_MS_MAX, is_new)? {
            return Err(self.stalled());
        }
        self.checks.healed(false);
        (self.is_calm, self.mended) = (false, self.mended + 1);
        Ok(())
    }

    /// Nothing goes wrong any more.
    pub(super) fn quiet(&mut self) -> Result<(), Violation> {
        self.is_quiet = true;
        self.note(|| "nothing goes wrong any more".to_owned());
        self.checks.healed(true);
        self.sites.iter_mut().for_each(|site| site.mute_ms = 0);
        self.mend()
    }

    /// Links, clocks and devices are well, and every process runs.
    fn mend(&mut self) -> Result<(), Violation> {
        self.troubles.clear();
        for n in 0..self.sites.len() {
            self.sites[n].skew_ms = 0;
            self.sites[n].fuse = None;
            self.sites[n].disk.device.repair();
            self.make_room(n)?;
            self.start(n)?;
        }
        Ok(())
    }
}
