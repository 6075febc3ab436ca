//! Whether the chain moves when it should. Fed by the node's upkeep thread, asked by
//! `/health` and `/readyz`.
//!
//! Pure but for its lock: times come in.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ait_engine::types::Height;

use crate::disk::Shortage;

/// Least time without a block after which a node with work counts as stalled.
const STALL_MIN: Duration = Duration::from_secs(10);

/// How the node does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Nothing is wrong.
    Ok,
    /// Executable transactions wait and the height does not move.
    Stalled {
        /// For how long.
        since: Duration,
    },
    /// Nobody looked after the node for a while.
    Unattended {
        /// For how long.
        since: Duration,
    },
    /// The disk has no room: the node reads only, until there is.
    Paused {
        /// Why.
        shortage: Shortage,
    },
    /// Something that is stored is damaged: it is not given to anybody, and has to be mended.
    Damaged {
        /// What.
        reason: String,
    },
    /// A part failed; no block will be made any more.
    Failed {
        /// Which and why.
        reason: String,
    },
}

impl Status {
    /// The word for it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Stalled { .. } | Self::Unattended { .. } => "stalled",
            Self::Paused { shortage } => shortage.code(),
            Self::Damaged { .. } => "database_corrupt",
            Self::Failed { .. } => "failed",
        }
    }

    /// What is wrong, if something is.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Ok => None,
            Self::Stalled { since } => Some(format!(
                "executable transactions wait and no block was made for {} s",
                since.as_secs()
            )),
            Self::Unattended { since } => Some(format!(
                "the node's upkeep has not run for {} s; its disk may hang",
                since.as_secs()
            )),
            Self::Paused { shortage } => Some(shortage.to_string()),
            Self::Damaged { reason } | Self::Failed { reason } => Some(reason.clone()),
        }
    }
}

/// How things stand.
#[derive(Debug, Clone, Default)]
pub struct Looked {
    /// Height of the state.
    pub height: Height,
    /// Whether executable transactions wait.
    pub has_work: bool,
    /// Why nothing may be written.
    pub shortage: Option<Shortage>,
    /// What is damaged.
    pub damage: Option<String>,
    /// What failed.
    pub failure: Option<String>,
}

#[derive(Debug)]
struct Seen {
    at: Instant,
    height: Height,
    /// Since when there has been work and no block.
    waiting_since: Option<Instant>,
    shortage: Option<Shortage>,
    damage: Option<String>,
    failure: Option<String>,
}

/// Watches height and work.
#[derive(Debug)]
pub struct Watchdog {
    stall_after: Duration,
    seen: Mutex<Seen>,
}

impl Watchdog {
    /// For a chain that makes a block every `block_interval` when there is work.
    #[must_use]
    pub fn new(block_interval: Duration, height: Height, now: Instant) -> Self {
        let stall_after = block_interval.saturating_mul(5).max(STALL_MIN);
        let seen = Seen {
            at: now,
            height,
            waiting_since: None,
            shortage: None,
            damage: None,
            failure: None,
        };
        Self { stall_after, seen: Mutex::new(seen) }
    }

    /// Takes note of how things stand.
    pub fn observe(&self, now: Instant, looked: Looked) {
        let Looked { height, has_work, shortage, damage, failure } = looked;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody expects blocks of a node that is paused.
        if !has_work || shortage.is_some() {
            seen.waiting_since = None;
        } else if seen.waiting_since.is_none() || height != seen.height {
            seen.waiting_since = Some(now);
        }
        seen.at = now;
        seen.height = height;
        seen.shortage = shortage;
        seen.damage = damage;
        // The first reason explains the ones after it.
        seen.failure = seen.failure.take().or(failure);
    }

    /// How the node does.
    #[must_use]
    pub fn status(&self, now: Instant) -> Status {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = &seen.failure {
            return Status::Failed { reason: reason.clone() };
        }
        let unattended = now.saturating_duration_since(seen.at);
        if unattended > STALL_MIN {
            return Status::Unattended { since: unattended };
        }
        if let Some(shortage) = seen.shortage {
            return Status::Paused { shortage };
        }
        if let Some(reason) = &seen.damage {
            return Status::Damaged { reason: reason.clone() };
        }
        let waited = seen.waiting_since.map(|since| now.saturating_duration_since(since));
        match waited {
            Some(since) if since > self.stall_after => Status::Stalled { since },
            _ => Status::Ok,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked(height: Height, has_work: bool) -> Looked {
        Looked { height, has_work, ..Looked::default() }
    }

    #[test]
    fn an_idle_chain_is_well_and_one_with_work_must_move() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let dog = Watchdog::new(Duration::from_secs(1), Height::ZERO, start);
        let height = Height::saturating;
        for second in 0..100 {
            dog.observe(at(second), looked(height(7), false));
        }
        assert_eq!(dog.status(at(100)), Status::Ok);
        for second in 100..111 {
            dog.observe(at(second), looked(height(7), true));
            assert_eq!(dog.status(at(second)), Status::Ok);
        }
        dog.observe(at(111), looked(height(7), true));
        assert_eq!(dog.status(at(111)).name(), "stalled");
        dog.observe(at(112), looked(height(8), true));
        assert_eq!(dog.status(at(112)), Status::Ok);
    }

    #[test]
    fn a_failure_stays_and_silence_is_noticed() {
        let start = Instant::now();
        let dog = Watchdog::new(Duration::from_secs(1), Height::ZERO, start);
        let later = start + Duration::from_secs(60);
        assert_eq!(dog.status(later).name(), "stalled");
        let failure = Some("a part ended".to_owned());
        dog.observe(later, Looked { failure, ..looked(Height::ZERO, false) });
        dog.observe(later, looked(Height::ZERO, false));
        assert_eq!(dog.status(later).reason().as_deref(), Some("a part ended"));
    }
    #[test]
    fn a_node_without_room_is_paused_and_not_stalled() {
        let start = Instant::now();
        let dog = Watchdog::new(Duration::from_secs(1), Height::ZERO, start);
        let shortage = Some(Shortage::ReadOnly);
        for second in 0..60 {
            let at = start + Duration::from_secs(second);
            dog.observe(at, Looked { shortage, ..looked(Height::ZERO, true) });
            assert_eq!(dog.status(at).name(), "disk_read_only");
        }
        let later = start + Duration::from_secs(61);
        dog.observe(later, looked(Height::ZERO, true));
        assert_eq!(dog.status(later), Status::Ok);
    }
}
