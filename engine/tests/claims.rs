//! Claims of receipts: what they mint, to whom, once, and every way they are refused.

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;

use ait_engine::crypto::Signature;
use ait_engine::execute::Refusal;
use ait_engine::limits::AMOUNT_MAX;
use ait_engine::outcome::Reward;
use ait_engine::params::{ParamChange, ParamSet};
use ait_engine::receipt::ReceiptClaim;
use ait_engine::state::{EntryKind, Key};
use ait_engine::transaction::{Payload, Transaction, TransactionError, VerifiedTransaction};
use ait_engine::types::{Nonce, TimestampMs};
use common::*;

fn unverified(claim: ReceiptClaim) -> Transaction {
    let payload = Payload::ReceiptClaim(claim);
    Transaction::sign(&key(MINER), chain(), Nonce::ZERO, amount(0), None, payload)
}

fn reward(n: u8, value: u64) -> Reward {
    Reward { address: address(n), amount: amount(value) }
}

/// These coordinators in the order of their keys, in which they are paid.
fn in_order(coordinators: &[u8]) -> Vec<u8> {
    let mut sorted = coordinators.to_vec();
    sorted.sort_unstable_by_key(|n| key(*n).public_key());
    sorted
}

#[test]
fn a_claim_mints_for_the_provider_and_on_top_for_the_coordinator() {
    let mut world = World::new(&[]);
    let claim = Claim::default();
    let payload = Payload::ReceiptClaim(claim.sign());
    let (_, outcomes) = world.commit(&[sign(MINER, 0, 9, payload)]);
    let minted = 2_500 * 1_000;
    let share = minted / 20;
    let expected = [reward(MINER, minted), reward(COORDINATORS[0], share)];
    assert_eq!(outcomes[0].rewards, expected);
    assert_eq!(world.balance(MINER), FUNDS + minted - 9);
    assert_eq!(world.balance(COORDINATORS[0]), share);
    assert_eq!(world.balance(VALIDATOR), 9);
    assert_eq!(world.supply().minted, amount(minted + share));
    assert_eq!(world.supply().total, amount(4 * FUNDS + minted + share));
    let entry = world.value(&Key::receipt("r-1")).unwrap();
    assert_eq!(entry.as_bytes()[0], EntryKind::Receipt as u8);
    assert_eq!(entry.as_bytes()[8..16], 1_u64.to_le_bytes());
    assert_eq!(entry.as_bytes()[16..], (minted + share).to_le_bytes());
    let job = world.value(&Key::job("job_1")).unwrap();
    assert_eq!((job.as_bytes()[0], job.as_bytes()[8]), (EntryKind::Job as u8, 1));
}

/// Units, `mint_per_unit`, ratio, coordinators; the provider's reward and the coordinators' parts.
type RewardCase = (&'static str, u64, u64, usize, u64, &'static [u64]);

#[test]
fn rewards_are_rounded_down_and_the_rest_goes_to_the_first_coordinator() {
    let cases: [RewardCase; 11] = [
        ("1", 1_000, 500, 1, 1_000, &[50]),
        ("0.0019", 1_000, 500, 1, 1, &[]),
        ("1.9999", 1, 500, 1, 1, &[]),
        ("39", 1, 500, 1, 39, &[1]),
        ("40", 1, 500, 2, 40, &[1, 1]),
        ("60", 1, 500, 2, 60, &[2, 1]),
        ("100", 1, 500, 3, 100, &[3, 1, 1]),
        ("20", 1, 500, 3, 20, &[1]),
        ("7", 1, 10_000, 3, 7, &[3, 2, 2]),
        ("7", 1, 0, 3, 7, &[]),
        ("0.5", 3, 10_000, 1, 1, &[1]),
    ];
    for (units, per_unit, ratio, count, minted, parts) in cases {
        let mut world =
            World::new(&[("mint_per_unit", per_unit), ("coordinator_ratio_bps", ratio)]);
        let coordinators = COORDINATORS[..count].to_vec();
        let paid = in_order(&coordinators);
        let claim = Claim { units: units.to_owned(), coordinators, ..Claim::default() };
        let (_, outcomes) = world.commit(&[claim.by(MINER, 0)]);
        let mut expected = vec![reward(MINER, minted)];
        expected.extend(paid.iter().zip(parts).map(|(n, part)| reward(*n, *part)));
        assert_eq!(outcomes[0].rewards, expected, "{units} units");
    }
}

#[test]
fn a_provider_under_a_bound_name_claims_with_its_bound_key() {
    let mut world = World::new(&[]);
    world.commit(&[bind(MINER, 0, "rig-1", 30)]);
    let claim = Claim { provider: "rig-1".to_owned(), signer: 30, ..Claim::default() };
    let stranger = world.refusal(&[], &claim.by(ALICE, 0));
    assert_eq!(stranger, Refusal::ProviderMismatch { expected: address(MINER) });
    let own_key = Claim { signer: MINER, ..claim.clone() };
    assert_eq!(world.refusal(&[], &own_key.by(MINER, 1)), Refusal::ProviderKeyMismatch);
    let (_, outcomes) = world.commit(&[claim.by(MINER, 1)]);
    assert_eq!(outcomes[0].rewards[0], reward(MINER, 2_500_000));
}

#[test]
fn receipt_and_job_are_claimed_once_within_a_block_and_later() {
    let mut world = World::new(&[]);
    let first = Claim::default();
    let same_receipt = Claim { job_id: "job_2".to_owned(), ..first.clone() };
    let same_job = Claim { receipt_id: "r-2".to_owned(), ..first.clone() };
    let claimed = Refusal::ReceiptClaimed { receipt_id: "r-1".to_owned() };
    let job_claimed = Refusal::JobClaimed { job_id: "job_1".to_owned() };
    let within = [first.by(MINER, 0)];
    assert_eq!(world.refusal(&within, &first.by(MINER, 1)), claimed);
    assert_eq!(world.refusal(&within, &same_receipt.by(MINER, 1)), claimed);
    assert_eq!(world.refusal(&within, &same_job.by(MINER, 1)), job_claimed);
    world.commit(&within);
    assert_eq!(world.refusal(&[], &first.by(MINER, 1)), claimed);
    assert_eq!(world.refusal(&[], &same_receipt.by(MINER, 1)), claimed);
    assert_eq!(world.refusal(&[], &same_job.by(MINER, 1)), job_claimed);
    // A refused claim uses neither up.
    let other = Claim { receipt_id: "r-2".to_owned(), job_id: "job_2".to_owned(), ..first };
    world.commit(&[other.by(MINER, 1)]);
    assert_eq!(world.account(MINER).nonce, Nonce::saturating(2));
}

#[test]
fn forged_signatures_are_found_before_any_state() {
    let good = Claim { coordinators: vec![4, 5], ..Claim::default() }.sign();
    assert!(unverified(good.clone()).verify().is_ok());
    let flip = |signature: Signature| {
        let mut bytes = signature.0;
        bytes[3] ^= 1;
        Signature(bytes)
    };
    let forged = ReceiptClaim { provider_signature: flip(good.provider_signature), ..good.clone() };
    assert_eq!(unverified(forged).verify(), Err(TransactionError::ProviderSignature));
    let stranger = ReceiptClaim { provider_key: key(ALICE).public_key(), ..good.clone() };
    assert_eq!(unverified(stranger).verify(), Err(TransactionError::ProviderSignature));
    for at in 0..2 {
        let mut forged = good.clone();
        forged.attestations[at].signature = flip(forged.attestations[at].signature);
        let coordinator = forged.attestations[at].coordinator;
        let expected = Err(TransactionError::Attestation { coordinator });
        assert_eq!(unverified(forged).verify(), expected);
    }
    let more = String::from_utf8(good.receipt.clone()).unwrap().replace("2500", "2501");
    let more = ReceiptClaim { receipt: more.into_bytes(), ..good.clone() };
    assert_eq!(unverified(more).verify(), Err(TransactionError::ProviderSignature));
    let mut signed = unverified(good);
    signed.fee = amount(1);
    assert_eq!(signed.verify(), Err(TransactionError::Signature));
}

#[test]
fn a_receipt_that_is_not_canonical_is_no_transaction() {
    let good = Claim::default().text();
    for bad in [
        format!(" {good}"),
        good.replace("\"units\":2500", "\"units\":-2500"),
        good.replace("\"units\":2500", "\"units\":2500.0000001"),
        good.replace("\"units\":2500", "\"units\":0"),
        good.replace("\"version\":\"1.0\"", "\"version\":\"2.0\""),
        good.replace("\"started_at\":1", "\"started_at\":1800000000"),
        "{}".to_owned(),
        String::new(),
    ] {
        let receipt = bad.clone().into_bytes();
        let provider_signature = key(MINER).sign(&receipt);
        let claim = ReceiptClaim { receipt, provider_signature, ..Claim::default().sign() };
        let error = unverified(claim).verify().unwrap_err();
        assert_eq!(error.code(), "receipt_malformed", "{bad}");
    }
}

#[test]
fn a_receipt_is_claimed_within_its_age_to_the_second() {
    let world = World::new(&[("receipt_age_s_max", 60)]);
    let block_time = world.next_time().get() / 1_000;
    let claim = |completed_at| Claim { completed_at, ..Claim::default() }.by(MINER, 0);
    for good in [block_time, block_time - 60] {
        assert_eq!(world.build(&[claim(good)]).0.transactions.len(), 1);
    }
    let future = world.refusal(&[], &claim(block_time + 1));
    let expected = Refusal::ReceiptFromFuture { completed_at: block_time + 1, block_time };
    assert_eq!(future, expected);
    assert!(future.may_apply_later());
    let old = world.refusal(&[], &claim(block_time - 61));
    let expected = Refusal::ReceiptExpired { completed_at: block_time - 61, max_age: 60 };
    assert_eq!(old, expected);
    assert!(!old.may_apply_later());
}

#[test]
fn a_retired_coordinator_no_longer_counts_and_a_new_one_does() {
    let mut world = World::new(&[]);
    let change = |n: u8, active| ParamChange::Coordinator {
        public_key: key(n).public_key(),
        payout: address(50),
        active,
    };
    let newcomer = Claim { coordinators: vec![40], ..Claim::default() };
    let veteran = Claim::default();
    let unknown = |n: u8| Refusal::CoordinatorUnknown { coordinator: key(n).public_key() };
    assert_eq!(world.refusal(&[], &newcomer.by(MINER, 0)), unknown(40));
    let changes = ParamSet::new(vec![change(40, true), change(4, false)]).unwrap();
    world.commit(&[sign(GOVERNOR, 0, 0, Payload::ParamSet(changes))]);
    assert_eq!(world.refusal(&[], &veteran.by(MINER, 0)), unknown(4));
    let (_, outcomes) = world.commit(&[newcomer.by(MINER, 0)]);
    assert_eq!(outcomes[0].rewards[1], reward(50, 125_000));
}

/// Each refusal of a claim with the transactions before it and its world.
fn refusals() -> Vec<(&'static str, World, Vec<VerifiedTransaction>, VerifiedTransaction)> {
    let plain = || World::new(&[]);
    let huge = &[
        ("mint_per_unit", 1_000_000_000_000),
        ("receipt_micro_units_max", 1_000_000_000_000_000),
        ("coordinator_ratio_bps", 10_000),
    ];
    let claim = |change: fn(&mut Claim)| {
        let mut claim = Claim::default();
        change(&mut claim);
        claim.by(MINER, 0)
    };
    let malformed = ReceiptClaim { receipt: b"{}".to_vec(), ..Claim::default().sign() };
    let malformed = VerifiedTransaction::assume_verified(unverified(malformed));
    let again = |change: fn(&mut Claim)| {
        let mut claim = Claim::default();
        change(&mut claim);
        (vec![Claim::default().by(MINER, 0)], claim.by(MINER, 1))
    };
    let (first, second) = again(|_| {});
    let (first_job, second_job) = again(|c| c.receipt_id = "r-2".to_owned());
    let half_of_max = AMOUNT_MAX / 1_000_000_000_000 / 2 + 1;
    let doubled = Claim { units: half_of_max.to_string(), ..Claim::default() }.by(MINER, 0);
    vec![
        ("receipt_malformed", plain(), vec![], malformed),
        ("receipt_wrong_chain", plain(), vec![], claim(|c| c.chain_id = Some("x".to_owned()))),
        ("receipt_expired", plain(), vec![], claim(|c| c.completed_at = 2)),
        ("receipt_from_future", plain(), vec![], claim(|c| c.completed_at = TIME + 2)),
        ("units_over_maximum", plain(), vec![], claim(|c| c.units = "1000000.000001".to_owned())),
        ("reward_zero", plain(), vec![], claim(|c| c.units = "0.000999".to_owned())),
        // The provider's alone, then together with the coordinator's.
        ("reward_overflow", World::new(huge), vec![], claim(|c| c.units = "10000000".to_owned())),
        ("reward_overflow", World::new(huge), vec![], doubled),
        ("receipt_claimed", plain(), first, second),
        ("job_claimed", plain(), first_job, second_job),
        ("provider_unknown", plain(), vec![], claim(|c| c.provider = "rig-9".to_owned())),
        ("provider_mismatch", plain(), vec![], Claim::default().by(ALICE, 0)),
        ("provider_key_mismatch", plain(), vec![], claim(|c| c.signer = ALICE)),
        ("attestations_missing", plain(), vec![], claim(|c| c.coordinators = vec![])),
        (
            "attestations_missing",
            World::new(&[("attestation_threshold", 3)]),
            vec![],
            claim(|c| c.coordinators = vec![4, 6]),
        ),
        ("coordinator_unknown", plain(), vec![], claim(|c| c.coordinators = vec![4, ALICE])),
    ]
}

#[test]
fn every_refusal_of_a_claim_has_its_code_and_leaves_no_trace() {
    let mut provoked = BTreeSet::new();
    for (code, world, before, bad) in refusals() {
        let refusal = world.refusal(&before, &bad);
        assert_eq!(refusal.code(), code, "{refusal}");
        assert!(!refusal.to_string().is_empty());
        provoked.insert(code);
    }
    assert_eq!(provoked, BTreeSet::from(CLAIM_CODES));
    assert!(CLAIM_CODES.iter().all(|code| codes_in_source().contains(*code)));
}

#[test]
fn a_receipt_that_names_this_chain_is_claimed() {
    let mut world = World::new(&[]);
    let claim = Claim { chain_id: Some(CHAIN.to_owned()), ..Claim::default() };
    assert_eq!(world.next_time(), TimestampMs::saturating((TIME + 1) * 1_000));
    world.commit(&[claim.by(MINER, 0)]);
    assert!(world.value(&Key::receipt("r-1")).is_some());
}

#[test]
fn attestations_up_to_the_threshold_suffice_and_more_share() {
    let mut world = World::new(&[("attestation_threshold", 2)]);
    let claim = Claim { coordinators: COORDINATORS.to_vec(), ..Claim::default() };
    let (_, outcomes) = world.commit(&[claim.by(MINER, 0)]);
    assert_eq!(outcomes[0].rewards.len(), 4);
    let shares: u64 = outcomes[0].rewards[1..].iter().map(|r| r.amount.get()).sum();
    assert_eq!(shares, 125_000);
    assert_eq!(outcomes[0].minted(), amount(2_625_000));
}
