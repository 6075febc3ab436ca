//! What a devnet is made of: its genesis document and the keys of its roles.
//!
//! A pure function of seed and time: the same arguments give the same chain.

use std::collections::BTreeMap;
use std::fmt;

use ait_engine::crypto::SecretKey;
use ait_engine::genesis::{Allocation, Authority, CoordinatorEntry, GenesisDocument};
use ait_engine::types::{Address, Amount, ChainId, ParseError, VotingPower};
use zeroize::Zeroizing;

use super::DevAccounts;

/// Name of the devnet's chain.
pub const DEVNET_CHAIN_ID: &str = "ait-devnet";
/// Accounts that own something from the beginning; the first is shown first.
pub const FUNDED_NAMES: [&str; 10] = [
    "alice", "bob", "carol", "dave", "miner-0", "miner-1", "miner-2", "client-0", "client-1",
    "client-2",
];
/// What each of them owns, in base units: one million tokens of a million units.
pub const FUNDED_BALANCE: Amount = Amount::saturating(1_000_000_000_000);

// No plain name has a slash, so that no request can speak for a role.
const VALIDATOR: &str = "role/validator";
const MINTER: &str = "role/minter";
const GOVERNOR: &str = "role/governor";
const COORDINATOR: &str = "role/coordinator";

/// An account with funds and the key to it.
#[derive(Clone)]
pub struct FundedAccount {
    /// Its plain name.
    pub name: String,
    /// Its address.
    pub address: Address,
    /// The seed of its key, in hex without prefix.
    pub secret_key: Zeroizing<String>,
}

impl fmt::Debug for FundedAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FundedAccount({}, {})", self.name, self.address)
    }
}

/// A devnet, ready to be started.
#[derive(Debug)]
pub struct DevnetPlan {
    /// Its genesis document.
    pub document: GenesisDocument,
    /// The key of its only validator.
    pub validator: SecretKey,
    /// The key that may mint: the faucet.
    pub minter: SecretKey,
    /// The key that may change parameters.
    pub governor: SecretKey,
    /// The key of the mock coordinator.
    pub coordinator: SecretKey,
    /// Accounts with funds, in the order of [`FUNDED_NAMES`].
    pub accounts: Vec<FundedAccount>,
    /// All development accounts; the funded ones are known by name.
    pub names: DevAccounts,
}

impl DevnetPlan {
    /// The devnet of this seed that begins at `timestamp`, in seconds since 1970.
    ///
    /// # Errors
    /// Never for the names written here; the error type is the parsers'.
    pub fn new(seed: [u8; 32], timestamp: u64) -> Result<Self, PlanError> {
        let names = DevAccounts::from_seed(seed);
        let validator = names.secret_key(VALIDATOR);
        let minter = names.secret_key(MINTER);
        let governor = names.secret_key(GOVERNOR);
        let coordinator = names.secret_key(COORDINATOR);
        let accounts = FUNDED_NAMES
            .iter()
            .map(|name| {
                let key = names.secret_key(name);
                let address = names.resolve(name)?;
                let secret_key = Zeroizing::new(hex::encode(key.seed().as_slice()));
                Ok(FundedAccount { name: (*name).to_owned(), address, secret_key })
            })
            .collect::<Result<Vec<_>, super::NameError>>()?;
        let document = GenesisDocument {
            chain_id: DEVNET_CHAIN_ID.parse::<ChainId>()?,
            timestamp,
            params: BTreeMap::new(),
            accounts: accounts
                .iter()
                .map(|account| Allocation {
                    address: account.address,
                    balance: FUNDED_BALANCE,
                    nonce: 0,
                })
                .collect(),
            authorities: vec![Authority {
                public_key: validator.public_key(),
                weight: VotingPower::saturating(1),
                payout: None,
            }],
            coordinators: vec![CoordinatorEntry {
                public_key: coordinator.public_key(),
                payout: None,
            }],
            governor: Some(governor.public_key().address()),
            minter: Some(minter.public_key().address()),
        };
        Ok(Self { document, validator, minter, governor, coordinator, accounts, names })
    }
}

/// A name of the devnet that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the devnet cannot be made: {0}")]
pub struct PlanError(String);

impl From<ParseError> for PlanError {
    fn from(error: ParseError) -> Self {
        Self(error.to_string())
    }
}

impl From<super::NameError> for PlanError {
    fn from(error: super::NameError) -> Self {
        Self(error.to_string())
    }
}
