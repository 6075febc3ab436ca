//! Each trap of the consensus library that was seen in its source or in a trial has a
//! test here; `specs/consensus.md` lists them by number.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use ait_engine::certificate::Certificate;
use ait_engine::crypto::{SecretKey, Signature, verify};
use ait_engine::types::{BlockId, ChainId, Height, Round, VotingPower};
use ait_engine::validator::{Validator, ValidatorSet};
use ait_engine::vote::{ProposalMessage, SignedVote, Vote, VoteKind};

use super::*;
use crate::disk::WriteFault;
use ait_engine::message::{Message, VerifiedMessage};

mod agreement;
mod crashes;
mod file_log;
mod heights;
mod signer;
mod votes;

const FIRST: Height = Height::saturating(1);

fn chain_id() -> ChainId {
    "test".parse().unwrap()
}

fn keys(count: u8) -> Vec<SecretKey> {
    (1..=count).map(|n| SecretKey::from_seed([n; 32])).collect()
}

fn set_of(keys: &[SecretKey]) -> ValidatorSet {
    let validators = keys.iter().map(|key| Validator {
        public_key: key.public_key(),
        power: VotingPower::saturating(1),
        payout: key.public_key().address(),
    });
    ValidatorSet::new(validators.collect()).unwrap()
}

fn verified(message: &Message, set: &ValidatorSet) -> VerifiedMessage {
    message.clone().verify(&chain_id(), set).unwrap()
}

fn block(height: Height, salt: u8) -> BlockId {
    let mut id = [salt; 32];
    id[..8].copy_from_slice(&height.get().to_le_bytes());
    BlockId(id)
}

/// What survives a crash: the flushed log, and everything that was ever signed.
#[derive(Default)]
struct Disk {
    height: Height,
    entries: Vec<Vec<u8>>,
    flushed: usize,
    signed: BTreeMap<(Height, Round, u8), Vec<Vec<u8>>>,
    /// What was signed and is not recorded: gone after a crash, and never given out.
    unrecorded: Vec<((Height, Round, u8), Vec<u8>)>,
    /// Calls of a port so far, and the one at which it fails for good.
    calls: usize,
    fail_at: Option<usize>,
    /// What was done, in order, to check the order.
    trace: Vec<&'static str>,
}

impl Disk {
    fn call(&mut self, what: &'static str) -> Result<(), WriteFault> {
        self.calls += 1;
        if self.fail_at.is_some_and(|at| self.calls >= at) {
            return Err("injected".to_owned().into());
        }
        self.trace.push(what);
        Ok(())
    }
}

#[derive(Clone)]
struct Ports(Arc<Mutex<Disk>>, u8);

impl Ports {
    fn key(&self) -> SecretKey {
        SecretKey::from_seed([self.1; 32])
    }

    fn sign(&self, place: (Height, Round, u8), hash: &[u8]) -> Result<Signature, WriteFault> {
        let mut disk = self.0.lock().unwrap();
        disk.call("sign")?;
        let newest = disk.signed.last_key_value().map_or(place, |(newest, _)| *newest);
        if place < newest {
            return Err(format!("{place:?} is before {newest:?}, which was signed already").into());
        }
        disk.unrecorded.push((place, hash.to_vec()));
        drop(disk);
        Ok(self.key().sign(hash))
    }

    fn record(&self) -> Result<(), WriteFault> {
        let mut disk = self.0.lock().unwrap();
        if disk.unrecorded.is_empty() {
            return Ok(());
        }
        disk.call("record")?;
        for (place, hash) in std::mem::take(&mut disk.unrecorded) {
            let signed = disk.signed.entry(place).or_default();
            if !signed.contains(&hash) {
                signed.push(hash);
            }
        }
        Ok(())
    }
}

impl VoteSigner for Ports {
    fn sign_vote(&mut self, vote: &Vote) -> Result<Signature, WriteFault> {
        let step = if vote.kind == VoteKind::Prevote { 1 } else { 2 };
        self.sign((vote.height, vote.round, step), vote.sign_hash(&chain_id()).as_bytes())
    }
    fn sign_proposal(&mut self, p: &ProposalMessage) -> Result<Signature, WriteFault> {
        self.sign((p.height, p.round, 0), p.sign_hash(&chain_id()).as_bytes())
    }
    fn flush(&mut self) -> Result<(), WriteFault> {
        self.record()
    }
}

impl WriteAheadLog for Ports {
    fn begin(&mut self, height: Height) -> Result<(), WriteFault> {
        let mut disk = self.0.lock().unwrap();
        disk.call("begin")?;
        (disk.height, disk.flushed) = (height, 0);
        disk.entries.clear();
        Ok(())
    }
    fn append(&mut self, entry: &[u8]) -> Result<(), WriteFault> {
        let mut disk = self.0.lock().unwrap();
        disk.call("append")?;
        disk.entries.push(entry.to_vec());
        Ok(())
    }
    fn flush(&mut self) -> Result<(), WriteFault> {
        let mut disk = self.0.lock().unwrap();
        disk.call("flush")?;
        disk.flushed = disk.entries.len();
        Ok(())
    }
}

fn ports(n: u8) -> Ports {
    Ports(Arc::default(), n)
}

type Machine = Consensus<Ports, Ports>;

fn machine(ports: &Ports, next: Height, set: &ValidatorSet) -> Machine {
    let config = ConsensusConfig::new(chain_id(), ports.key().public_key().address());
    Consensus::new(config, next, set, ports.clone(), ports.clone())
}

fn start(height: Height, set: &ValidatorSet) -> Event {
    Event::StartHeight { height, validators: set.clone() }
}

/// Runs a set of one until its height is finalized; `salt` tells blocks apart.
fn run_alone(
    machine: &mut Machine,
    mut actions: VecDeque<Action>,
    salt: u8,
) -> Result<Vec<Certificate>, ConsensusFailure> {
    let mut decided = Vec::new();
    while let Some(action) = actions.pop_front() {
        match action {
            Action::GetValue { height, round } => {
                let block_id = block(height, salt);
                actions.extend(machine.on(Event::Proposed { height, round, block_id })?);
            }
            Action::Decide { certificate, made_here } => {
                let key = SecretKey::from_seed([1; 32]).public_key();
                for (hash, signature) in made_here {
                    verify(&key, hash.as_bytes(), &signature).unwrap();
                }
                decided.push(certificate);
            }
            Action::Publish(_) => machine.record()?,
            _ => {}
        }
    }
    Ok(decided)
}
