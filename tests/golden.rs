//! The golden chain in `fixtures/blocks`: every transaction kind and every refusal, with
//! recorded ids and roots. What the program makes of it must never change without a new
//! version of an encoding. `fixtures/README.md` says how it is made.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

#[path = "../engine/tests/common/mod.rs"]
mod world;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ait_engine::block::Block;
use ait_engine::certificate::{Certificate, CommitSignature};
use ait_engine::codec::Canonical;
use ait_engine::execute::{Fault, execute_block};
use ait_engine::genesis::GenesisDocument;
use ait_engine::params::{ParamChange, ParamSet};
use ait_engine::receipt::ReceiptClaim;
use ait_engine::state::Key;
use ait_engine::transaction::{Payload, Transaction, VerifiedTransaction};
use ait_engine::types::{Address, Amount, Height, Nonce, Round};
use ait_engine::vote::{Vote, VoteKind};
use ait_net::wire::{TransactionJson, payload_to_json};
use ait_node::archive::{ArchiveError, ArchiveReader, ArchiveWriter};
use ait_node::chain::StorageEngine;
use ait_node::replay::{Signatures, replay};
use serde_json::{Value, json};
use world::*;

/// A coordinator that comes by `PARAM_SET`.
const NEWCOMER: u8 = 41;
/// No chain reaches them: balances never exceed the supply, whose own bound comes first,
/// and no account sends 2^64 transactions. The engine's own tests provoke both.
const UNREACHABLE: [&str; 2] = ["balance_overflow", "nonce_exhausted"];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/blocks")
}

fn read(name: &str) -> Vec<u8> {
    fs::read(directory().join(name)).unwrap()
}

fn recorded() -> Value {
    serde_json::from_slice(&read("golden.json")).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}

fn claim(job: &str, receipt: &str, units: &str, change: impl FnOnce(&mut Claim)) -> Payload {
    let mut claim = Claim {
        receipt_id: receipt.to_owned(),
        job_id: job.to_owned(),
        units: units.to_owned(),
        ..Claim::default()
    };
    change(&mut claim);
    Payload::ReceiptClaim(claim.sign())
}

fn genesis() -> GenesisDocument {
    document(&[("receipt_age_s_max", 3_600)])
}

/// The chain being made: blocks, certificates and what was refused on the way.
struct Maker {
    world: World,
    archive: ArchiveWriter<Vec<u8>>,
    blocks: Vec<Value>,
    refused: Vec<Value>,
}

impl Maker {
    fn commit(&mut self, transactions: &[VerifiedTransaction]) {
        let (block, outcomes) = self.world.commit(transactions);
        let certificate = certify(&block);
        self.archive.add(&block, &certificate).unwrap();
        let header = &block.header;
        let shown = transactions.iter().zip(&outcomes).map(|(transaction, outcome)| {
            let transaction = transaction.transaction();
            json!({
                "tx_hash": transaction.hash(),
                "json": TransactionJson::from(transaction),
                "encoded": hex(&transaction.encode()),
                "outcome": hex(&outcome.encode()),
            })
        });
        self.blocks.push(json!({
            "height": header.height,
            "block_id": header.id(),
            "header": hex(&header.encode()),
            "transactions_root": header.transactions_root,
            "outcomes_root": header.outcomes_root,
            "state_root": header.state_root,
            "certificate": hex(&certificate.encode()),
            "transactions": shown.collect::<Vec<_>>(),
        }));
    }

    /// Records a transaction that the block after the newest must not hold.
    fn refuse(&mut self, code: &str, transaction: Transaction) {
        let found = refusal(&self.world, transaction.clone());
        assert_eq!(found, code);
        let height = self.world.parent.height.next().unwrap();
        self.refused.push(json!({
            "height": height,
            "code": code,
            "payload": payload_to_json(&transaction.payload),
            "encoded": hex(&transaction.encode()),
        }));
    }
}

/// The code by which a transaction is refused in the next block.
fn refusal(world: &World, transaction: Transaction) -> String {
    let verified = match transaction.verify() {
        Ok(verified) => verified,
        Err(error) => return error.code().to_owned(),
    };
    match world.builder().push(verified) {
        Err(Fault::Refused(refusal)) => refusal.code().to_owned(),
        other => panic!("expected a refusal, found {other:?}"),
    }
}

fn certify(block: &Block) -> Certificate {
    let vote = Vote {
        kind: VoteKind::Precommit,
        height: block.header.height,
        round: Round::ZERO,
        block_id: Some(block.header.id()),
        validator: address(VALIDATOR),
    };
    let signature = key(VALIDATOR).sign(vote.sign_hash(&chain()).as_bytes());
    let signature = CommitSignature { validator: address(VALIDATOR), signature };
    Certificate::new(vote.height, vote.round, block.header.id(), vec![signature])
}

/// The archive and its record.
fn make() -> (Vec<u8>, String) {
    let document = genesis();
    let text = serde_json::to_string_pretty(&document).unwrap();
    let archive = ArchiveWriter::begin(Vec::new(), &text, Height::saturating(1)).unwrap();
    let world = World::of(&document, &[]);
    let mut maker = Maker { world, archive, blocks: Vec::new(), refused: Vec::new() };
    let plain = |tx: VerifiedTransaction| tx.into_inner();
    let by = |from, nonce, payload| {
        Transaction::sign(
            &key(from),
            chain(),
            Nonce::saturating(nonce),
            Amount::ZERO,
            None,
            payload,
        )
    };

    // 1: transfers, one with a fee, one of everything.
    maker.commit(&[
        sign(ALICE, 0, 10, transfer(BOB, 100)),
        sign(ALICE, 1, 0, transfer(21, 1)),
        sign(BOB, 0, 5, transfer(ALICE, 7)),
    ]);
    let elsewhere = Transaction::sign(
        &key(ALICE),
        "another-chain".parse().unwrap(),
        Nonce::saturating(2),
        Amount::ZERO,
        None,
        transfer(BOB, 1),
    );
    maker.refuse("wrong_chain", elsewhere);
    let expired = Transaction::sign(
        &key(ALICE),
        chain(),
        Nonce::saturating(2),
        Amount::ZERO,
        Height::new(1),
        transfer(BOB, 1),
    );
    maker.refuse("expired", expired);
    maker.refuse("nonce_used", by(ALICE, 1, transfer(BOB, 1)));
    maker.refuse("nonce_gap", by(ALICE, 3, transfer(BOB, 1)));
    let most = Amount::MAX.get();
    maker.refuse("amount_overflow", plain(sign(ALICE, 2, 1, transfer(BOB, most))));
    maker.refuse("insufficient_funds", by(ALICE, 2, transfer(BOB, most)));
    maker.refuse("amount_zero", by(ALICE, 2, transfer(BOB, 0)));
    maker.refuse("self_transfer", by(ALICE, 2, transfer(ALICE, 1)));
    let to_supply = Payload::Transfer { to: Address(Key::supply().0), amount: amount(1) };
    maker.refuse("not_an_account", by(ALICE, 2, to_supply));
    maker.refuse("not_minter", by(ALICE, 2, mint(ALICE, 1)));
    maker.refuse("not_governor", by(ALICE, 2, set(&[("base_fee", 1)])));

    // 2: the minter mints, a provider binds a name.
    maker.commit(&[sign(MINTER, 0, 0, mint(MINTER, 500)), bind(MINER, 0, "rig-1", 30)]);
    maker.refuse("supply_overflow", by(MINTER, 1, mint(BOB, most)));
    maker.refuse("provider_name_taken", plain(bind(ALICE, 2, "rig-1", 31)));
    maker.refuse("provider_name_invalid", plain(bind(ALICE, 2, &address(BOB).to_string(), 31)));

    // 3: claims, by address and by bound name, with one and with three attestations.
    let by_name = |c: &mut Claim| {
        c.provider = "rig-1".to_owned();
        c.signer = 30;
        c.coordinators = COORDINATORS.to_vec();
    };
    maker.commit(&[
        sign(MINER, 1, 3, claim("job_1", "r-1", "2500", |_| {})),
        sign(MINER, 2, 0, claim("job_2", "r-2", "0.25", by_name)),
    ]);
    let good = |units: &str, change: fn(&mut Claim)| {
        sign(MINER, 3, 0, claim("job_3", "r-3", units, change)).into_inner()
    };
    maker.refuse("receipt_claimed", by(MINER, 3, claim("job_3", "r-1", "1", |_| {})));
    maker.refuse("job_claimed", by(MINER, 3, claim("job_1", "r-3", "1", |_| {})));
    maker.refuse("receipt_wrong_chain", good("1", |c| c.chain_id = Some("another".to_owned())));
    maker.refuse("receipt_expired", good("1", |c| c.completed_at = TIME - 3_601));
    maker.refuse("receipt_from_future", good("1", |c| c.completed_at = TIME + 60));
    maker.refuse("units_over_maximum", good("1000000.000001", |_| {}));
    maker.refuse("reward_zero", good("0.000999", |_| {}));
    maker.refuse("provider_unknown", good("1", |c| c.provider = "rig-9".to_owned()));
    maker.refuse("provider_mismatch", by(ALICE, 2, claim("job_3", "r-3", "1", |_| {})));
    maker.refuse("provider_key_mismatch", good("1", |c| c.signer = ALICE));
    maker.refuse("attestations_missing", good("1", |c| c.coordinators = vec![]));
    maker.refuse("coordinator_unknown", good("1", |c| c.coordinators = vec![NEWCOMER]));
    maker.refuse("receipt_malformed", {
        let Payload::ReceiptClaim(claim) = claim("job_3", "r-3", "1", |_| {}) else { panic!() };
        by(MINER, 3, Payload::ReceiptClaim(ReceiptClaim { receipt: b"{}".to_vec(), ..claim }))
    });

    maker.refuse("param_unknown", by(GOVERNOR, 0, set(&[("no_such", 1)])));
    maker.refuse("param_out_of_bounds", by(GOVERNOR, 0, set(&[("receipt_age_s_max", 1)])));

    // 4: parameters change, a coordinator comes and one goes, the fee becomes due.
    let coordinator = |n: u8, active| ParamChange::Coordinator {
        public_key: key(n).public_key(),
        payout: address(50),
        active,
    };
    let change = |name: &str, value| ParamChange::Param { name: name.to_owned(), value };
    let changes = vec![
        change("min_fee_base", 2),
        change("min_fee_per_byte", 1),
        change("mint_per_unit", 1_000_000_000_000),
        change("receipt_micro_units_max", 1_000_000_000_000_000),
        coordinator(NEWCOMER, true),
        coordinator(COORDINATORS[0], false),
    ];
    maker.commit(&[sign(GOVERNOR, 0, 0, Payload::ParamSet(ParamSet::new(changes).unwrap()))]);
    maker.refuse("fee_too_low", plain(sign(ALICE, 2, 1, transfer(BOB, 1))));
    maker.refuse(
        "coordinator_unknown",
        plain(sign(MINER, 3, 900, claim("job_3", "r-3", "1", |_| {}))),
    );
    maker.refuse("reward_overflow", {
        let big = claim("job_3", "r-3", "10000000", |c| c.coordinators = vec![NEWCOMER]);
        plain(sign(MINER, 3, 900, big))
    });

    // 5: under the new rules.
    maker.commit(&[
        sign(ALICE, 2, 100, transfer(BOB, 1)),
        sign(MINER, 3, 900, claim("job_3", "r-3", "0.000001", |c| c.coordinators = vec![NEWCOMER])),
    ]);

    // Signatures that do not verify, each with its own code.
    let mut forged = plain(sign(ALICE, 3, 100, transfer(BOB, 1)));
    forged.fee = amount(101);
    maker.refuse("bad_signature", forged);
    let Payload::ReceiptClaim(good) = claim("job_4", "r-4", "1", |_| {}) else { panic!() };
    let mut stranger = good.clone();
    stranger.provider_key = key(ALICE).public_key();
    maker.refuse("bad_provider_signature", by(MINER, 4, Payload::ReceiptClaim(stranger)));
    let mut unattested = good;
    unattested.attestations[0].signature.0[0] ^= 1;
    maker.refuse("bad_attestation", by(MINER, 4, Payload::ReceiptClaim(unattested)));

    let whole = sign(ALICE, 3, 100, transfer(BOB, 1)).into_inner().encode();
    let with = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        hex(&bytes)
    };
    let undecodable = json!({
        "another version": with(0, 9),
        "a byte too many": hex(&[&whole[..], &[0]].concat()),
        "a byte too few": hex(&whole[..whole.len() - 1]),
        "nothing": "0x",
    });
    let record = json!({
        "about": "made by: AIT_GOLDEN_WRITE=1 cargo test --test golden; see fixtures/README.md",
        "genesis_id": document.build().unwrap().block_id,
        "genesis_state_root": document.build().unwrap().header.state_root,
        "blocks": maker.blocks,
        "refused": maker.refused,
        "undecodable": undecodable,
    });
    let record = serde_json::to_string_pretty(&record).unwrap() + "\n";
    (maker.archive.end().unwrap(), record)
}

#[test]
fn what_the_program_makes_is_what_was_recorded() {
    let (archive, record) = make();
    if std::env::var_os("AIT_GOLDEN_WRITE").is_some() {
        fs::create_dir_all(directory()).unwrap();
        fs::write(directory().join("golden.ait"), &archive).unwrap();
        fs::write(directory().join("golden.json"), &record).unwrap();
    }
    assert!(
        record.as_bytes() == read("golden.json") && archive == read("golden.ait"),
        "the golden chain differs: a rule or an encoding changed. If that is meant, raise the \
         version of the encoding and record the chain anew (fixtures/README.md)"
    );
}

#[test]
fn every_engine_replays_the_recorded_roots() {
    let record = recorded();
    let last = record["blocks"].as_array().unwrap().last().unwrap();
    let path = directory().join("golden.ait");
    for engines in [
        &[StorageEngine::Memory][..],
        &[StorageEngine::Redb],
        &[StorageEngine::Redb, StorageEngine::Memory],
    ] {
        let found = replay(&path, engines, Signatures::Verify, &mut |_, _| {}).unwrap();
        assert_eq!(found.first_difference, None);
        assert_eq!(json!(found.state_root), last["state_root"]);
        assert_eq!(json!(found.final_height), last["height"]);
    }
}

#[test]
fn every_recorded_refusal_is_still_refused_with_its_code() {
    let record = recorded();
    let bytes =
        |value: &Value| hex::decode(value.as_str().unwrap().trim_start_matches("0x")).unwrap();
    let archive = read("golden.ait");
    let mut reader = ArchiveReader::begin(&archive[..]).unwrap();
    let document = GenesisDocument::parse(reader.genesis()).unwrap();
    let mut world = World::of(&document, &[]);
    assert_eq!(json!(world.parent.id()), record["genesis_id"]);
    let mut refused = BTreeSet::new();
    loop {
        let next = world.parent.height.next().unwrap();
        for case in record["refused"].as_array().unwrap() {
            if case["height"] == json!(next) {
                let transaction = Transaction::decode(&bytes(&case["encoded"])).unwrap();
                assert_eq!(refusal(&world, transaction), case["code"]);
                refused.insert(case["code"].as_str().unwrap().to_owned());
            }
        }
        let Some((block, certificate)) = reader.next_block().unwrap() else { break };
        let at = usize::try_from(block.header.height.get() - 1).unwrap();
        let expected = &record["blocks"][at];
        assert_eq!(json!(block.header.id()), expected["block_id"]);
        assert_eq!(bytes(&expected["header"]), block.header.encode());
        assert_eq!(bytes(&expected["certificate"]), certificate.encode());
        let verified: Vec<_> = block
            .transactions
            .iter()
            .map(|transaction| transaction.clone().verify().unwrap())
            .collect();
        let transition =
            execute_block(&world.state, &world.parent, &block.header, &verified).unwrap();
        for (case, outcome) in
            expected["transactions"].as_array().unwrap().iter().zip(&transition.outcomes)
        {
            assert_eq!(case["tx_hash"], json!(outcome.tx_hash));
            assert_eq!(bytes(&case["outcome"]), outcome.encode());
            let json: TransactionJson = serde_json::from_value(case["json"].clone()).unwrap();
            let transaction = Transaction::try_from(&json).unwrap();
            assert_eq!(bytes(&case["encoded"]), transaction.encode());
        }
        world.state.apply(&transition.writes);
        world.parent = block.header;
    }
    for code in codes_in_source() {
        let recorded = refused.contains(&code);
        assert!(recorded != UNREACHABLE.contains(&code.as_str()), "{code}: recorded is {recorded}");
    }
    for (what, encoded) in record["undecodable"].as_object().unwrap() {
        assert!(Transaction::decode(&bytes(encoded)).is_err(), "{what} was decoded");
    }
}

/// Reads an archive to its end.
fn read_all(bytes: &[u8]) -> Result<usize, ArchiveError> {
    let mut reader = ArchiveReader::begin(bytes)?;
    let mut blocks = 0;
    while reader.next_block()?.is_some() {
        blocks += 1;
    }
    Ok(blocks)
}

#[test]
fn a_damaged_archive_is_refused_wherever_it_is_damaged() {
    let whole = read("golden.ait");
    assert_eq!(read_all(&whole).unwrap(), 5);
    for end in 0..whole.len() {
        let error = read_all(&whole[..end]).unwrap_err();
        assert!(matches!(error, ArchiveError::Truncated { .. }), "cut at {end}: {error}");
    }
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x41;
        assert!(read_all(&damaged).is_err(), "byte {at} does not matter");
    }
    assert!(matches!(read_all(b"GIF89a, not a chain"), Err(ArchiveError::Magic { .. })));
}
