//! A small chain in memory for the tests of the state transition.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use ait_engine::block::{Block, Header};
use ait_engine::crypto::SecretKey;
use ait_engine::execute::{BlockBuilder, Fault, Refusal, Transition, execute_block};
use ait_engine::genesis::{Allocation, Authority, CoordinatorEntry, Genesis, GenesisDocument};
use ait_engine::outcome::Outcome;
use ait_engine::params::{ParamChange, ParamSet, Settings};
use ait_engine::receipt::{Attestation, ReceiptClaim};
use ait_engine::state::{
    Account, EntryKind, GenesisTree, Key, MemoryState, StateView, Supply, Value, root,
};
use ait_engine::transaction::{Payload, ProviderBind, Transaction, VerifiedTransaction};
use ait_engine::types::{Address, Amount, ChainId, Nonce, TimestampMs, VotingPower};

/// Time of the genesis, in seconds; the next block is made one second later.
pub const TIME: u64 = 1_700_000_000;
pub const CHAIN: &str = "test-chain";

pub const VALIDATOR: u8 = 1;
pub const GOVERNOR: u8 = 2;
pub const MINTER: u8 = 3;
/// Coordinators, all of them active.
pub const COORDINATORS: [u8; 3] = [4, 5, 6];
pub const ALICE: u8 = 10;
pub const BOB: u8 = 11;
pub const MINER: u8 = 12;
/// Sends a transfer after a refused transaction, to show that nothing else happened.
pub const PROBE: u8 = 20;
/// Receives it; has no account before.
pub const PROBE_TO: u8 = 21;
pub const FUNDS: u64 = 1_000_000;

/// Refusals that only a claim meets; `claims.rs` provokes them, `execute.rs` the rest.
pub const CLAIM_CODES: [&str; 14] = [
    "receipt_malformed",
    "receipt_wrong_chain",
    "receipt_expired",
    "receipt_from_future",
    "units_over_maximum",
    "reward_zero",
    "reward_overflow",
    "receipt_claimed",
    "job_claimed",
    "provider_unknown",
    "provider_mismatch",
    "provider_key_mismatch",
    "attestations_missing",
    "coordinator_unknown",
];

/// Every code in the source of the refusals, so that a new one cannot go untested.
pub fn codes_in_source() -> BTreeSet<String> {
    let source = include_str!("../../src/execute/refusal.rs");
    let arms = source.lines().filter_map(|line| line.trim().split_once("=> \""));
    arms.filter_map(|(_, rest)| rest.split_once('"')).map(|(code, _)| code.to_owned()).collect()
}

pub fn key(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

pub fn address(n: u8) -> Address {
    key(n).public_key().address()
}

pub fn amount(value: u64) -> Amount {
    Amount::new(value).unwrap()
}

pub fn chain() -> ChainId {
    CHAIN.parse().unwrap()
}

pub fn transfer(to: u8, value: u64) -> Payload {
    Payload::Transfer { to: address(to), amount: amount(value) }
}

pub fn mint(to: u8, value: u64) -> Payload {
    Payload::Mint { to: address(to), amount: amount(value) }
}

pub fn set(changes: &[(&str, u64)]) -> Payload {
    let change = |(name, value): &(&str, u64)| ParamChange::Param {
        name: (*name).to_owned(),
        value: *value,
    };
    Payload::ParamSet(ParamSet::new(changes.iter().map(change).collect()).unwrap())
}

pub fn sign(from: u8, nonce: u64, fee: u64, payload: Payload) -> VerifiedTransaction {
    let nonce = Nonce::new(nonce).unwrap();
    Transaction::sign(&key(from), chain(), nonce, amount(fee), None, payload).verify().unwrap()
}

pub struct World {
    pub state: MemoryState,
    pub parent: Header,
}

impl World {
    pub fn new(params: &[(&str, u64)]) -> Self {
        Self::with(params, &[])
    }

    /// A world some of whose entries are not what a genesis gives.
    pub fn with(params: &[(&str, u64)], entries: &[(Key, Value)]) -> Self {
        Self::of(&document(params), entries)
    }

    /// The world of a genesis document, some of whose entries are others.
    pub fn of(document: &GenesisDocument, entries: &[(Key, Value)]) -> Self {
        let genesis = document.build().unwrap();
        let Genesis { mut header, state: writes, .. } = genesis;
        let mut all: BTreeMap<Key, Value> =
            writes.leaves.iter().map(|(_, leaf)| (leaf.key, leaf.value.clone())).collect();
        all.remove(&Key::SENTINEL);
        all.extend(entries.iter().cloned());
        let mut tree = GenesisTree::default();
        for (key, value) in all {
            assert!(tree.insert(key, value));
        }
        let writes = tree.build();
        header.state_root = writes.root;
        let mut state = MemoryState::default();
        state.apply(&writes);
        Self { state, parent: header }
    }

    pub fn next_time(&self) -> TimestampMs {
        self.parent.time.checked_add(TimestampMs::saturating(1_000)).unwrap()
    }

    pub fn builder(&self) -> BlockBuilder<'_, &MemoryState> {
        BlockBuilder::new(&self.state, &self.parent, self.next_time(), address(VALIDATOR)).unwrap()
    }

    /// Builds the block of these transactions, all of which apply.
    pub fn build(&self, transactions: &[VerifiedTransaction]) -> (Block, Transition) {
        let mut builder = self.builder();
        for transaction in transactions {
            builder.push(transaction.clone()).unwrap();
        }
        builder.finish().unwrap()
    }

    /// Builds the block, executes it as a validator would, and makes it the newest.
    pub fn commit(&mut self, transactions: &[VerifiedTransaction]) -> (Block, Vec<Outcome>) {
        let (block, transition) = self.build(transactions);
        let executed = execute_block(&self.state, &self.parent, &block.header, transactions);
        assert_eq!(executed.as_ref(), Ok(&transition));
        self.state.apply(&transition.writes);
        self.parent = block.header.clone();
        assert_eq!(root(&self.state), Ok(self.parent.state_root));
        self.assert_supply();
        (block, transition.outcomes)
    }

    /// The refusal of `bad` after `before`; asserts that it left no trace in the block.
    pub fn refusal(&self, before: &[VerifiedTransaction], bad: &VerifiedTransaction) -> Refusal {
        let probe = sign(PROBE, 0, 100, transfer(PROBE_TO, 1));
        let mut builder = self.builder();
        for transaction in before {
            builder.push(transaction.clone()).unwrap();
        }
        let refusal = match builder.push(bad.clone()) {
            Err(Fault::Refused(refusal)) => refusal,
            other => panic!("expected a refusal, found {other:?}"),
        };
        assert_eq!(builder.transaction_count(), before.len());
        builder.push(probe.clone()).unwrap();
        let without = [before, &[probe]].concat();
        assert_eq!(builder.finish().unwrap(), self.build(&without), "{refusal} left a trace");
        refusal
    }

    pub fn value(&self, key: &Key) -> Option<Value> {
        let number = self.state.number_of(key).unwrap()?;
        Some(self.state.leaf(number).unwrap().value)
    }

    pub fn account(&self, n: u8) -> Account {
        let value = self.value(&Key::account(&address(n)));
        value.map_or_else(Account::default, |value| Account::try_from(&value).unwrap())
    }

    pub fn balance(&self, n: u8) -> u64 {
        self.account(n).balance.get()
    }

    pub fn supply(&self) -> Supply {
        Supply::try_from(&self.value(&Key::supply()).unwrap()).unwrap()
    }

    pub fn settings(&self) -> Settings {
        self.value(&Key::settings()).unwrap().decode(EntryKind::Settings).unwrap()
    }

    /// The sum of all balances is the supply.
    pub fn assert_supply(&self) {
        let count = self.state.entry_count().unwrap();
        let values = (0..count).map(|number| self.state.leaf(number).unwrap().value);
        let sum: u128 = values
            .filter(|value| value.as_bytes()[0] == EntryKind::Account as u8)
            .map(|value| u128::from(Account::try_from(&value).unwrap().balance.get()))
            .sum();
        assert_eq!(sum, u128::from(self.supply().total.get()));
    }
}

/// A genesis document with these parameters.
pub fn document(params: &[(&str, u64)]) -> GenesisDocument {
    let funded = [ALICE, BOB, MINER, PROBE];
    GenesisDocument {
        chain_id: chain(),
        timestamp: TIME,
        params: params.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
        accounts: funded
            .into_iter()
            .map(|n| Allocation { address: address(n), balance: amount(FUNDS), nonce: 0 })
            .collect(),
        authorities: vec![Authority {
            public_key: key(VALIDATOR).public_key(),
            weight: VotingPower::saturating(1),
            payout: Some(address(VALIDATOR)),
        }],
        coordinators: COORDINATORS
            .into_iter()
            .map(|n| CoordinatorEntry { public_key: key(n).public_key(), payout: None })
            .collect(),
        governor: Some(address(GOVERNOR)),
        minter: Some(address(MINTER)),
    }
}

/// A receipt to be claimed; what a test does not name is good.
#[derive(Clone)]
pub struct Claim {
    pub receipt_id: String,
    pub job_id: String,
    pub provider: String,
    pub units: String,
    pub completed_at: u64,
    pub chain_id: Option<String>,
    /// Who signs for the provider.
    pub signer: u8,
    pub coordinators: Vec<u8>,
}

impl Default for Claim {
    fn default() -> Self {
        Self {
            receipt_id: "r-1".to_owned(),
            job_id: "job_1".to_owned(),
            provider: address(MINER).to_string(),
            units: "2500".to_owned(),
            completed_at: TIME,
            chain_id: None,
            signer: MINER,
            coordinators: vec![COORDINATORS[0]],
        }
    }
}

impl Claim {
    pub fn text(&self) -> String {
        let Self { receipt_id, job_id, provider, units, completed_at, chain_id, .. } = self;
        let chain_id =
            chain_id.as_ref().map_or_else(String::new, |id| format!("\"chain_id\":\"{id}\","));
        format!(
            "{{{chain_id}\"client\":\"c\",\"completed_at\":{completed_at},\"job_id\":\"{job_id}\",\
             \"provider\":\"{provider}\",\"receipt_id\":\"{receipt_id}\",\"started_at\":1,\
             \"unit_type\":\"gpu_seconds\",\"units\":{units},\"version\":\"1.0\"}}"
        )
    }

    pub fn sign(&self) -> ReceiptClaim {
        let receipt = self.text().into_bytes();
        let mut attestations: Vec<_> = self
            .coordinators
            .iter()
            .map(|n| Attestation {
                coordinator: key(*n).public_key(),
                signature: key(*n).sign(&receipt),
            })
            .collect();
        attestations.sort_unstable_by_key(|attestation| attestation.coordinator);
        ReceiptClaim {
            provider_key: key(self.signer).public_key(),
            provider_signature: key(self.signer).sign(&receipt),
            receipt,
            attestations,
        }
    }

    /// The claim sent by an account.
    pub fn by(&self, sender: u8, nonce: u64) -> VerifiedTransaction {
        sign(sender, nonce, 0, Payload::ReceiptClaim(self.sign()))
    }
}

pub fn bind(from: u8, nonce: u64, name: &str, receipt_key: u8) -> VerifiedTransaction {
    let hash = ProviderBind::sign_hash(&chain(), &address(from), name);
    let key_signature = key(receipt_key).sign(hash.as_bytes());
    let receipt_key = key(receipt_key).public_key();
    let name = name.to_owned();
    sign(from, nonce, 0, Payload::ProviderBind(ProviderBind { name, receipt_key, key_signature }))
}
