//! What must hold whatever goes wrong. Nothing here shares code with what it checks: the
//! balances are kept by a model of a few lines.

use std::collections::{BTreeMap, BTreeSet};

use ait_engine::message::Message;
use ait_engine::transaction::{Payload, Transaction};
use ait_engine::types::{Address, BlockId, Hash, StateRoot, TxHash};
use ait_engine::validator::ValidatorSet;
use ait_engine::vote::VoteKind;

use super::plan::{BALANCE, chain_id};
use crate::chain::CommittedBlock;

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Two nodes have different blocks, or states, at one height.
    #[error("height {height}: node {node} has {found}, another {known}")]
    Fork {
        /// The height.
        height: u64,
        /// The later node.
        node: usize,
        /// Its block and root.
        found: String,
        /// Those that another had.
        known: String,
    },
    /// A committed block is not proved final.
    #[error("height {height}: node {node} committed a block without a good certificate: {reason}")]
    Certificate {
        /// The height.
        height: u64,
        /// The node.
        node: usize,
        /// What is wrong.
        reason: String,
    },
    /// Heights must come one after the other, also over restarts.
    #[error("node {node} committed height {found} after {before}")]
    Order {
        /// The node.
        node: usize,
        /// The height before.
        before: u64,
        /// The height.
        found: u64,
    },
    /// What was final is not there after a restart.
    #[error("node {node} was at height {before}, and after a restart at {found}")]
    Lost {
        /// The node.
        node: usize,
        /// The height before.
        before: u64,
        /// The height after.
        found: u64,
    },
    /// A validator that follows the rules signed two things at one place.
    #[error("validator {node} signed twice: {what}")]
    SignedTwice {
        /// Which.
        node: usize,
        /// Where.
        what: String,
    },
    /// A transaction is in two blocks, or a block has what nobody sent.
    #[error("height {height}: transaction {hash} {what}")]
    Transaction {
        /// The height.
        height: u64,
        /// Which.
        hash: TxHash,
        /// What is wrong.
        what: &'static str,
    },
    /// An accepted transaction is neither final nor pending, or never becomes final.
    #[error("transaction {hash}, accepted by node {node}, is not final: {what}")]
    Unfinished {
        /// Which.
        hash: TxHash,
        /// Who accepted it.
        node: usize,
        /// What is known of it.
        what: String,
    },
    /// A node holds other balances than the model.
    #[error("node {node}: account {address} holds {found}, expected {expected}")]
    Balance {
        /// Which node.
        node: usize,
        /// Which account.
        address: Address,
        /// What it holds.
        found: String,
        /// What the model says.
        expected: String,
    },
    /// Nothing goes on although nothing is wrong any more.
    #[error("no progress: {0}")]
    Stalled(String),
    /// Time stands still, and the processor is busy.
    #[error("a node never comes to rest at {0} ms")]
    Busy(u64),
    /// A part failed by itself.
    #[error("node {node} failed: {reason}")]
    Failed {
        /// Which.
        node: usize,
        /// Why.
        reason: String,
    },
}

/// A block as the first node had it.
struct Known {
    id: BlockId,
    root: StateRoot,
}

/// What is known so far.
pub(super) struct Checks {
    validators: ValidatorSet,
    blocks: BTreeMap<u64, Known>,
    heights: BTreeMap<usize, u64>,
    signed: BTreeMap<(usize, u8, u64, u64), Hash>,
    /// Accepted transactions, and by whom.
    accepted: BTreeMap<TxHash, usize>,
    /// Those of them that are in no block yet.
    open: BTreeSet<TxHash>,
    balances: BTreeMap<Address, (i128, u64)>,
    pub(super) extra_rounds: u64,
}

impl Checks {
    pub(super) fn new(validators: ValidatorSet, accounts: impl Iterator<Item = Address>) -> Self {
        Self {
            validators,
            blocks: BTreeMap::new(),
            heights: BTreeMap::new(),
            signed: BTreeMap::new(),
            accepted: BTreeMap::new(),
            open: BTreeSet::new(),
            balances: accounts.map(|address| (address, (i128::from(BALANCE), 0))).collect(),
            extra_rounds: 0,
        }
    }

    pub(super) fn accepted(&mut self, node: usize, hash: TxHash) {
        if self.accepted.insert(hash, node).is_none() {
            self.open.insert(hash);
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.accepted.len() as u64
    }

    pub(super) fn unfinished(&self) -> Option<(TxHash, usize)> {
        let hash = self.open.first()?;
        Some((*hash, *self.accepted.get(hash)?))
    }

    /// Greatest height that any node had.
    pub(super) fn height(&self) -> u64 {
        self.blocks.keys().next_back().copied().unwrap_or(0)
    }

    pub(super) fn height_of(&self, node: usize) -> u64 {
        self.heights.get(&node).copied().unwrap_or(0)
    }

    /// A node committed a block.
    pub(super) fn committed(
        &mut self,
        node: usize,
        block: &CommittedBlock,
    ) -> Result<(), Violation> {
        let height = block.height().get();
        let before = self.heights.insert(node, height).unwrap_or(0);
        if height != before + 1 {
            return Err(Violation::Order { node, before, found: height });
        }
        let (id, root) = (block.id, block.block.header.state_root);
        let certificate = block.certificate.as_ref();
        let verified = certificate.map(|certificate| {
            certificate.verify(&chain_id(), block.height(), id, &self.validators)
        });
        match verified {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                let reason = error.to_string();
                return Err(Violation::Certificate { height, node, reason });
            }
            None => {
                let reason = "it has none".to_owned();
                return Err(Violation::Certificate { height, node, reason });
            }
        }
        if let Some(known) = self.blocks.get(&height) {
            if (known.id, known.root) == (id, root) {
                return Ok(());
            }
            let known = format!("block {} with root {}", known.id, known.root);
            let found = format!("block {id} with root {root}");
            return Err(Violation::Fork { height, node, found, known });
        }
        self.extra_rounds += certificate.map_or(0, |certificate| certificate.round.get());
        self.blocks.insert(height, Known { id, root });
        let proposer = block.block.header.proposer;
        block.block.transactions.iter().try_for_each(|one| self.apply(height, proposer, one))
    }

    /// The model: transfers move tokens, fees go to the proposer, nonces count.
    fn apply(
        &mut self,
        height: u64,
        proposer: Address,
        one: &Transaction,
    ) -> Result<(), Violation> {
        let hash = one.hash();
        let wrong = |what| Err(Violation::Transaction { height, hash, what });
        if !self.accepted.contains_key(&hash) {
            return wrong("was never accepted");
        }
        if !self.open.remove(&hash) {
            return wrong("is in two blocks");
        }
        let Payload::Transfer { to, amount } = &one.payload else {
            return wrong("is no transfer");
        };
        let (amount, fee) = (i128::from(amount.get()), i128::from(one.fee.get()));
        let sender = self.balances.entry(one.sender()).or_default();
        if sender.1 != one.nonce.get() {
            return wrong("has another nonce than its turn");
        }
        sender.1 += 1;
        sender.0 -= amount + fee;
        if sender.0 < 0 {
            return wrong("spends what its sender has not");
        }
        self.balances.entry(*to).or_default().0 += amount;
        self.balances.entry(proposer).or_default().0 += fee;
        Ok(())
    }

    /// A node was started again.
    pub(super) fn restarted(&mut self, node: usize, found: u64) -> Result<(), Violation> {
        let before = self.height_of(node);
        // A block may be durable whose commit was not told any more.
        if found < before || found > before + 1 {
            return Err(Violation::Lost { node, before, found });
        }
        Ok(())
    }

    /// What a validator published.
    pub(super) fn published(&mut self, node: usize, message: &Message) -> Result<(), Violation> {
        let (step, height, round, what) = match message {
            Message::Vote(signed) => {
                let step = if signed.vote.kind == VoteKind::Prevote { 1 } else { 2 };
                let hash = signed.vote.sign_hash(&chain_id());
                (step, signed.vote.height, signed.vote.round, hash)
            }
            Message::Proposal(signed) => {
                let hash = signed.proposal.sign_hash(&chain_id());
                (0, signed.proposal.height, signed.proposal.round, hash)
            }
            _ => return Ok(()),
        };
        let place = (node, step, height.get(), round.get());
        match self.signed.insert(place, what) {
            Some(before) if before != what => Err(Violation::SignedTwice {
                node,
                what: format!("height {height}, round {round}, step {step}"),
            }),
            _ => Ok(()),
        }
    }

    /// Accounts that the model knows, with what they hold.
    pub(super) fn balances(&self) -> impl Iterator<Item = (&Address, i128, u64)> {
        self.balances.iter().map(|(address, (balance, nonce))| (address, *balance, *nonce))
    }
}
