//! One remote: when it is asked next, and what is known of it.

use ait_engine::types::{Height, TxHash};

use super::port::{Remote, RemoteReason, RemoteStatus};
use crate::gossip::Seen;

/// Longest pause after failures.
pub(super) const BACKOFF_MS_MAX: u64 = 5 * 60_000;
/// How long a remote of another chain, or one that sent bad blocks, is left alone.
pub(super) const SET_ASIDE_MS: u64 = 10 * 60_000;
/// Transactions of a remote that are remembered at least.
const SEEN_COUNT: usize = 20_000;

/// What is known of a remote.
#[derive(Debug)]
pub(super) struct RemoteState {
    pub(super) reason: RemoteReason,
    pub(super) height: Option<Height>,
    success_at: Option<u64>,
    last_error: Option<String>,
    failures: u32,
    /// How often in a row its blocks found no place here.
    pub(super) laters: u32,
    /// When it is polled next.
    pub(super) poll_at: u64,
    /// Whether a poll is under way.
    pub(super) is_polled: bool,
    pub(super) sharing: Sharing,
}

/// Pending transactions shared with a remote.
#[derive(Debug)]
pub(super) struct Sharing {
    /// What it has, had or was sent: never sent to it again.
    pub(super) known: Seen<TxHash>,
    /// What was taken from it: not submitted again.
    pub(super) taken: Seen<TxHash>,
    /// Where the next page of its list begins.
    pub(super) cursor: Option<u64>,
    /// Where the next page of ours begins for it.
    pub(super) local_cursor: Option<u64>,
    /// Pages of this poll.
    pub(super) pages: u32,
    pub(super) is_fetching: bool,
    pub(super) is_pushing: bool,
}

impl RemoteState {
    pub(super) fn new(poll_at: u64) -> Self {
        let (known, taken) = (Seen::new(SEEN_COUNT), Seen::new(SEEN_COUNT));
        let sharing = Sharing {
            known,
            taken,
            cursor: None,
            local_cursor: None,
            pages: 0,
            is_fetching: false,
            is_pushing: false,
        };
        Self {
            reason: RemoteReason::NotAsked,
            height: None,
            success_at: None,
            last_error: None,
            failures: 0,
            laters: 0,
            poll_at,
            is_polled: false,
            sharing,
        }
    }

    pub(super) fn succeeded(&mut self, now: u64) {
        self.success_at = Some(now);
        self.last_error = None;
        self.failures = 0;
    }

    /// Whether nothing is wrong with it.
    pub(super) const fn is_well(&self) -> bool {
        self.last_error.is_none()
    }

    /// Whether it is left alone for a while yet.
    pub(super) const fn is_set_aside(&self, now: u64) -> bool {
        !self.is_well() && self.poll_at > now
    }

    /// How long to wait after one more failure, jitter aside.
    pub(super) fn failed(&mut self, reason: RemoteReason, error: String, interval: u64) -> u64 {
        self.reason = reason;
        self.last_error = Some(error);
        self.failures = self.failures.saturating_add(1);
        match reason {
            RemoteReason::OtherChain | RemoteReason::BadBlocks | RemoteReason::LocalFault => {
                SET_ASIDE_MS
            }
            _ => {
                let doubled = interval.saturating_mul(1 << self.failures.min(16));
                doubled.min(BACKOFF_MS_MAX.max(interval))
            }
        }
    }

    pub(super) fn status(&self, remote: Remote, now: u64) -> RemoteStatus {
        RemoteStatus {
            remote,
            reason: self.reason,
            height: self.height,
            success_ms_ago: self.success_at.map(|at| now.saturating_sub(at)),
            last_error: self.last_error.clone(),
            retry_in_ms: (!self.is_well()).then(|| self.poll_at.saturating_sub(now)),
        }
    }
}
