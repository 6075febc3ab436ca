//! What a run consists of.

use ait_engine::crypto::SecretKey;
use ait_engine::genesis::{Allocation, Authority, GenesisDocument};
use ait_engine::types::{Address, Amount, ChainId, VotingPower};

use super::{Bug, Faults};
use crate::chain::ChainError;

/// Accounts that clients send from.
pub(super) const ACCOUNTS: usize = 24;
pub(super) const BALANCE: u64 = 1_000_000;
/// Accounts that hostile clients send from.
pub(super) const HOSTILE: usize = 4;
pub(super) const HOSTILE_BALANCE: u64 = 1_000;
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
    /// A bug to plant, for a test of the checks.
    pub bug: Option<Bug>,
}

impl Default for SimOptions {
    fn default() -> Self {
        Self { weights: vec![1; 4], followers: 2, heights: 40, faults: Faults::ALL, bug: None }
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

/// Accounts of genesis and what they hold.
pub(super) fn balances() -> impl Iterator<Item = (Address, u64)> {
    let of = |name, balance| move |n| (key(name, n).public_key().address(), balance);
    let honest = (0..ACCOUNTS).map(of("account", BALANCE));
    honest.chain((0..HOSTILE).map(of("hostile", HOSTILE_BALANCE)))
}

pub(super) fn document(options: &SimOptions) -> GenesisDocument {
    let authority = |(n, weight): (usize, &u64)| Authority {
        public_key: key("validator", n).public_key(),
        weight: VotingPower::new(*weight).unwrap_or(VotingPower::ZERO),
        payout: None,
    };
    let allocation = |(address, balance): (Address, u64)| Allocation {
        address,
        balance: Amount::saturating(balance),
        nonce: 0,
    };
    GenesisDocument {
        chain_id: chain_id(),
        timestamp: BEGAN,
        params: Default::default(),
        accounts: balances().map(allocation).collect(),
        authorities: options.weights.iter().enumerate().map(authority).collect(),
        coordinators: Vec::new(),
        governor: None,
        minter: None,
    }
}
