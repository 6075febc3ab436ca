//! Validators that break the rules: their node is what ships, and what it says is doubled,
//! forged or withheld with their own key.

use std::sync::LazyLock;

use ait_engine::block::{Block, transaction_leaves};
use ait_engine::certificate::CommitSignature;
use ait_engine::list;
use ait_engine::message::Message;
use ait_engine::types::{BlockId, Round, StateRoot};
use ait_engine::vote::{ProposalMessage, SignedProposal, SignedVote, Vote, VoteKind};

use super::*;
use crate::chain::CommittedBlock;

/// One in so many messages is a lie.
const LIE_EVERY: u8 = 3;
/// The only root that is a lie, so that every other divergence is a fault of a node.
pub(super) const WRONG_ROOT: StateRoot = StateRoot([0xee; 32]);
/// As many of them as spend a peer's allowance at once.
static REFUSED: LazyLock<Vec<Arc<TransactionBatch>>> = LazyLock::new(|| {
    let transfers: Vec<_> = (1..2_200).map(without_means).collect();
    TransactionBatch::split(&transfers).into_iter().map(Arc::new).collect()
});
/// One in so many runs with validators that break the rules has one send all that.
const FLOOD_EVERY: u8 = 2;
/// How long one that withholds is silent at most.
const MUTE_MS_MAX: u64 = 3_000;

impl World {
    /// Chooses who breaks the rules: less than a third of the power, in every other run.
    pub(super) fn choose_byzantine(&mut self) {
        let too_many = self.collude();
        let is_wanted = self.options.faults.has(FaultKind::Byzantine) && self.rng.bool();
        if !is_wanted && !too_many {
            return;
        }
        let total: u64 = self.options.weights.iter().sum();
        let mut order: Vec<_> = (0..self.options.weights.len()).collect();
        self.rng.shuffle(&mut order);
        let mut power = 0;
        for n in order {
            let weight = self.options.weights[n];
            let bound = if too_many { total * 2 } else { total };
            if (power + weight).saturating_mul(3) < bound {
                power += weight;
                self.byzantine.insert(n);
            }
        }
        self.floods = !too_many && self.rng.u8(0..FLOOD_EVERY) == 0;
        let chosen = format!("{:?}", self.byzantine);
        self.note(|| format!("nodes {chosen} break the rules"));
    }

    fn lies(&mut self, n: usize) -> bool {
        let may = !self.is_quiet && self.byzantine.contains(&n);
        may && (self.collude() || self.rng.u8(0..LIE_EVERY) == 0)
    }

    /// More than a third who agree on what they say to whom.
    fn collude(&self) -> bool {
        matches!(self.options.bug, Some(Bug::TooManyLiars))
    }

    pub(super) fn is_mute(&self, n: usize) -> bool {
        self.now_ms < self.sites[n].mute_ms
    }

    /// Whether a node does not give what it was asked for.
    pub(super) fn withholds(&mut self, n: usize) -> bool {
        let withholds = !self.collude() && self.lies(n);
        if withholds {
            self.faults.count(FaultKind::Byzantine);
        }
        withholds
    }

    /// What a validator says besides, or instead of, what its node is about to say.
    pub(super) fn lie(&mut self, n: usize, message: &Message) {
        if !self.lies(n) {
            return;
        }
        self.faults.count(FaultKind::Byzantine);
        if std::mem::take(&mut self.floods) {
            self.flood(n);
        }
        match message {
            _ if !self.collude() && self.rng.u8(0..5) == 0 => {
                self.note(|| format!("node {n} withholds what it has"));
                self.sites[n].mute_ms = self.now_ms + self.rng.u64(1..MUTE_MS_MAX);
            }
            Message::Vote(signed) => self.vote_twice(n, signed.vote),
            Message::Proposal(signed) => self.propose_twice(n, signed),
            _ => {}
        }
    }

    /// Sends one peer what it must refuse, until that takes no more.
    fn flood(&mut self, n: usize) {
        let to = self.some(n).first().copied().unwrap_or(0);
        self.note(|| format!("node {n} sends node {to} what is refused"));
        for batch in REFUSED.iter() {
            self.frame(n, to, &Frame::Transactions(Arc::clone(batch)));
        }
    }

    fn some(&mut self, n: usize) -> Vec<usize> {
        let all: Vec<_> = (0..self.sites.len()).filter(|to| *to != n).collect();
        if self.collude() {
            return self.honest().step_by(2).collect();
        }
        all.into_iter().filter(|_| self.rng.bool()).collect()
    }

    fn say(&mut self, n: usize, to: &[usize], control: &Control) {
        let frame = Frame::Control(Arc::new(control.encode()));
        for to in to {
            self.frame(n, *to, &frame);
        }
    }

    fn vote_twice(&mut self, n: usize, vote: Vote) {
        let mut other = vote;
        match self.rng.u8(0..3) {
            _ if self.collude() => other.block_id = Some(self.another(n, vote.block_id)),
            0 => other.round = Round::saturating(vote.round.get() + self.rng.u64(1..4)),
            1 if vote.block_id.is_some() => other.block_id = None,
            // For whatever anybody proposed: the blocks of this height, or none that exists.
            _ => other.block_id = Some(self.another(n, vote.block_id)),
        }
        self.note(|| format!("node {n} votes twice: {:?} and {:?}", vote.block_id, other.block_id));
        for kind in [VoteKind::Prevote, VoteKind::Precommit] {
            other.kind = kind;
            let hash = other.sign_hash(&chain_id());
            let signature = key("validator", n).sign(hash.as_bytes());
            let signed = SignedVote { vote: other, signature };
            let to = self.some(n);
            self.say(n, &to, &Control::Consensus(Message::Vote(signed)));
        }
    }

    /// A block that is not this one: its twin, if there is one, or one that nobody made.
    fn another(&mut self, n: usize, block_id: Option<BlockId>) -> BlockId {
        let process = self.sites[n].process.as_ref();
        let block = block_id.and_then(|id| process?.proposal(&id).cloned());
        match block {
            Some(block) => twin(&block).header.id(),
            None => BlockId(std::array::from_fn(|_| self.rng.u8(..))),
        }
    }

    fn propose_twice(&mut self, n: usize, signed: &SignedProposal) {
        let process = self.sites[n].process.as_ref();
        let good = process.and_then(|process| process.proposal(&signed.proposal.block_id).cloned());
        let Some(good) = good else { return };
        let (mut block, mut to) = (twin(&good), self.some(n));
        let what = match self.rng.u8(0..8) {
            _ if self.collude() => "another block",
            0 | 1 => {
                block.header.state_root = WRONG_ROOT;
                "a wrong root"
            }
            2 => {
                block.transactions.pop();
                "the body of another"
            }
            3 => {
                block.header.transaction_count += 1;
                "a wrong count"
            }
            4 | 5 => {
                let bad = self.bad_transaction(&good);
                block.transactions.push(bad);
                commit_to_body(&mut block);
                "a transaction that is not valid"
            }
            _ => "another block",
        };
        // Or this only: what its node says now is not sent.
        if !self.collude() && self.rng.bool() {
            self.sites[n].mute_ms = self.now_ms + 1;
            to = (0..self.sites.len()).filter(|other| *other != n).collect();
        }
        self.note(|| format!("node {n} proposes {what} to {to:?}"));
        let proposal = ProposalMessage { block_id: block.header.id(), ..signed.proposal };
        let hash = proposal.sign_hash(&chain_id());
        let signature = key("validator", n).sign(hash.as_bytes());
        let proposal = SignedProposal { proposal, signature };
        self.say(n, &to, &Control::Consensus(Message::Proposal(proposal)));
        let mut bytes = proposal.encode();
        block.encode_to(&mut bytes);
        let frame = Frame::Body(Arc::new(bytes));
        for to in to {
            self.frame(n, to, &frame);
        }
    }

    /// What no block may hold: a transaction twice, without means, or that nobody signed.
    fn bad_transaction(&mut self, good: &Block) -> Transaction {
        let first = good.transactions.first().cloned();
        let beggar = without_means(1);
        let mut forged = first.clone().unwrap_or_else(|| beggar.clone());
        match self.rng.u8(0..3) {
            0 => first.unwrap_or(beggar),
            1 => beggar,
            _ => {
                forged.signature.0[5] ^= 1;
                forged
            }
        }
    }

    /// False answers of one who was asked for blocks: what a certificate lacks or is not of.
    pub(super) fn falsify(&mut self, n: usize, blocks: &mut Blocks) {
        let Some((block, certificate)) = blocks.0.first_mut() else { return };
        if self.rng.bool() {
            *certificate = short(certificate);
        } else {
            block.transactions.pop();
        }
        self.note(|| format!("node {n} answers with a block that is not good"));
    }

    /// Old and forged certificates, now and then: who tells false ones is banned.
    pub(super) fn certify_lies(&mut self, n: usize, block: &CommittedBlock) {
        if !self.lies(n) || self.rng.u8(0..3) > 0 {
            return;
        }
        self.faults.count(FaultKind::Byzantine);
        let Some(good) = &block.certificate else { return };
        self.certificates.push(good.clone());
        let forged = match self.rng.u8(0..5) {
            0 => self.certificates[self.rng.usize(0..self.certificates.len())].clone(),
            1 => short(good),
            2 => with_signatures(good, |signatures| {
                signatures.iter_mut().for_each(|signed| signed.signature.0[7] ^= 1);
            }),
            3 => with_signatures(good, |signatures| {
                let validator = key("stranger", 0).public_key().address();
                signatures.iter_mut().take(1).for_each(|signed| signed.validator = validator);
            }),
            _ => {
                let validator = key("validator", n).public_key().address();
                let (height, round) = (good.height.next().unwrap_or(good.height), Round::ZERO);
                let block_id = BlockId([0xee; 32]);
                let kind = VoteKind::Precommit;
                let vote = Vote { kind, height, round, block_id: Some(block_id), validator };
                let hash = vote.sign_hash(&chain_id());
                let signature = key("validator", n).sign(hash.as_bytes());
                let alone = CommitSignature { validator, signature };
                Certificate::new(height, round, block_id, vec![alone])
            }
        };
        self.note(|| format!("node {n} tells a certificate with {}", forged.signatures().len()));
        let to = self.some(n);
        self.say(n, &to, &Control::Final(forged));
    }
}

/// A transfer of one who has nothing.
fn without_means(amount: u64) -> Transaction {
    let (secret, to) = (key("beggar", 0), key("account", 0).public_key().address());
    let payload = Payload::Transfer { to, amount: Amount::saturating(amount) };
    Transaction::sign(&secret, chain_id(), Nonce::saturating(0), Amount::ZERO, None, payload)
}

/// A certificate that lacks a signature.
fn short(good: &Certificate) -> Certificate {
    with_signatures(good, |signatures| signatures.truncate(signatures.len().saturating_sub(1)))
}

fn with_signatures(
    good: &Certificate,
    change: impl FnOnce(&mut Vec<CommitSignature>),
) -> Certificate {
    let mut signatures = good.signatures().to_vec();
    change(&mut signatures);
    Certificate::new(good.height, good.round, good.block_id, signatures)
}

/// Has a header say what the body is.
fn commit_to_body(block: &mut Block) {
    let (leaves, bytes) = transaction_leaves(&block.transactions);
    block.header.transactions_root = list::root(&leaves);
    block.header.transaction_count = u32::try_from(leaves.len()).unwrap_or(u32::MAX);
    block.header.body_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
}

/// The same block a millisecond later, as good as the first.
fn twin(block: &Block) -> Block {
    let mut twin = block.clone();
    twin.header.time = block.header.time.next().unwrap_or(block.header.time);
    twin
}
