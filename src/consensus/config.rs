//! What a validator's consensus is told of itself.

use ait_engine::types::{Address, ChainId};
use malachitebft_core_consensus::ThresholdParams;

use super::port::{Timeout, TimeoutKind};
use crate::planted::Bug;

/// Who this validator is, and its time-outs.
#[derive(Debug, Clone)]
pub struct ConsensusConfig {
    /// The chain.
    pub chain_id: ChainId,
    /// This validator.
    pub address: Address,
    /// First time-out of each step in milliseconds: propose, prevote, precommit, rebroadcast.
    pub timeouts_ms: [u64; 4],
    /// What each round adds, in milliseconds.
    pub timeout_step_ms: u64,
    /// The longest that a time-out grows to, in milliseconds.
    pub timeout_max_ms: u64,
    /// A bug of the simulator's tests.
    #[doc(hidden)]
    pub planted: Option<Bug>,
}

impl ConsensusConfig {
    /// Usual time-outs.
    #[must_use]
    pub const fn new(chain_id: ChainId, address: Address) -> Self {
        Self {
            chain_id,
            address,
            timeouts_ms: [3_000, 1_000, 1_000, 5_000],
            timeout_step_ms: 500,
            timeout_max_ms: 30_000,
            planted: None,
        }
    }

    /// What part of the power decides.
    pub(super) fn thresholds(&self) -> ThresholdParams {
        let usual = ThresholdParams::default();
        match self.planted {
            Some(Bug::ShortCertificate) => ThresholdParams { quorum: usual.honest, ..usual },
            _ => usual,
        }
    }

    pub(super) fn after_ms(&self, timeout: Timeout) -> u64 {
        let [propose, prevote, precommit, rebroadcast] = self.timeouts_ms;
        let first = match timeout.kind {
            TimeoutKind::Propose => propose,
            TimeoutKind::Prevote => prevote,
            TimeoutKind::Precommit => precommit,
            TimeoutKind::Rebroadcast => rebroadcast,
        };
        if self.planted == Some(Bug::WastedRounds) {
            return 20;
        }
        let grown = self.timeout_step_ms.saturating_mul(timeout.round.get());
        first.saturating_add(grown).min(self.timeout_max_ms)
    }
}
