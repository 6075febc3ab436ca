//! Each trap of the consensus library that was seen in its source or in a trial has a
//! test here; `specs/consensus.md` lists them by number.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use ait_engine::certificate::Certificate;
use ait_engine::crypto::{SecretKey, Signature};
use ait_engine::types::{BlockId, ChainId, Height, Round, VotingPower};
use ait_engine::validator::{Validator, ValidatorSet};
use ait_engine::vote::{ProposalMessage, SignedVote, Vote, VoteKind};

use malachitebft_core_consensus::Input;
use malachitebft_core_types::SignedMessage;

use super::context::CtxSignature;
use super::*;
use ait_engine::message::{Message, VerifiedMessage};

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
    /// Calls of a port so far, and the one at which it fails for good.
    calls: usize,
    fail_at: Option<usize>,
    /// What was done, in order, to check the order.
    trace: Vec<&'static str>,
}

impl Disk {
    fn call(&mut self, what: &'static str) -> Result<(), String> {
        self.calls += 1;
        if self.fail_at.is_some_and(|at| self.calls >= at) {
            return Err("injected".to_owned());
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

    fn sign(&self, place: (Height, Round, u8), hash: &[u8]) -> Result<Signature, String> {
        let mut disk = self.0.lock().unwrap();
        disk.call("sign")?;
        // As the real signer does: the record is durable before the signature leaves.
        let newest = disk.signed.last_key_value().map_or(place, |(newest, _)| *newest);
        if place < newest {
            return Err(format!("{place:?} is before {newest:?}, which was signed already"));
        }
        let signed = disk.signed.entry(place).or_default();
        if !signed.iter().any(|other| other == hash) {
            signed.push(hash.to_vec());
        }
        drop(disk);
        Ok(self.key().sign(hash))
    }
}

impl VoteSigner for Ports {
    fn sign_vote(&mut self, vote: &Vote) -> Result<Signature, String> {
        let step = if vote.kind == VoteKind::Prevote { 1 } else { 2 };
        self.sign((vote.height, vote.round, step), vote.sign_hash(&chain_id()).as_bytes())
    }
    fn sign_proposal(&mut self, p: &ProposalMessage) -> Result<Signature, String> {
        self.sign((p.height, p.round, 0), p.sign_hash(&chain_id()).as_bytes())
    }
}

impl WriteAheadLog for Ports {
    fn begin(&mut self, height: Height) -> Result<(), String> {
        let mut disk = self.0.lock().unwrap();
        disk.call("begin")?;
        (disk.height, disk.flushed) = (height, 0);
        disk.entries.clear();
        Ok(())
    }
    fn append(&mut self, entry: &[u8]) -> Result<(), String> {
        let mut disk = self.0.lock().unwrap();
        disk.call("append")?;
        disk.entries.push(entry.to_vec());
        Ok(())
    }
    fn flush(&mut self) -> Result<(), String> {
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
            Action::Decide(certificate) => decided.push(certificate),
            _ => {}
        }
    }
    Ok(decided)
}

#[test]
fn one_validator_decides_height_after_height() {
    let set = set_of(&keys(1));
    let ports = ports(1);
    let mut machine = machine(&ports, FIRST, &set);
    for n in 1..20 {
        let height = Height::saturating(n);
        let actions = machine.on(start(height, &set)).unwrap();
        let decided = run_alone(&mut machine, actions.into(), 7).unwrap();
        let [certificate] = &decided[..] else { panic!("{} decisions", decided.len()) };
        certificate.verify(&chain_id(), height, block(height, 7), &set).unwrap();
    }
}

#[test]
fn a_failed_append_flush_or_signature_stops_everything() {
    // Trap 1: the library logs a failed effect and goes on.
    let set = set_of(&keys(1));
    let mut failures = 0;
    for fail_at in 1..200 {
        let ports = ports(1);
        ports.0.lock().unwrap().fail_at = Some(fail_at);
        let mut machine = machine(&ports, FIRST, &set);
        let result =
            machine.on(start(FIRST, &set)).and_then(|a| run_alone(&mut machine, a.into(), 7));
        let Err(failure) = result else { break };
        failures += 1;
        assert!(!matches!(failure, ConsensusFailure::Poisoned | ConsensusFailure::Machine { .. }));
        let again = machine.on(start(FIRST, &set)).unwrap_err();
        assert_eq!(again, ConsensusFailure::Poisoned);
    }
    assert!(failures > 5, "only {failures} calls could fail");
}

#[test]
fn a_crash_at_any_call_never_leads_to_a_second_signature() {
    // Traps 2 and 3: the log is indexed and replayed before anything is answered.
    let set = set_of(&keys(1));
    let mut crashes = 0;
    for fail_at in 1..200 {
        let ports = ports(1);
        ports.0.lock().unwrap().fail_at = Some(fail_at);
        let mut first = machine(&ports, FIRST, &set);
        let result = first.on(start(FIRST, &set)).and_then(|a| run_alone(&mut first, a.into(), 7));
        if result.is_ok() {
            break;
        }
        crashes += 1;
        let entries = {
            let mut disk = ports.0.lock().unwrap();
            disk.fail_at = None;
            let flushed = disk.flushed;
            disk.entries.truncate(flushed);
            disk.entries.clone()
        };
        let mut second = machine(&ports, FIRST, &set);
        let actions = second.recover(&set, &entries).unwrap();
        // After the restart the node would build another block.
        let decided = run_alone(&mut second, actions.into(), 8).unwrap();
        assert_eq!(decided.len(), 1, "no decision after a crash at call {fail_at}");
        for (place, signed) in &ports.0.lock().unwrap().signed {
            assert_eq!(signed.len(), 1, "{place:?} was signed twice after a crash at {fail_at}");
        }
    }
    assert!(crashes > 5, "only {crashes} crashes");
}

/// What a crash leaves of the log.
fn survived(ports: &Ports, fail_at: Option<usize>) -> Vec<Vec<u8>> {
    let mut disk = ports.0.lock().unwrap();
    (disk.calls, disk.fail_at) = (0, fail_at);
    let flushed = disk.flushed;
    disk.entries.truncate(flushed);
    disk.entries.clone()
}

#[test]
fn what_is_signed_while_a_log_is_replayed_is_logged() {
    // A second crash must not meet a signer that has gone on without the log.
    let set = set_of(&keys(1));
    let mut crashes = 0;
    for (first_at, second_at) in (1..40).flat_map(|a| (1..40).map(move |b| (a, b))) {
        let ports = ports(1);
        ports.0.lock().unwrap().fail_at = Some(first_at);
        let mut first = machine(&ports, FIRST, &set);
        let _ = first.on(start(FIRST, &set)).and_then(|a| run_alone(&mut first, a.into(), 7));
        let entries = survived(&ports, Some(second_at));
        let mut second = machine(&ports, FIRST, &set);
        let again =
            second.recover(&set, &entries).and_then(|a| run_alone(&mut second, a.into(), 8));
        crashes += usize::from(again.is_err());
        let entries = survived(&ports, None);
        let mut third = machine(&ports, FIRST, &set);
        let actions = third.recover(&set, &entries);
        let actions = actions.unwrap_or_else(|e| panic!("crashes at {first_at}, {second_at}: {e}"));
        assert_eq!(run_alone(&mut third, actions.into(), 9).unwrap().len(), 1);
        assert!(ports.0.lock().unwrap().signed.values().all(|signed| signed.len() == 1));
    }
    assert!(crashes > 50, "only {crashes} crashes");
}

#[test]
fn the_log_is_flushed_before_every_signature() {
    // Trap 3.
    let set = set_of(&keys(1));
    let ports = ports(1);
    let mut machine = machine(&ports, FIRST, &set);
    let actions = machine.on(start(FIRST, &set)).unwrap();
    run_alone(&mut machine, actions.into(), 7).unwrap();
    let disk = ports.0.lock().unwrap();
    let mut unflushed = false;
    for call in &disk.trace {
        match *call {
            "append" => unflushed = true,
            "flush" => unflushed = false,
            "sign" => assert!(!unflushed, "signed over entries that were not durable"),
            _ => {}
        }
    }
    assert_eq!(disk.flushed, disk.entries.len(), "decided over entries that were not durable");
}

#[test]
fn refuses_a_height_before_the_last_is_finalized() {
    // Trap 4.
    let set = set_of(&keys(1));
    for (started, then) in [(1, 2), (1, 1), (2, 2)] {
        let ports = ports(1);
        let mut machine = machine(&ports, FIRST, &set);
        let result = machine
            .on(start(Height::saturating(started), &set))
            .and_then(|_| machine.on(start(Height::saturating(then), &set)));
        assert!(matches!(result, Err(ConsensusFailure::Height { .. })));
    }
}

#[test]
fn takes_the_largest_voting_power_there_is() {
    // Trap 5: above u64::MAX / 3 the library panics; sets are bounded far below.
    let keys = keys(1);
    let public_key = keys[0].public_key();
    let validator = Validator { public_key, power: VotingPower::MAX, payout: public_key.address() };
    let set = ValidatorSet::new(vec![validator]).unwrap();
    let ports = ports(1);
    let mut machine = machine(&ports, FIRST, &set);
    let actions = machine.on(start(FIRST, &set)).unwrap();
    assert_eq!(run_alone(&mut machine, actions.into(), 7).unwrap().len(), 1);
}

#[test]
fn evidence_of_the_last_heights_is_kept() {
    // Trap 6: the library forgets a height once it is finalized.
    let key = &keys(1)[0];
    let vote = |height, id: u8| {
        let vote = Vote {
            kind: VoteKind::Precommit,
            height: Height::saturating(height),
            round: Round::ZERO,
            block_id: Some(BlockId([id; 32])),
            validator: key.public_key().address(),
        };
        SignedVote { vote, signature: key.sign(vote.sign_hash(&chain_id()).as_bytes()) }
    };
    let mut recent = RecentVotes::new(3, 100);
    for height in 1..=5 {
        assert_eq!(recent.add(vote(height, 1)), None);
        assert_eq!(recent.add(vote(height, 1)), None, "the same vote is no evidence");
    }
    assert_eq!(recent.len(), 3);
    assert_eq!(recent.add(vote(4, 2)), Some((vote(4, 1), vote(4, 2))));
    assert_eq!(recent.add(vote(1, 2)), None, "height 1 is forgotten");
}

#[test]
fn timeouts_grow_and_are_capped() {
    // Trap 9.
    let set = set_of(&keys(4));
    let ports = ports(1);
    let mut machine = machine(&ports, FIRST, &set);
    let mut scheduled = Vec::new();
    let mut actions: VecDeque<_> = machine.on(start(FIRST, &set)).unwrap().into();
    let mut published = 0;
    for _ in 0..200 {
        let Some(action) = actions.pop_front() else { break };
        match action {
            Action::ScheduleTimeout { timeout, after_ms } => {
                scheduled.push((timeout, after_ms));
                actions.extend(machine.on(Event::TimeoutElapsed(timeout)).unwrap());
            }
            Action::Publish(_) => published += 1,
            _ => {}
        }
    }
    assert!(published >= 2, "a validator alone must go on saying what it said");
    assert!(scheduled.iter().all(|(_, after_ms)| (1..=30_000).contains(after_ms)));
    let config = ConsensusConfig::new(chain_id(), ports.key().public_key().address());
    assert_eq!(config.timeout_max_ms, 30_000);
}

#[test]
fn nothing_is_scheduled_before_a_height_is_started() {
    // Traps 8 and 10: an idle chain runs no time-outs, and there is no target time.
    let set = set_of(&keys(1));
    let ports = ports(1);
    let mut machine = machine(&ports, FIRST, &set);
    let actions = machine.on(start(FIRST, &set)).unwrap();
    let mut all: VecDeque<_> = actions.into();
    let mut open = Vec::new();
    while let Some(action) = all.pop_front() {
        match action {
            Action::ScheduleTimeout { timeout, .. } => open.push(timeout),
            Action::CancelTimeout(timeout) => open.retain(|t| *t != timeout),
            Action::CancelAllTimeouts => open.clear(),
            Action::GetValue { height, round } => {
                let block_id = block(height, 1);
                all.extend(machine.on(Event::Proposed { height, round, block_id }).unwrap());
            }
            _ => {}
        }
    }
    // What is left open after the decision is dropped by the sequencer with the height.
    assert!(open.iter().all(|timeout| timeout.round == Round::ZERO));
}

/// Four validators with messages delivered at once, in order; `down` hears and says nothing.
fn run_four(down: Option<usize>, lossless: bool) -> Vec<Vec<Certificate>> {
    let keys = keys(4);
    let set = set_of(&keys);
    let all: Vec<_> = (1..=4).map(ports).collect();
    let mut machines: Vec<_> = all.iter().map(|p| machine(p, FIRST, &set)).collect();
    let mut decided = vec![Vec::new(); 4];
    let mut todo: VecDeque<(usize, Event)> =
        (0..4).filter(|n| Some(*n) != down).map(|n| (n, start(FIRST, &set))).collect();
    let mut timeouts: VecDeque<(usize, Timeout)> = VecDeque::new();
    let mut dropped = 0_u32;
    for _ in 0..20_000 {
        let (at, event) = match todo.pop_front() {
            Some(next) => next,
            None => match timeouts.pop_front() {
                Some((at, timeout)) => (at, Event::TimeoutElapsed(timeout)),
                None => break,
            },
        };
        if !decided[at].is_empty() {
            continue;
        }
        for action in machines[at].on(event).unwrap() {
            match action {
                Action::GetValue { height, round } => {
                    let block_id = block(height, at as u8);
                    todo.push_back((at, Event::Proposed { height, round, block_id }));
                }
                Action::Publish(message) => {
                    for other in (0..4).filter(|o| *o != at && Some(*o) != down) {
                        dropped += 1;
                        if !lossless && dropped.is_multiple_of(7) {
                            continue;
                        }
                        if let Message::Proposal(p) = &message {
                            let p = p.proposal;
                            let received = Event::BlockReceived {
                                height: p.height,
                                round: p.round,
                                proposer: p.proposer,
                                block_id: p.block_id,
                                is_valid: true,
                            };
                            todo.push_back((other, received));
                        }
                        todo.push_back((other, Event::Received(verified(&message, &set))));
                    }
                }
                Action::ScheduleTimeout { timeout, .. } => timeouts.push_back((at, timeout)),
                Action::Decide(certificate) => decided[at].push(certificate),
                _ => {}
            }
        }
    }
    for certificate in decided.iter().flatten() {
        certificate.verify(&chain_id(), FIRST, certificate.block_id, &set).unwrap();
    }
    decided
}

fn check_agreement(decided: &[Vec<Certificate>], deciding: usize) {
    let ids: Vec<_> = decided.iter().flatten().map(|c| c.block_id).collect();
    assert_eq!(ids.len(), deciding);
    assert!(ids.windows(2).all(|pair| pair[0] == pair[1]), "two blocks at one height");
}

#[test]
fn four_validators_agree() {
    check_agreement(&run_four(None, true), 4);
}

#[test]
fn three_of_four_validators_agree_whichever_is_down() {
    for down in 0..4 {
        check_agreement(&run_four(Some(down), true), 3);
    }
}

#[test]
fn lost_messages_are_made_up_by_time_outs_and_liveness_messages() {
    // Trap 9.
    let decided = run_four(None, false);
    let ids: Vec<_> = decided.iter().flatten().map(|c| c.block_id).collect();
    assert!(ids.len() >= 3, "{} of 4 decided", ids.len());
    assert!(ids.windows(2).all(|pair| pair[0] == pair[1]), "two blocks at one height");
}

#[test]
fn a_log_torn_at_any_byte_keeps_whole_entries() {
    // Trap 7: a local file.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("consensus.log");
    let entries: Vec<Vec<u8>> = (0..5_u8).map(|n| vec![n; usize::from(n) * 9]).collect();
    let (log, found) = FileLog::open(&path).unwrap();
    assert_eq!(found, None);
    let mut writer = log.into_writer(None);
    writer.begin(Height::saturating(9)).unwrap();
    for entry in &entries {
        writer.append(entry).unwrap();
    }
    writer.flush().unwrap();
    let whole = std::fs::read(&path).unwrap();
    for length in 0..=whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        let (_, found) = FileLog::open(&path).unwrap();
        let found = found.map(|(height, entries)| {
            assert_eq!(height, Height::saturating(9));
            entries
        });
        let found = found.unwrap_or_default();
        assert_eq!(found, entries[..found.len()]);
        let mut flipped = whole.clone();
        flipped[length.min(whole.len() - 1)] ^= 1;
        std::fs::write(&path, &flipped).unwrap();
        // Where entries follow it was flushed: that is no torn tail, and nothing is cut off.
        let at = length.min(whole.len() - 1);
        let last = whole.len() - entries[4].len() - 12;
        match FileLog::open(&path) {
            Err(LogError::Damaged { offset, .. }) => {
                assert!((8..last).contains(&at) && offset <= at as u64, "{at}");
                assert_eq!(std::fs::read(&path).unwrap(), flipped);
            }
            Err(LogError::Foreign { .. }) => assert!(at < 8),
            Ok((_, found)) => {
                let found = found.map(|(_, entries)| entries).unwrap_or_default();
                assert!(at >= last, "{at}");
                assert_eq!(found, entries[..4]);
            }
            Err(other) => panic!("{other}"),
        }
    }
    std::fs::write(&path, &whole).unwrap();
    let (log, found) = FileLog::open(&path).unwrap();
    let mut writer = log.into_writer(found.as_ref());
    writer.append(b"more").unwrap();
    let (_, found) = FileLog::open(&path).unwrap();
    assert_eq!(found.unwrap().1.len(), 6);
}

#[test]
fn the_signers_record_only_goes_forward() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signer.record");
    let open = || FileSigner::open(&path, chain_id(), SecretKey::from_seed([1; 32]));
    let vote = |height, round, kind, id: u8| Vote {
        kind,
        height: Height::saturating(height),
        round: Round::saturating(round),
        block_id: Some(BlockId([id; 32])),
        validator: keys(1)[0].public_key().address(),
    };
    let mut signer = open().unwrap();
    let first = signer.sign_vote(&vote(5, 0, VoteKind::Prevote, 1)).unwrap();
    signer.sign_vote(&vote(5, 0, VoteKind::Precommit, 1)).unwrap();
    for _ in 0..2 {
        // The same again is the same; anything else or earlier is refused, after a restart too.
        signer.sign_vote(&vote(5, 0, VoteKind::Precommit, 1)).unwrap();
        assert!(signer.sign_vote(&vote(5, 0, VoteKind::Precommit, 2)).is_err());
        assert!(signer.sign_vote(&vote(5, 0, VoteKind::Prevote, 1)).is_err());
        assert!(signer.sign_vote(&vote(4, 9, VoteKind::Precommit, 1)).is_err());
        signer = open().unwrap();
    }
    signer.sign_vote(&vote(5, 1, VoteKind::Prevote, 2)).unwrap();
    assert_ne!(first.0, [0; 64]);
    let whole = std::fs::read(&path).unwrap();
    // One torn slot: the one before counts. Both damaged: nobody may sign.
    let mut torn = whole.clone();
    torn[10] ^= 1;
    std::fs::write(&path, &torn).unwrap();
    let mut signer = open().unwrap();
    assert!(signer.sign_vote(&vote(4, 0, VoteKind::Prevote, 1)).is_err());
    torn[140] ^= 1;
    std::fs::write(&path, &torn).unwrap();
    assert!(matches!(open(), Err(SignerError::Damaged { .. })));
}

#[test]
fn a_log_whose_bytes_a_power_cut_left_zero_is_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("consensus.log");
    // The length of a file may be on the disk before its bytes.
    for left in [&[0; 400][..], b"AITW\0\0\0\0\0\0", b"AIT"] {
        std::fs::write(&path, left).unwrap();
        let seen = FileLog::inspect(&path).unwrap().unwrap();
        assert_eq!((seen.logged, seen.is_damaged), (None, false));
        assert_eq!(FileLog::open(&path).unwrap().1, None);
    }
    std::fs::write(&path, b"AITX another file").unwrap();
    assert!(FileLog::open(&path).is_err());
}

#[test]
fn a_record_behind_the_log_is_not_signed_upon() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signer.record");
    let key = SecretKey::from_seed([1; 32]);
    let open = || FileSigner::open(&path, chain_id(), SecretKey::from_seed([1; 32])).unwrap();
    let vote = |kind, validator| Vote {
        kind,
        height: Height::saturating(5),
        round: Round::ZERO,
        block_id: Some(BlockId([7; 32])),
        validator,
    };
    let mut signer = open();
    let own = key.public_key().address();
    let mut entries = Vec::new();
    for kind in [VoteKind::Prevote, VoteKind::Precommit] {
        let signature = signer.sign_vote(&vote(kind, own)).unwrap();
        let signed = SignedMessage::new(vote(kind, own).into(), CtxSignature(signature));
        entries.push(entry::encode(&Input::Vote(signed)).unwrap());
    }
    let logged = (Height::saturating(5), entries);
    assert!(!signer.is_behind(&logged));
    // The half with the precommit is damaged: the other one knows of the prevote only.
    let whole = std::fs::read(&path).unwrap();
    for at in [0, 12, 20, 24, 40, 70, 100, 127] {
        let mut bad = whole.clone();
        bad[128 + at] ^= 1;
        std::fs::write(&path, &bad).unwrap();
        // The last 32 bytes are not used.
        assert_eq!(open().is_behind(&logged), at < 96, "{at}");
    }
    // What was logged at another height says nothing.
    let (_, entries) = logged;
    assert!(!open().is_behind(&(Height::saturating(6), entries)));
}

#[test]
fn a_signers_record_that_others_may_wind_back_is_refused() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signer.record");
    let open = || FileSigner::open(&path, chain_id(), SecretKey::from_seed([1; 32]));
    open().unwrap();
    for mode in [0o620, 0o602, 0o644] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let error = open().unwrap_err();
        assert!(matches!(error, SignerError::Permissions { mode: found, .. } if found == mode));
        assert!(error.to_string().contains("chmod 600"));
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    open().unwrap();
}
