//! One height of consensus with a validator set of one, through our port: proposal,
//! prevote and precommit signed, logged, counted and decided. Blocks are not included.
//! Run with `cargo bench --bench consensus`.
//!
//! In memory: the library, three signatures with Ed25519 and the checks of them. On disk: the
//! write-ahead log and the signer's record on top, with all their syncs.

#![allow(clippy::unwrap_used, missing_docs, reason = "criterion's macros")]

mod common;

use ait_engine::crypto::{SecretKey, Signature};
use ait_engine::types::{BlockId, Height, Round, VotingPower};
use ait_engine::validator::{Validator, ValidatorSet};
use ait_engine::vote::{ProposalMessage, Vote};
use ait_node::consensus::{
    Action, Consensus, ConsensusConfig, Event, FileLog, FileSigner, VoteSigner, WriteAheadLog,
};
use ait_node::disk::WriteFault;
use common::{chain, validator};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use tempfile::TempDir;

/// Signs without a record.
struct Unrecorded(SecretKey);

impl VoteSigner for Unrecorded {
    fn sign_vote(&mut self, vote: &Vote) -> Result<Signature, WriteFault> {
        Ok(self.0.sign(vote.sign_hash(&chain()).as_bytes()))
    }

    fn sign_proposal(&mut self, proposal: &ProposalMessage) -> Result<Signature, WriteFault> {
        Ok(self.0.sign(proposal.sign_hash(&chain()).as_bytes()))
    }

    fn flush(&mut self) -> Result<(), WriteFault> {
        Ok(())
    }
}

/// Forgets what is logged.
struct Unlogged;

impl WriteAheadLog for Unlogged {
    fn begin(&mut self, _: Height) -> Result<(), WriteFault> {
        Ok(())
    }

    fn append(&mut self, _: &[u8]) -> Result<(), WriteFault> {
        Ok(())
    }

    fn flush(&mut self) -> Result<(), WriteFault> {
        Ok(())
    }
}

/// Does all that is to be done, until the height is decided and over.
fn run_height<S: VoteSigner, L: WriteAheadLog>(
    consensus: &mut Consensus<S, L>,
    height: Height,
    validators: &ValidatorSet,
) {
    let start = Event::StartHeight { height, validators: validators.clone() };
    let mut actions = consensus.on(start).unwrap();
    let mut is_decided = false;
    while let Some(action) = (!actions.is_empty()).then(|| actions.remove(0)) {
        match action {
            Action::GetValue { height, round } => {
                let mut block_id = BlockId([7; 32]);
                block_id.0[..8].copy_from_slice(&height.get().to_le_bytes());
                let proposed = Event::Proposed { height, round, block_id };
                actions.extend(consensus.on(proposed).unwrap());
            }
            Action::Decide { certificate, .. } => {
                assert_eq!((certificate.height, certificate.round), (height, Round::ZERO));
                is_decided = true;
            }
            _ => {}
        }
    }
    assert!(is_decided);
}

fn bench<S: VoteSigner, L: WriteAheadLog>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    signer: S,
    log: L,
) {
    let (key, power) = (validator().public_key(), VotingPower::saturating(1));
    let one = Validator { public_key: key, power, payout: key.address() };
    let validators = ValidatorSet::new(vec![one]).unwrap();
    let mut height = Height::saturating(1);
    let config = ConsensusConfig::new(chain(), key.address());
    let mut consensus = Consensus::new(config, height, &validators, signer, log);
    group.bench_function(name, |b| {
        b.iter(|| {
            run_height(&mut consensus, height, &validators);
            height = height.next().unwrap();
        });
    });
}

fn all(c: &mut Criterion) {
    let mut group = c.benchmark_group("consensus, a height of one validator");
    bench(&mut group, "in memory", Unrecorded(validator()), Unlogged);
    let directory = TempDir::new().unwrap();
    let record = directory.path().join("signer.record");
    let signer = FileSigner::open(&record, chain(), validator()).unwrap();
    let (log, _) = FileLog::open(&directory.path().join("consensus.log"), Height::ZERO).unwrap();
    bench(&mut group, "on disk", signer, log.into_writer(None));
    group.finish();
}

criterion_group!(benches, all);
criterion_main!(benches);
