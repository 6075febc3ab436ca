//! The state transition: every kind, every refusal that is not a claim's, every header field.

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;

use ait_engine::block::Header;
use ait_engine::codec::Canonical;
use ait_engine::execute::{BlockBuilder, BlockError, Fault, Limit, Refusal, execute_block};
use ait_engine::genesis::GenesisDocument;
use ait_engine::limits::AMOUNT_MAX;
use ait_engine::params::{ParamChange, ParamSet};
use ait_engine::state::{Account, Coordinator, EntryKind, Key, Provider, Supply};
use ait_engine::transaction::{
    Payload, ProviderBind, Transaction, TransactionError, VerifiedTransaction,
};
use ait_engine::types::{Address, BlockId, Hash, Height, Nonce, StateRoot, TimestampMs};
use common::*;
use proptest::prelude::*;

fn expiring(from: u8, nonce: u64, expires_at: u64) -> VerifiedTransaction {
    let expires_at = Height::new(expires_at);
    let nonce = Nonce::new(nonce).unwrap();
    let payload = transfer(BOB, 1);
    Transaction::sign(&key(from), chain(), nonce, amount(0), expires_at, payload).verify().unwrap()
}

#[test]
fn a_transfer_moves_tokens_and_its_fee_goes_to_the_proposer() {
    let mut world = World::new(&[]);
    let (_, outcomes) = world
        .commit(&[sign(ALICE, 0, 7, transfer(BOB, 100)), sign(ALICE, 1, 5, transfer(PROBE_TO, 1))]);
    assert_eq!(world.balance(ALICE), FUNDS - 113);
    assert_eq!(world.account(ALICE).nonce, Nonce::saturating(2));
    assert_eq!(world.balance(BOB), FUNDS + 100);
    assert_eq!(world.account(BOB).nonce, Nonce::ZERO);
    assert_eq!(world.balance(PROBE_TO), 1);
    assert_eq!(world.balance(VALIDATOR), 12);
    assert_eq!(world.supply(), Supply { total: amount(4 * FUNDS), minted: amount(0) });
    let fees: Vec<_> = outcomes.iter().map(|outcome| outcome.fee.get()).collect();
    assert_eq!(fees, [7, 5]);
    assert!(outcomes.iter().all(|outcome| outcome.rewards.is_empty()));
}

#[test]
fn a_proposer_that_spends_gets_its_own_fee_back() {
    let mut world = World::new(&[]);
    world.commit(&[sign(ALICE, 0, 0, transfer(VALIDATOR, 50))]);
    world.commit(&[sign(VALIDATOR, 0, 20, transfer(BOB, 30))]);
    assert_eq!(world.balance(VALIDATOR), 20);
    assert_eq!(world.account(VALIDATOR).nonce, Nonce::saturating(1));
    // What is not there yet cannot be spent: fees are paid at the end of the block.
    let earns = sign(ALICE, 1, 9, transfer(BOB, 1));
    let spends = sign(VALIDATOR, 1, 0, transfer(BOB, 21));
    let refusal = world.refusal(&[earns], &spends);
    assert_eq!(refusal, Refusal::InsufficientFunds { balance: amount(20), needed: amount(21) });
}

#[test]
fn a_mint_grows_the_supply_by_what_it_creates() {
    let mut world = World::new(&[]);
    let (_, outcomes) = world.commit(&[sign(MINTER, 0, 0, mint(PROBE_TO, 500))]);
    assert_eq!(world.balance(PROBE_TO), 500);
    assert_eq!(world.supply(), Supply { total: amount(4 * FUNDS + 500), minted: amount(500) });
    assert_eq!(outcomes[0].minted(), amount(500));
    assert_eq!(outcomes[0].rewards[0].address, address(PROBE_TO));
}

#[test]
fn parameters_change_together_from_the_next_block_on() {
    let mut world = World::new(&[]);
    let coordinator = key(40).public_key();
    let changes = vec![
        ParamChange::Param { name: "min_fee_base".to_owned(), value: 3 },
        ParamChange::Coordinator { public_key: coordinator, payout: address(41), active: true },
        ParamChange::Governor { address: address(ALICE) },
    ];
    let change = sign(GOVERNOR, 0, 0, Payload::ParamSet(ParamSet::new(changes).unwrap()));
    world.commit(&[change, sign(BOB, 0, 0, transfer(ALICE, 1))]);
    assert_eq!(world.settings().params.min_fee_base, 3);
    assert_eq!(world.settings().governor, Some(address(ALICE)));
    let value = world.value(&Key::coordinator(&coordinator)).unwrap();
    let expected = Coordinator { payout: address(41), active: true };
    assert_eq!(value.decode::<Coordinator>(EntryKind::Coordinator), Ok(expected));
    let too_low = world.builder().push(sign(BOB, 1, 2, transfer(ALICE, 1)));
    let expected = Refusal::FeeTooLow { found: amount(2), min: 3 };
    assert_eq!(too_low, Err(Fault::Refused(expected)));
    world.commit(&[sign(ALICE, 0, 3, set(&[("min_fee_base", 0)]))]);
    let ousted = world.refusal(&[], &sign(GOVERNOR, 1, 0, set(&[("min_fee_base", 1)])));
    assert_eq!(ousted, Refusal::NotGovernor);
}

#[test]
fn a_parameter_set_applies_whole_or_not_at_all() {
    let world = World::new(&[]);
    let changes = [("base_fee", 1), ("mint_per_unit", 2), ("no_such", 3)];
    let refusal = world.refusal(&[], &sign(GOVERNOR, 0, 0, set(&changes)));
    assert_eq!(refusal.code(), "param_unknown");
    assert_eq!(world.settings().params.base_fee, 10);
}

#[test]
fn a_provider_name_belongs_to_whom_bound_it_first() {
    let mut world = World::new(&[]);
    world.commit(&[bind(MINER, 0, "rig-1", 30)]);
    let bound = |world: &World| {
        let value = world.value(&Key::provider("rig-1")).unwrap();
        value.decode::<Provider>(EntryKind::Provider).unwrap()
    };
    let account = address(MINER);
    assert_eq!(bound(&world), Provider { account, receipt_key: key(30).public_key() });
    let taken = world.refusal(&[], &bind(ALICE, 0, "rig-1", 31));
    assert_eq!(taken, Refusal::ProviderNameTaken { name: "rig-1".to_owned() });
    world.commit(&[bind(MINER, 1, "rig-1", 31)]);
    assert_eq!(bound(&world), Provider { account, receipt_key: key(31).public_key() });
}

#[test]
fn nobody_binds_a_key_that_is_not_theirs() {
    let good = bind(MINER, 0, "rig-1", 30).into_inner();
    let Payload::ProviderBind(binding) = &good.payload else { panic!("a binding") };
    for changed in [
        ProviderBind { name: "rig-2".to_owned(), ..binding.clone() },
        ProviderBind { receipt_key: key(31).public_key(), ..binding.clone() },
    ] {
        let payload = Payload::ProviderBind(changed);
        let stolen = Transaction::sign(&key(MINER), chain(), Nonce::ZERO, amount(0), None, payload);
        assert_eq!(stolen.verify(), Err(TransactionError::BindingSignature));
    }
    let payload = Payload::ProviderBind(binding.clone());
    let other = Transaction::sign(&key(ALICE), chain(), Nonce::ZERO, amount(0), None, payload);
    assert_eq!(other.verify(), Err(TransactionError::BindingSignature));
}

/// Each refusal with the transactions before it and its world.
fn refusals() -> Vec<(&'static str, World, Vec<VerifiedTransaction>, VerifiedTransaction)> {
    let plain = || World::new(&[]);
    let fee = || World::new(&[("min_fee_base", 10), ("min_fee_per_byte", 1)]);
    let account = |n: u8, balance: u64, nonce: u64| {
        let account = Account { balance: amount(balance), nonce: Nonce::saturating(nonce) };
        (Key::account(&address(n)), account.into())
    };
    let supply =
        |total: u64| (Key::supply(), Supply { total: amount(total), minted: amount(0) }.into());
    let other_chain = {
        let id = "other".parse().unwrap();
        let payload = transfer(BOB, 1);
        Transaction::sign(&key(ALICE), id, Nonce::ZERO, amount(0), None, payload).verify().unwrap()
    };
    let first = || sign(ALICE, 0, 0, transfer(BOB, 1));
    let exhausted = sign(ALICE, u64::MAX, 0, transfer(BOB, 1));
    let bind_name = |name: &str| bind(ALICE, 0, name, 30);
    let own_address = address(BOB).to_string();
    vec![
        ("wrong_chain", plain(), vec![], other_chain),
        ("expired", committed(2), vec![], expiring(ALICE, 0, 2)),
        ("nonce_used", plain(), vec![first()], first()),
        ("nonce_gap", plain(), vec![first()], sign(ALICE, 2, 0, transfer(BOB, 1))),
        ("nonce_exhausted", World::with(&[], &[account(ALICE, 5, u64::MAX)]), vec![], exhausted),
        ("fee_too_low", fee(), vec![], sign(ALICE, 0, 49, transfer(BOB, 1))),
        ("amount_overflow", plain(), vec![], sign(ALICE, 0, 1, transfer(BOB, AMOUNT_MAX))),
        ("insufficient_funds", plain(), vec![], sign(ALICE, 0, 1, transfer(BOB, FUNDS))),
        ("insufficient_funds", plain(), vec![], sign(ALICE, 0, FUNDS + 1, transfer(BOB, 1))),
        ("insufficient_funds", plain(), vec![], sign(PROBE_TO, 0, 0, transfer(BOB, 1))),
        ("amount_zero", plain(), vec![], sign(ALICE, 0, 0, transfer(BOB, 0))),
        ("amount_zero", plain(), vec![], sign(MINTER, 0, 0, mint(BOB, 0))),
        ("self_transfer", plain(), vec![], sign(ALICE, 0, 0, transfer(ALICE, 1))),
        ("not_an_account", plain(), vec![], sign(ALICE, 0, 0, transfer_to(Key::SENTINEL, 1))),
        ("not_an_account", plain(), vec![], sign(ALICE, 0, 0, transfer_to(Key::supply(), 1))),
        ("not_an_account", plain(), vec![], sign(ALICE, 0, 0, transfer_to(Key::receipt("r"), 1))),
        ("not_an_account", plain(), vec![], sign(MINTER, 0, 0, mint_to(Key::job("j"), 1))),
        ("not_an_account", plain(), vec![], sign(GOVERNOR, 0, 0, pay_out_to(Key::provider("p")))),
        (
            "balance_overflow",
            // No honest chain gets here: the supply bounds every balance.
            World::with(&[], &[account(BOB, AMOUNT_MAX, 0)]),
            vec![],
            sign(ALICE, 0, 0, transfer(BOB, 1)),
        ),
        ("supply_overflow", plain(), vec![], sign(MINTER, 0, 0, mint(BOB, AMOUNT_MAX))),
        (
            "supply_overflow",
            World::with(&[], &[supply(AMOUNT_MAX)]),
            vec![],
            sign(MINTER, 0, 0, mint(BOB, 1)),
        ),
        ("not_minter", plain(), vec![], sign(GOVERNOR, 0, 0, mint(BOB, 1))),
        ("not_governor", plain(), vec![], sign(MINTER, 0, 0, set(&[("base_fee", 1)]))),
        ("param_unknown", plain(), vec![], sign(GOVERNOR, 0, 0, set(&[("bse_fee", 1)]))),
        (
            "param_out_of_bounds",
            plain(),
            vec![],
            sign(GOVERNOR, 0, 0, set(&[("coordinator_ratio_bps", 10_001)])),
        ),
        ("provider_name_invalid", plain(), vec![], bind_name("")),
        ("provider_name_invalid", plain(), vec![], bind_name(&own_address)),
        ("provider_name_invalid", plain(), vec![], bind_name(&"n".repeat(65))),
        ("provider_name_taken", plain(), vec![bind(BOB, 0, "x", 30)], bind_name("x")),
    ]
}

/// A chain of so many blocks.
fn committed(blocks: u64) -> World {
    let mut world = World::new(&[]);
    for nonce in 0..blocks {
        world.commit(&[sign(BOB, nonce, 0, transfer(ALICE, 1))]);
    }
    world
}

#[test]
fn every_refusal_has_its_code_and_leaves_no_trace() {
    let mut provoked = BTreeSet::new();
    for (code, world, before, bad) in refusals() {
        let refusal = world.refusal(&before, &bad);
        assert_eq!(refusal.code(), code, "{refusal}");
        assert!(!refusal.to_string().is_empty());
        provoked.insert(code.to_owned());
    }
    let mut expected = codes_in_source();
    assert!(CLAIM_CODES.iter().all(|code| expected.remove(*code)), "a claim code is gone");
    assert_eq!(provoked, expected);
}

#[test]
fn a_fee_at_its_minimum_and_an_expiry_at_its_last_height_apply() {
    let mut world = World::new(&[("min_fee_base", 10), ("min_fee_per_byte", 1)]);
    world.commit(&[sign(ALICE, 0, 50, transfer(BOB, 1))]);
    let mut world = committed(1);
    world.commit(&[expiring(ALICE, 0, 2)]);
    assert_eq!(world.parent.height, Height::saturating(2));
}

#[test]
fn a_minimum_fee_that_overflows_refuses_everybody() {
    let world = World::new(&[("min_fee_base", AMOUNT_MAX), ("min_fee_per_byte", 1_000_000_000)]);
    let refused = world.builder().push(sign(ALICE, 0, FUNDS, transfer(BOB, 1)));
    let Err(Fault::Refused(Refusal::FeeTooLow { min, .. })) = refused else {
        panic!("{refused:?}")
    };
    assert!(min > AMOUNT_MAX);
}

#[test]
fn a_block_without_transactions_is_never_made() {
    let world = World::new(&[]);
    assert_eq!(world.builder().finish(), Err(BlockError::Empty));
    let header = world.build(&[sign(ALICE, 0, 0, transfer(BOB, 1))]).0.header;
    let executed = execute_block(&world.state, &world.parent, &header, &[]);
    assert_eq!(executed, Err(BlockError::Empty));
}

#[test]
fn blocks_keep_to_their_bounds() {
    let transactions: Vec<_> = (0..4).map(|n| sign(ALICE, n, 0, transfer(BOB, 1))).collect();
    let header = World::new(&[]).build(&transactions).0.header;

    let world = World::new(&[("block_transactions_max", 3)]);
    let mut builder = world.builder();
    for transaction in &transactions[..3] {
        assert_eq!(builder.check_room(transaction.byte_count()), Ok(()));
        builder.push(transaction.clone()).unwrap();
    }
    assert_eq!(builder.check_room(1), Err(Limit::Transactions));
    builder.push(transactions[3].clone()).unwrap();
    assert_eq!(builder.finish(), Err(BlockError::Limit(Limit::Transactions)));
    let executed = execute_block(&world.state, &world.parent, &header, &transactions);
    assert_eq!(executed, Err(BlockError::Limit(Limit::Transactions)));

    let world = World::new(&[("block_bytes_max", 32 * 1024)]);
    let builder = world.builder();
    assert_eq!(builder.check_room(32 * 1024), Ok(()));
    assert_eq!(builder.check_room(32 * 1024 + 1), Err(Limit::Bytes));
}

#[test]
fn a_block_is_begun_only_by_a_validator_and_after_its_parent() {
    let world = World::new(&[]);
    let field =
        |time, proposer| match BlockBuilder::new(&world.state, &world.parent, time, proposer) {
            Err(BlockError::Header { field, .. }) => Some(field),
            Err(other) => panic!("{other}"),
            Ok(_) => None,
        };
    let later = world.next_time();
    assert_eq!(field(later, address(VALIDATOR)), None);
    assert_eq!(field(later, address(ALICE)), Some("proposer"));
    assert_eq!(field(world.parent.time, address(VALIDATOR)), Some("time"));
    let last = Header { height: Height::MAX, ..world.parent.clone() };
    let error = BlockBuilder::new(&world.state, &last, later, address(VALIDATOR)).unwrap_err();
    assert!(matches!(error, BlockError::Header { field: "height", .. }));
}

type Change = (&'static str, fn(&mut Header));

#[test]
fn executing_refuses_a_header_with_any_field_changed() {
    let world = World::new(&[]);
    let transactions =
        vec![sign(ALICE, 0, 1, transfer(BOB, 100)), sign(MINTER, 0, 0, mint(BOB, 1))];
    let (block, transition) = world.build(&transactions);
    let execute =
        |header: &Header| execute_block(&world.state, &world.parent, header, &transactions);
    assert_eq!(execute(&block.header), Ok(transition));
    let changes: [Change; 13] = [
        ("version", |h| h.version += 1),
        ("chain_id", |h| h.chain_id = "other".parse().unwrap()),
        ("height", |h| h.height = Height::saturating(2)),
        ("parent", |h| h.parent = BlockId::ZERO),
        ("time", |h| h.time = TimestampMs::saturating(TIME * 1_000)),
        ("proposer", |h| h.proposer = Address([7; 32])),
        ("transactions_root", |h| h.transactions_root = Hash([7; 32])),
        ("outcomes_root", |h| h.outcomes_root = Hash([7; 32])),
        ("state_root", |h| h.state_root = StateRoot([7; 32])),
        ("validators_hash", |h| h.validators_hash = Hash([7; 32])),
        ("next_validators_hash", |h| h.next_validators_hash = Hash([7; 32])),
        ("transaction_count", |h| h.transaction_count += 1),
        ("body_bytes", |h| h.body_bytes += 1),
    ];
    let mut encodings = BTreeSet::from([block.header.encode()]);
    for (name, change) in changes {
        let mut header = block.header.clone();
        change(&mut header);
        assert!(encodings.insert(header.encode()), "{name} is not in the encoding");
        match execute(&header) {
            Err(BlockError::Header { field, .. }) => assert_eq!(field, name),
            other => panic!("{name}: {other:?}"),
        }
    }
    // Another time in order is another block: the header is what executing gives, its id is not.
    let mut header = block.header.clone();
    header.time = TimestampMs::saturating(header.time.get() + 1);
    assert_ne!(header.id(), block.header.id());
    assert!(execute(&header).is_ok());
}

#[test]
fn executing_refuses_other_transactions_than_the_header_commits_to() {
    let world = World::new(&[]);
    let first = sign(ALICE, 0, 0, transfer(BOB, 100));
    let second = sign(BOB, 0, 0, transfer(ALICE, 100));
    let header = world.build(&[first.clone(), second.clone()]).0.header;
    let field = |transactions: &[VerifiedTransaction]| match execute_block(
        &world.state,
        &world.parent,
        &header,
        transactions,
    ) {
        Err(BlockError::Header { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(field(&[second.clone(), first.clone()]), "transactions_root");
    assert_eq!(field(std::slice::from_ref(&first)), "transactions_root");
    let bad = sign(ALICE, 1, 0, transfer(ALICE, 1));
    let (tx_hash, refusal) = (bad.hash(), Refusal::SelfTransfer);
    let executed = execute_block(&world.state, &world.parent, &header, &[first, bad]);
    assert_eq!(executed, Err(BlockError::Transaction { index: 1, tx_hash, refusal }));
}

/// A transaction of a random run: who, to whom, how much, fee, kind, and an error of the nonce.
fn any_step() -> impl Strategy<Value = (u8, u8, u64, u64, u8, u8)> {
    let amounts = prop_oneof![0_u64..2_000, Just(FUNDS), Just(FUNDS / 2), Just(AMOUNT_MAX)];
    let fees = prop_oneof![8 => 0_u64..50, 1 => Just(FUNDS)];
    (0_u8..5, 0_u8..6, amounts, fees, 0_u8..8, prop_oneof![8 => Just(0_u8), 1 => 1_u8..3])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn supply_is_conserved_and_refused_transactions_leave_no_trace(
        blocks in prop::collection::vec(prop::collection::vec(any_step(), 1..16), 1..5)
    ) {
        let mut world = World::new(&[]);
        for steps in blocks {
            let mut builder = world.builder();
            let (mut nonces, mut applied, mut fees) = ([None; 256], Vec::new(), 0);
            for (from, to, value, fee, kind, nonce_error) in steps {
                let from = [ALICE, BOB, MINER, MINTER, VALIDATOR][usize::from(from)];
                let to = [ALICE, BOB, MINER, PROBE_TO, VALIDATOR, 77][usize::from(to)];
                let payload = if kind == 0 { mint(to, value) } else { transfer(to, value) };
                let next = nonces[usize::from(from)]
                    .unwrap_or_else(|| world.account(from).nonce.get());
                // One too high, or 0, which was used if anything was.
                let nonce = match nonce_error { 0 => next, 1 => next + 1, _ => 0 };
                let transaction = sign(from, nonce, fee, payload);
                match builder.push(transaction.clone()) {
                    Ok(()) => {
                        prop_assert_eq!(nonce, next);
                        nonces[usize::from(from)] = Some(next + 1);
                        fees += fee;
                        applied.push(transaction);
                    }
                    Err(Fault::Refused(_)) => {}
                    Err(Fault::State(fault)) => return Err(TestCaseError::fail(fault.to_string())),
                }
            }
            prop_assert_eq!(builder.transaction_count(), applied.len());
            if applied.is_empty() {
                prop_assert_eq!(builder.finish(), Err(BlockError::Empty));
                continue;
            }
            let before = world.supply();
            let (block, transition) = builder.finish().unwrap();
            let (rebuilt, _) = world.commit(&applied);
            prop_assert_eq!(&rebuilt, &block);
            let minted: u64 = transition.outcomes.iter().map(|o| o.minted().get()).sum();
            prop_assert_eq!(world.supply().total.get(), before.total.get() + minted);
            prop_assert_eq!(world.supply().minted.get(), before.minted.get() + minted);
            let paid: u64 = transition.outcomes.iter().map(|o| o.fee.get()).sum();
            prop_assert_eq!(paid, fees);
        }
    }
}

/// A transfer to the 32 bytes under which the state keeps something else, or will.
fn transfer_to(key: Key, value: u64) -> Payload {
    Payload::Transfer { to: Address(key.0), amount: amount(value) }
}

fn mint_to(key: Key, value: u64) -> Payload {
    Payload::Mint { to: Address(key.0), amount: amount(value) }
}

fn pay_out_to(key: Key) -> Payload {
    let payout = Address(key.0);
    let public_key = common::key(40).public_key();
    let change = ParamChange::Coordinator { public_key, payout, active: true };
    Payload::ParamSet(ParamSet::new(vec![change]).unwrap())
}

#[test]
fn only_keys_of_accounts_lie_outside_what_is_reserved() {
    let coordinator = Key::coordinator(&key(1).public_key());
    let others = [Key::SENTINEL, Key::supply(), Key::settings(), Key::validators(), coordinator];
    let named = [Key::receipt("a"), Key::job("a"), Key::provider("a"), Key::receipt("b")];
    let all: BTreeSet<_> = others.into_iter().chain(named).collect();
    assert_eq!(all.len(), 9, "each its own");
    assert!(all.iter().all(|key| Address(key.0).is_reserved()));
    assert!((0..=255).all(|n| !address(n).is_reserved()));
    let mut first = [0; 32];
    first[7] = 1;
    assert!(!Address(first).is_reserved());
}

#[test]
fn a_genesis_gives_nothing_to_reserved_addresses() {
    let reserved = Address(Key::supply().0);
    for break_it in [
        |document: &mut GenesisDocument, to| document.accounts[0].address = to,
        |document: &mut GenesisDocument, to| document.authorities[0].payout = Some(to),
        |document: &mut GenesisDocument, to| document.coordinators[0].payout = Some(to),
    ] {
        let mut changed = document(&[]);
        assert!(changed.build().is_ok());
        break_it(&mut changed, reserved);
        let error = changed.build().unwrap_err().to_string();
        assert!(error.contains("eight zero bytes"), "{error}");
    }
}
