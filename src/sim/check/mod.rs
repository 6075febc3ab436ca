//! What must hold whatever goes wrong. What decides here is not what nodes decide by: balances
//! are kept by a model of a few lines, and certificates are counted and verified anew.

mod certificate;
mod state;

use std::collections::{BTreeMap, BTreeSet};

use ait_engine::message::Message;
use ait_engine::transaction::{Payload, Transaction};
use ait_engine::types::{Address, BlockId, Hash, Nonce, StateRoot, TxHash};
use ait_engine::vote::VoteKind;

use super::Violation;
use super::node::Process;
use super::plan::{SimOptions, balances, chain_id};
use crate::chain::{CommittedBlock, Location};
use crate::mempool::TxStatus;
use certificate::Members;

/// Rounds that a block may need once nothing is wrong any more, after those begun before, where
/// every validator proposes within so many.
const ROUNDS_MAX: u64 = 12;

/// A block as the first node had it.
struct Known {
    id: BlockId,
    root: StateRoot,
}

/// An accepted transaction that a node must hold, or say why not.
struct Kept {
    sender: Address,
    nonce: Nonce,
    since_ms: u64,
    /// Nothing but a block may take it away.
    is_good: bool,
}

/// What is known so far.
pub(super) struct Checks {
    members: Members,
    rounds_max: u64,
    blocks: BTreeMap<u64, Known>,
    heights: BTreeMap<usize, u64>,
    signed: BTreeMap<(usize, u8, u64, u64), Hash>,
    /// Accepted transactions, and by whom.
    accepted: BTreeMap<TxHash, usize>,
    /// Those of them that are in no block yet.
    open: BTreeSet<TxHash>,
    /// Those that are in a block, and where.
    included: BTreeMap<TxHash, Location>,
    balances: BTreeMap<Address, (i128, u64)>,
    kept: BTreeMap<usize, BTreeMap<TxHash, Kept>>,
    /// Newest round that anybody signed something in, by height.
    rounds: BTreeMap<u64, u64>,
    is_healed: bool,
    pub(super) extra_rounds: u64,
    /// Greatest round of a block while nothing is wrong, less those that were begun before.
    pub(super) healed_round: u64,
    last_begun: BTreeMap<u64, u64>,
}

impl Checks {
    pub(super) fn new(options: &SimOptions) -> Self {
        // One that is locked on a block of which others know nothing must propose it itself, if
        // they need its vote: a validator of little power has to wait for its turn.
        let total: u64 = options.weights.iter().sum();
        let least = options.weights.iter().min().copied().unwrap_or(1).max(1);
        Self {
            members: Members::of(options),
            rounds_max: ROUNDS_MAX.max(total / least + 2),
            blocks: BTreeMap::new(),
            heights: BTreeMap::new(),
            signed: BTreeMap::new(),
            accepted: BTreeMap::new(),
            open: BTreeSet::new(),
            included: BTreeMap::new(),
            balances: balances().map(|(address, all)| (address, (i128::from(all), 0))).collect(),
            kept: BTreeMap::new(),
            rounds: BTreeMap::new(),
            is_healed: false,
            extra_rounds: 0,
            healed_round: 0,
            last_begun: BTreeMap::new(),
        }
    }

    pub(super) fn accepted(&mut self, node: usize, hash: TxHash) {
        self.accepted.entry(hash).or_insert(node);
        if !self.included.contains_key(&hash) {
            self.open.insert(hash);
        }
    }

    /// A transaction that may become final, and need not.
    pub(super) fn offered(&mut self, node: usize, hash: TxHash) {
        self.accepted.entry(hash).or_insert(node);
    }

    /// From now on this node must hold it, or say why not.
    pub(super) fn keep(&mut self, node: usize, one: &Transaction, since_ms: u64, is_good: bool) {
        let (sender, nonce) = (one.sender(), one.nonce);
        let kept = Kept { sender, nonce, since_ms, is_good };
        self.kept.entry(node).or_default().insert(one.hash(), kept);
    }

    /// Whether any node must hold it.
    pub(super) fn is_kept(&self, hash: &TxHash) -> bool {
        self.kept.values().any(|kept| kept.contains_key(hash))
    }

    /// Whether it is wanted in a block, and in none yet.
    pub(super) fn is_open(&self, hash: &TxHash) -> bool {
        self.open.contains(hash)
    }

    /// What a node accepted is pending there, in its chain, or it says why not. What was not
    /// synced since `lost_after_ms` may be gone. Ends what a node need not hold any more.
    pub(super) fn holds(
        &mut self,
        node: usize,
        process: &Process,
        lost_after_ms: Option<u64>,
    ) -> Result<(), Violation> {
        let Some(all) = self.kept.get_mut(&node) else { return Ok(()) };
        let mut wrong = None;
        all.retain(|hash, kept| {
            let status = process.mempool.status(hash);
            if matches!(status, TxStatus::Pending { .. }) {
                return true;
            }
            // A store that failed gives no answer: the next process does.
            let Ok(account) = process.account(&kept.sender) else { return true };
            let is_used = account.nonce > kept.nonce;
            let is_lost = lost_after_ms.is_some_and(|after_ms| kept.since_ms >= after_ms);
            match status {
                _ if is_used || is_lost => {}
                TxStatus::Dropped(dropped) if !kept.is_good => drop(dropped),
                TxStatus::Dropped(dropped) => {
                    wrong = Some((*hash, format!("let it go: {}", dropped.reason)));
                }
                _ => wrong = Some((*hash, "does not know it any more".to_owned())),
            }
            false
        });
        match wrong {
            Some((hash, what)) => Err(Violation::Forgotten { node, hash, what }),
            None => Ok(()),
        }
    }

    /// Whether from now on blocks must come within few rounds.
    pub(super) fn healed(&mut self, is_healed: bool) {
        self.is_healed = is_healed;
        self.last_begun = self.rounds.clone();
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
        let checked = self.members.check(block.height(), id, certificate);
        checked.map_err(|reason| Violation::Certificate { height, node, reason })?;
        if let Some(known) = self.blocks.get(&height) {
            if (known.id, known.root) == (id, root) {
                return Ok(());
            }
            let known = format!("block {} with root {}", known.id, known.root);
            let found = format!("block {id} with root {root}");
            return Err(Violation::Fork { height, node, found, known });
        }
        let round = certificate.map_or(0, |certificate| certificate.round.get());
        self.extra_rounds += round;
        if self.is_healed {
            let begun = self.last_begun.get(&height).copied().unwrap_or(0);
            let expected = begun + self.rounds_max;
            if round > expected {
                return Err(Violation::Rounds { height, found: round, expected });
            }
            self.healed_round = self.healed_round.max(round.saturating_sub(begun));
        }
        self.blocks.insert(height, Known { id, root });
        let proposer = block.block.header.proposer;
        let transactions = (0_u32..).zip(&block.block.transactions);
        transactions.into_iter().try_for_each(|(index, one)| {
            self.apply(Location { height: block.height(), index }, proposer, one)
        })
    }

    /// The model: transfers move tokens, fees go to the proposer, nonces count.
    fn apply(
        &mut self,
        at: Location,
        proposer: Address,
        one: &Transaction,
    ) -> Result<(), Violation> {
        let height = at.height.get();
        let hash = one.hash();
        let wrong = |what| Err(Violation::Transaction { height, hash, what });
        if !self.accepted.contains_key(&hash) {
            return wrong("was never accepted");
        }
        if self.included.insert(hash, at).is_some() {
            return wrong("is in two blocks");
        }
        self.open.remove(&hash);
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
        let newest = self.rounds.entry(height.get()).or_default();
        *newest = round.get().max(*newest);
        let place = (node, step, height.get(), round.get());
        match self.signed.insert(place, what) {
            Some(before) if before != what => Err(Violation::SignedTwice {
                node,
                what: format!("height {height}, round {round}, step {step}"),
            }),
            _ => Ok(()),
        }
    }
}
