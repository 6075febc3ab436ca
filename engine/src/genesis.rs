//! Genesis: the document that a person writes, checked and turned into the first
//! block and the first state.
//!
//! The document is JSON with the old software's names (`accounts`, `authorities`,
//! `params`); unknown keys are refused. All problems are reported at once. The
//! same document gives the same genesis block on every machine.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::block::{Header, PROTOCOL_VERSION};
use crate::crypto::PublicKey;
use crate::limits::COORDINATOR_COUNT_MAX;
use crate::list;
use crate::params::{PARAMS, Params, Settings};
use crate::state::{Account, Coordinator, EntryKind, GenesisTree, Key, Supply, Value, WriteSet};
use crate::types::{Address, Amount, BlockId, ChainId, Height, Nonce, TimestampMs, VotingPower};
use crate::validator::{Validator, ValidatorSet};

/// An account that exists from the beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allocation {
    /// Its address.
    pub address: Address,
    /// Base units that it holds.
    pub balance: Amount,
    /// Accepted for old documents; must be 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub nonce: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_zero(nonce: &u64) -> bool {
    *nonce == 0
}

/// A validator of the first set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authority {
    /// Its consensus key.
    pub public_key: PublicKey,
    /// Its voting power.
    #[serde(default = "one")]
    pub weight: VotingPower,
    /// Account that receives its fees; its own address if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payout: Option<Address>,
}

const fn one() -> VotingPower {
    VotingPower::saturating(1)
}

/// A coordinator that may attest receipts from the beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoordinatorEntry {
    /// The key that attests.
    pub public_key: PublicKey,
    /// Account that receives its share; its key's address if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payout: Option<Address>,
}

/// What a person writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisDocument {
    /// Name of the chain.
    pub chain_id: ChainId,
    /// Time of the genesis block in seconds since 1970.
    pub timestamp: u64,
    /// Parameters; those not named have their defaults.
    #[serde(default)]
    pub params: BTreeMap<String, u64>,
    /// First accounts.
    #[serde(default, alias = "allocations")]
    pub accounts: Vec<Allocation>,
    /// First validators.
    pub authorities: Vec<Authority>,
    /// First coordinators.
    #[serde(default)]
    pub coordinators: Vec<CoordinatorEntry>,
    /// Who may change parameters; nobody if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub governor: Option<Address>,
    /// Who may mint; nobody if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minter: Option<Address>,
}

/// Why a document is no genesis.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    /// Not JSON of the right shape.
    #[error("the genesis document cannot be read: {reason}")]
    Syntax {
        /// Where and why.
        reason: String,
    },
    /// It breaks rules.
    #[error("the genesis document has {} problem(s):{}", .problems.len(), listed(.problems))]
    Invalid {
        /// Each problem in words, with its place in the document.
        problems: Vec<String>,
    },
}

/// Problems that a message lists: a document may have millions of the same kind.
const LISTED_MAX: usize = 20;

fn listed(problems: &[String]) -> String {
    let mut text = String::new();
    for problem in problems.iter().take(LISTED_MAX) {
        text.push_str("\n  - ");
        text.push_str(problem);
    }
    let more = problems.len().saturating_sub(LISTED_MAX);
    if more > 0 {
        text.push_str(&format!("\n  and {more} more"));
    }
    text
}

/// A checked genesis: the block at height 0, its state and its validators.
#[derive(Debug, Clone)]
pub struct Genesis {
    /// The block's header; it has no transactions and no certificate.
    pub header: Header,
    /// Its id: what names the chain beyond its chain id.
    pub block_id: BlockId,
    /// The first state.
    pub state: WriteSet,
    /// Validators of height 1.
    pub validators: ValidatorSet,
    /// Parameters and roles.
    pub settings: Settings,
}

impl GenesisDocument {
    /// Reads a document.
    ///
    /// # Errors
    /// [`GenesisError::Syntax`] with line and column.
    pub fn parse(text: &str) -> Result<Self, GenesisError> {
        serde_json::from_str(text).map_err(|error| {
            let reason = error.to_string();
            let hint = match () {
                () if reason.contains("coordinator_ratio") => {
                    " (write the ratio as coordinator_ratio_bps: 500 for 0.05)"
                }
                () if reason.contains("invalid type: floating point") => {
                    " (amounts are integers of base units)"
                }
                () => "",
            };
            GenesisError::Syntax { reason: format!("{reason}{hint}") }
        })
    }

    /// Checks the document and makes the genesis of it.
    ///
    /// # Errors
    /// [`GenesisError::Invalid`] with every problem found.
    pub fn build(&self) -> Result<Genesis, GenesisError> {
        let mut problems = Vec::new();
        let time =
            self.timestamp.checked_mul(1_000).and_then(TimestampMs::new).unwrap_or_else(|| {
                problems.push(format!("timestamp: {} is after the year 9999", self.timestamp));
                TimestampMs::ZERO
            });
        let settings = Settings {
            params: self.params(&mut problems),
            governor: self.governor,
            minter: self.minter,
        };
        let mut tree = GenesisTree::default();
        let total = self.accounts(&mut tree, &mut problems);
        self.coordinators(&mut tree, &mut problems);
        let authorities: Vec<_> = self.authorities.iter().map(Authority::validator).collect();
        for (at, validator) in authorities.iter().enumerate() {
            if validator.payout.is_reserved() {
                problems.push(format!("authorities[{at}].payout: {}", reserved(&validator.payout)));
            }
        }
        let validators = ValidatorSet::new(authorities);
        let validators = match validators {
            Ok(validators) if problems.is_empty() => validators,
            result => {
                problems.extend(result.err().map(|error| format!("authorities: {error}")));
                return Err(GenesisError::Invalid { problems });
            }
        };
        let supply = Supply { total, minted: Amount::ZERO };
        let singles = [
            (Key::supply(), supply.into()),
            (Key::settings(), Value::encoded(EntryKind::Settings, &settings)),
            (Key::validators(), Value::encoded(EntryKind::Validators, &validators)),
        ];
        for (key, value) in singles {
            // Never there already: no allocation has a reserved address.
            let _ = tree.insert(key, value);
        }
        let state = tree.build();
        let header = Header {
            version: PROTOCOL_VERSION,
            chain_id: self.chain_id,
            height: Height::ZERO,
            parent: BlockId::ZERO,
            time,
            proposer: Address::ZERO,
            transactions_root: list::root(&[]),
            outcomes_root: list::root(&[]),
            state_root: state.root,
            validators_hash: validators.hash(),
            next_validators_hash: validators.hash(),
            transaction_count: 0,
            body_bytes: 0,
        };
        Ok(Genesis { block_id: header.id(), header, state, validators, settings })
    }

    fn params(&self, problems: &mut Vec<String>) -> Params {
        let mut params = Params::default();
        for (name, value) in &self.params {
            if let Err(error) = params.set(name, *value) {
                let names = PARAMS.iter().map(|spec| spec.name).collect::<Vec<_>>().join(", ");
                problems.push(format!("params: {error} (known: {names})"));
            }
        }
        params
    }

    fn accounts(&self, tree: &mut GenesisTree, problems: &mut Vec<String>) -> Amount {
        let mut total = Amount::ZERO;
        for (at, allocation) in self.accounts.iter().enumerate() {
            let Allocation { address, balance, nonce } = allocation;
            if *nonce != 0 {
                problems
                    .push(format!("accounts[{at}]: the nonce of {address} is {nonce}, expected 0"));
            }
            if address.is_reserved() {
                problems.push(format!("accounts[{at}]: {}", reserved(address)));
            }
            let account = Account { balance: *balance, nonce: Nonce::ZERO };
            if !tree.insert(Key::account(address), account.into()) {
                problems.push(format!("accounts[{at}]: {address} has an allocation already"));
            }
            match total.checked_add(*balance) {
                Some(sum) => total = sum,
                None => {
                    problems.push(format!(
                        "accounts[{at}]: the sum of balances is over {}",
                        Amount::MAX
                    ));
                }
            }
        }
        total
    }

    fn coordinators(&self, tree: &mut GenesisTree, problems: &mut Vec<String>) {
        if self.coordinators.len() > COORDINATOR_COUNT_MAX {
            let found = self.coordinators.len();
            problems.push(format!(
                "coordinators: {found}, at most {COORDINATOR_COUNT_MAX} are allowed"
            ));
        }
        let mut seen = BTreeSet::new();
        for (at, entry) in self.coordinators.iter().enumerate() {
            let public_key = entry.public_key;
            let payout = entry.payout.unwrap_or_else(|| public_key.address());
            if payout.is_reserved() {
                problems.push(format!("coordinators[{at}].payout: {}", reserved(&payout)));
            }
            let value =
                Value::encoded(EntryKind::Coordinator, &Coordinator { payout, active: true });
            if !seen.insert(public_key) || !tree.insert(Key::coordinator(&public_key), value) {
                problems.push(format!("coordinators[{at}]: {public_key} appears twice"));
            }
        }
    }
}

fn reserved(address: &Address) -> String {
    format!("{address} begins with eight zero bytes, as no account's address does")
}

impl Authority {
    fn validator(&self) -> Validator {
        let payout = self.payout.unwrap_or_else(|| self.public_key.address());
        Validator { public_key: self.public_key, power: self.weight, payout }
    }
}
