//! What a run consists of.

use ait_engine::crypto::SecretKey;
use ait_engine::genesis::{Allocation, Authority, GenesisDocument};
use ait_engine::types::{Amount, ChainId, VotingPower};

use super::Faults;
use crate::chain::ChainError;

/// Accounts that clients send from.
pub(super) const ACCOUNTS: usize = 24;
pub(super) const BALANCE: u64 = 1_000_000;
/// Time of the genesis block and of the simulation's beginning, in seconds since 1970.
pub(super) const BEGAN: u64 = 1_800_000_000;

/// What is simulated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimOptions {
    /// Voting power of each validator.
    pub weights: Vec<u64>,
    /// Nodes that follow.
    pub followers: usize,
    /// Heights to reach while things go wrong, which they do for 4 s a height at most.
    pub heights: u64,
    /// What goes wrong.
    pub faults: Faults,
}

impl Default for SimOptions {
    fn default() -> Self {
        Self { weights: vec![1; 4], followers: 2, heights: 40, faults: Faults::ALL }
    }
}

impl SimOptions {
    /// Whether they describe a chain.
    ///
    /// # Errors
    /// [`ChainError`] when its genesis is not valid.
    pub fn check(&self) -> Result<(), ChainError> {
        Ok(document(self).build().map(|_| ())?)
    }

    pub(super) fn nodes(&self) -> usize {
        self.weights.len() + self.followers
    }
}

pub(super) fn chain_id() -> ChainId {
    "simulated".parse().expect("a constant that is a chain id")
}

/// A key that follows from what it is for.
pub(super) fn key(of: &str, n: usize) -> SecretKey {
    SecretKey::from_seed(*blake3::hash(format!("{of} {n}").as_bytes()).as_bytes())
}

pub(super) fn document(options: &SimOptions) -> GenesisDocument {
    let authority = |(n, weight): (usize, &u64)| Authority {
        public_key: key("validator", n).public_key(),
        weight: VotingPower::new(*weight).unwrap_or(VotingPower::ZERO),
        payout: None,
    };
    let allocation = |n| Allocation {
        address: key("account", n).public_key().address(),
        balance: Amount::saturating(BALANCE),
        nonce: 0,
    };
    GenesisDocument {
        chain_id: chain_id(),
        timestamp: BEGAN,
        params: Default::default(),
        accounts: (0..ACCOUNTS).map(allocation).collect(),
        authorities: options.weights.iter().enumerate().map(authority).collect(),
        coordinators: Vec::new(),
        governor: None,
        minter: None,
    }
}
