//! The state machine: polls every remote, fetches missing blocks from one at a time while
//! the ones before are imported, and shares pending transactions.
//!
//! Blocks are only pulled, so that each site decides what it takes. No clock and no I/O.

use ait_engine::types::Height;

use super::mempool;
use super::port::{
    CrossSiteOptions, Effect, Failure, ImportFault, Input, Remote, RemoteBlock, RemoteHead,
    RemoteReason, RemoteStatus,
};
use super::remote::{BACKOFF_MS_MAX, RemoteState};

/// Blocks of one request at most.
pub const RANGE_BLOCKS_MAX: u64 = 100;
/// Pause before blocks are asked for again that found no room.
const LATER_MS: u64 = 1_000;

/// Fetching of missing blocks from one remote.
#[derive(Debug)]
struct Fetch {
    remote: Remote,
    /// The newest block that the remote has.
    target: Height,
    /// Height that is asked for next.
    next: u64,
    /// First of the heights that were asked for.
    asked: Option<u64>,
    /// Blocks that came while others are imported.
    ready: Option<Vec<RemoteBlock>>,
}

/// Cross-site sync as a state machine.
#[derive(Debug)]
pub struct CrossSite {
    pub(super) options: CrossSiteOptions,
    pub(super) remotes: Vec<RemoteState>,
    height: Height,
    fetch: Option<Fetch>,
    /// Whose blocks are imported: one range at a time, in order.
    importing: Option<Remote>,
    random: u64,
    pub(super) effects: Vec<Effect>,
}

impl CrossSite {
    /// Begins; the first polls are spread over one interval's tenth.
    #[must_use]
    pub fn new(now_ms: u64, options: CrossSiteOptions) -> Self {
        let (height, random) = (options.height, options.seed);
        let mut core = Self {
            options,
            remotes: Vec::new(),
            height,
            fetch: None,
            importing: None,
            random,
            effects: Vec::new(),
        };
        for _ in 0..core.options.remotes {
            let spread = core.below((core.options.poll_interval_ms / 10).saturating_add(1));
            core.remotes.push(RemoteState::new(now_ms.saturating_add(spread)));
        }
        core
    }

    /// Takes in what happened; gives what is to be done.
    pub fn handle(&mut self, now_ms: u64, input: Input) -> Vec<Effect> {
        match input {
            Input::Tick => {}
            Input::LocalHead(height) => self.height = height,
            Input::Head(remote, result) => self.on_head(now_ms, remote, result),
            Input::Blocks(remote, from, result) => self.on_blocks(now_ms, remote, from, result),
            Input::Imported(remote, count, fault) => {
                self.on_imported(now_ms, remote, count, fault);
            }
            Input::Mempool(..)
            | Input::NotTaken(..)
            | Input::Pending(..)
            | Input::NotPushed(..) => {
                mempool::handle(self, input);
            }
        }
        self.poll(now_ms);
        self.go_on();
        std::mem::take(&mut self.effects)
    }

    /// How every remote stands.
    #[must_use]
    pub fn status(&self, now_ms: u64) -> Vec<RemoteStatus> {
        let numbered = self.remotes.iter().enumerate();
        numbered.map(|(remote, state)| state.status(remote, now_ms)).collect()
    }

    /// When [`Input::Tick`] is due at the latest.
    #[must_use]
    pub fn next_tick_ms(&self) -> Option<u64> {
        let waiting = self.remotes.iter().filter(|state| !state.is_polled);
        waiting.map(|state| state.poll_at).min()
    }

    fn poll(&mut self, now: u64) {
        for (remote, state) in self.remotes.iter_mut().enumerate() {
            if !state.is_polled && state.poll_at <= now {
                state.is_polled = true;
                self.effects.push(Effect::AskHead(remote));
            }
        }
    }

    fn on_head(&mut self, now: u64, remote: Remote, result: Result<RemoteHead, Failure>) {
        let interval = self.options.poll_interval_ms;
        let delay = self.jittered(interval);
        let Some(state) = self.remotes.get_mut(remote) else { return };
        state.is_polled = false;
        if state.is_set_aside(now) {
            // It was asked before: what it says of itself excuses none of what it did since.
            return;
        }
        match result {
            Err(Failure::Unreachable(error)) => {
                self.failed(now, remote, RemoteReason::Unreachable, error);
            }
            Err(Failure::Answer(error)) => {
                self.failed(now, remote, RemoteReason::BadAnswer, error);
            }
            Ok(head) if head.genesis != self.options.genesis => {
                let (ours, theirs) = (self.options.genesis, head.genesis);
                let error = format!("its genesis is {theirs}, ours is {ours}");
                self.failed(now, remote, RemoteReason::OtherChain, error);
            }
            Ok(head) => {
                state.succeeded(now);
                state.height = Some(head.height);
                state.poll_at = now.saturating_add(delay);
                state.sharing.pages = 0;
                if let Some(fetch) = self.fetch.as_mut().filter(|fetch| fetch.remote == remote) {
                    fetch.target = fetch.target.max(head.height);
                }
                if self.options.mempool {
                    mempool::share(self, remote);
                }
            }
        }
    }

    fn on_blocks(
        &mut self,
        now: u64,
        remote: Remote,
        from: Height,
        result: Result<Vec<RemoteBlock>, Failure>,
    ) {
        // An answer to a fetch that was given up is nobody's.
        let asked = |fetch: &&mut Fetch| fetch.remote == remote && fetch.asked == Some(from.get());
        let Some(fetch) = self.fetch.as_mut().filter(asked) else { return };
        fetch.asked = None;
        let first = from.get();
        let (reason, error) = match result {
            Ok(blocks) => {
                let heights = blocks.iter().map(|(block, _)| block.header.height.get());
                let is_some = (1..=RANGE_BLOCKS_MAX).contains(&(blocks.len() as u64));
                if is_some && (first..).zip(heights).all(|(expected, found)| expected == found) {
                    fetch.next = first.saturating_add(blocks.len() as u64);
                    fetch.ready = Some(blocks);
                    return;
                }
                let error = format!("it did not send the blocks from {first} on");
                (RemoteReason::BadAnswer, error)
            }
            Err(Failure::Unreachable(error)) => (RemoteReason::Unreachable, error),
            Err(Failure::Answer(error)) => (RemoteReason::BadAnswer, error),
        };
        self.failed(now, remote, reason, error);
    }

    fn on_imported(
        &mut self,
        now: u64,
        remote: Remote,
        count: usize,
        fault: Option<(ImportFault, String)>,
    ) {
        self.importing = None;
        let Some(state) = self.remotes.get_mut(remote) else { return };
        if count > 0 {
            state.laters = 0;
        }
        match fault {
            None => {}
            Some((ImportFault::Later, error)) => {
                // Begun anew from the newest block here, at the next poll.
                self.fetch = self.fetch.take().filter(|fetch| fetch.remote != remote);
                state.laters = state.laters.saturating_add(1);
                let delay = LATER_MS.saturating_mul(1 << state.laters.min(16)).min(BACKOFF_MS_MAX);
                state.poll_at = now.saturating_add(delay);
                state.height = None;
                tracing::debug!(remote, error, "blocks of a remote will be asked for again");
            }
            Some((ImportFault::Remote, error)) => {
                self.failed(now, remote, RemoteReason::BadBlocks, error);
            }
            Some((ImportFault::Local, error)) => {
                self.failed(now, remote, RemoteReason::LocalFault, error);
            }
        }
    }

    /// Something went wrong with a remote: it is left alone for a while.
    pub(super) fn failed(&mut self, now: u64, remote: Remote, reason: RemoteReason, error: String) {
        if self.fetch.as_ref().is_some_and(|fetch| fetch.remote == remote) {
            self.fetch = None;
        }
        let interval = self.options.poll_interval_ms;
        let Some(state) = self.remotes.get_mut(remote) else { return };
        let delay = state.failed(reason, error, interval);
        // What is set aside is never asked sooner.
        let delay = delay.saturating_add(self.below((delay / 8).saturating_add(1)));
        if let Some(state) = self.remotes.get_mut(remote) {
            state.poll_at = now.saturating_add(delay);
        }
    }

    /// Fetches and imports as far as what is known allows.
    fn go_on(&mut self) {
        let over = |fetch: &Fetch| {
            let is_idle = fetch.asked.is_none() && fetch.ready.is_none();
            is_idle && fetch.next > fetch.target.get()
        };
        if self.fetch.as_ref().is_some_and(over) {
            self.fetch = None;
        }
        // Only once all is imported is it known what is missing.
        if self.fetch.is_none() && self.importing.is_none() {
            self.fetch = self.source().map(|(remote, target)| Fetch {
                remote,
                target,
                next: self.height.get().saturating_add(1),
                asked: None,
                ready: None,
            });
        }
        if let Some(fetch) = &mut self.fetch {
            if self.importing.is_none()
                && let Some(blocks) = fetch.ready.take()
            {
                self.importing = Some(fetch.remote);
                self.effects.push(Effect::Import(fetch.remote, blocks));
            }
            let last = fetch.target.get().min(fetch.next.saturating_add(RANGE_BLOCKS_MAX - 1));
            let range = Height::new(fetch.next).zip(Height::new(last));
            if fetch.asked.is_none()
                && fetch.ready.is_none()
                && fetch.next <= last
                && let Some((from, to)) = range
            {
                fetch.asked = Some(fetch.next);
                self.effects.push(Effect::FetchBlocks(fetch.remote, from, to));
            }
        }
        self.name_reasons();
    }

    /// The remote to fetch from: the one that is furthest ahead of those that are well.
    fn source(&self) -> Option<(Remote, Height)> {
        let ahead = self.remotes.iter().enumerate().filter_map(|(remote, state)| {
            let is_ahead = |height: &Height| state.is_well() && *height > self.height;
            let height = state.height.filter(is_ahead)?;
            Some((height, remote))
        });
        ahead.max().map(|(height, remote)| (remote, height))
    }

    fn name_reasons(&mut self) {
        let source = self.fetch.as_ref().map(|fetch| fetch.remote).or(self.importing);
        for (remote, state) in self.remotes.iter_mut().enumerate() {
            if !state.is_well() {
                continue;
            }
            state.reason = match state.height {
                _ if source == Some(remote) => RemoteReason::Fetching,
                Some(height) if height > self.height => RemoteReason::Waiting,
                Some(height) if height < self.height => RemoteReason::Behind,
                Some(_) => RemoteReason::InSync,
                None => state.reason,
            };
        }
    }

    /// A number below a bound (SplitMix64): jitter needs no better one.
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).checked_rem(bound).unwrap_or(0)
    }

    /// A time up to a tenth shorter or longer.
    fn jittered(&mut self, ms: u64) -> u64 {
        let spread = self.below((ms / 5).saturating_add(1));
        ms.saturating_sub(ms / 10).saturating_add(spread)
    }
}
