//! The chain on storage that crashes or fails at any operation, and the layout of its
//! tables, frozen.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use ait_engine::certificate::{Certificate, CommitSignature};
use ait_engine::crypto::SecretKey;
use ait_engine::transaction::{Payload, Transaction, VerifiedTransaction};
use ait_engine::types::{Amount, BlockId, Hash, Height, Nonce, Round, StateRoot, TimestampMs};
use ait_engine::vote::{Vote, VoteKind};
use ait_node::chain::{
    self, ChainError, ChainOptions, ChainWriter, CheckpointPolicy, GenesisSource, Stores,
};
use ait_node::devnet::DevnetPlan;
use ait_storage::{
    Direction, FaultMoment, FaultPlan, Faulty, KeyRange, MemoryStorage, Operation, Storage, Table,
};

const SEED: [u8; 32] = [42; 32];
const TIME: u64 = 1_700_000_000;
const BLOCKS: u64 = 5;

fn plan() -> DevnetPlan {
    DevnetPlan::new(SEED, TIME).unwrap()
}

/// What stays when the process dies.
#[derive(Clone)]
struct Disks([Arc<MemoryStorage>; 3]);

impl Disks {
    fn new() -> Self {
        Self([(); 3].map(|()| Arc::new(MemoryStorage::new())))
    }

    fn stores(&self) -> Stores {
        let [blocks, state, index] = self.0.clone();
        Stores { blocks, state, index }
    }

    /// The stores, one of which follows a plan; and that one.
    fn faulty(&self, which: usize, plan: FaultPlan) -> (Stores, Arc<Faulty<Arc<MemoryStorage>>>) {
        let mut stores = self.stores();
        let faulty = Arc::new(Faulty::new(Arc::clone(&self.0[which]), plan));
        let place = match which {
            0 => &mut stores.blocks,
            1 => &mut stores.state,
            _ => &mut stores.index,
        };
        *place = Arc::<Faulty<Arc<MemoryStorage>>>::clone(&faulty);
        (stores, faulty)
    }
}

fn open(stores: &Stores) -> Result<ChainWriter, ChainError> {
    let document = plan().document;
    let build = || document.build().map_err(ChainError::from);
    let source = GenesisSource { fingerprint: [1; 32], build: &build };
    let options = ChainOptions {
        checkpoints: CheckpointPolicy { blocks: 2, entries: 1_000_000 },
        // No page stays in memory that the disk has.
        state_bytes: 0,
        ..ChainOptions::default()
    };
    chain::open(stores, &source, &options, &mut |_| {})
}

/// What the validator signs for a block.
fn precommit_hash(key: &SecretKey, height: Height, block_id: BlockId) -> Hash {
    let vote = Vote {
        kind: VoteKind::Precommit,
        height,
        round: Round::ZERO,
        block_id: Some(block_id),
        validator: key.public_key().address(),
    };
    vote.sign_hash(&plan().document.chain_id)
}

fn certify(key: &SecretKey, height: Height, block_id: BlockId) -> Certificate {
    let validator = key.public_key().address();
    let signature = key.sign(precommit_hash(key, height, block_id).as_bytes());
    Certificate::new(height, Round::ZERO, block_id, vec![CommitSignature { validator, signature }])
}

/// Builds and commits the next block: transfers that follow from its height.
fn advance(writer: &mut ChainWriter) -> Result<(), String> {
    let certificate = build(writer)?;
    writer.commit(certificate).map(drop).map_err(|error| error.to_string())
}

/// Builds the next block; what proves it final.
fn build(writer: &mut ChainWriter) -> Result<Certificate, String> {
    let plan = plan();
    let height = writer.height().next().unwrap();
    let alice = plan.names.secret_key("alice");
    let transfer = |n: u64| {
        let to = plan.names.resolve(&format!("to-{height}-{n}")).unwrap();
        let payload = Payload::Transfer { to, amount: Amount::saturating(5) };
        let nonce = Nonce::saturating((height.get() - 1) * 3 + n);
        let fee = Amount::saturating(1);
        let chain_id = plan.document.chain_id;
        VerifiedTransaction::assume_verified(Transaction::sign(
            &alice, chain_id, nonce, fee, None, payload,
        ))
    };
    let now = TimestampMs::saturating((TIME + height.get()) * 1_000);
    let proposer = plan.validator.public_key().address();
    let built = writer.build((0..3).map(transfer).collect(), now, proposer);
    let id = built.map_err(|error| error.to_string())?.block_id.unwrap();
    Ok(certify(&plan.validator, height, id))
}

#[test]
fn a_logged_commit_verifies_all_signatures_but_those_made_here() {
    let stores = Disks::new().stores();
    let mut writer = open(&stores).unwrap();
    let hash_of = |certificate: &Certificate| {
        let hash = precommit_hash(&plan().validator, certificate.height, certificate.block_id);
        (hash, certificate.signatures()[0].signature)
    };
    let good = build(&mut writer).unwrap();
    let (hash, signature) = hash_of(&good);
    writer.commit_logged(good, &[(hash, signature)]).unwrap();
    // Of an earlier height, or of another hash: none of it counts, and what is good is good.
    let good = build(&mut writer).unwrap();
    let made_before = [(hash, signature), (hash, hash_of(&good).1)];
    writer.commit_logged(good, &made_before).unwrap();
    for made_here in [vec![], vec![(hash, signature)]] {
        let bad = build(&mut writer).unwrap();
        let validator = bad.signatures()[0].validator;
        let signatures = vec![CommitSignature { validator, signature }];
        let bad = Certificate::new(bad.height, bad.round, bad.block_id, signatures);
        assert!(writer.commit_logged(bad, &made_here).is_err());
    }
    writer.settle().unwrap();
}

/// Roots by height of a run that nothing disturbs.
fn roots() -> Vec<StateRoot> {
    let mut writer = open(&Disks::new().stores()).unwrap();
    let mut roots = vec![writer.parent().state_root];
    for _ in 0..BLOCKS {
        advance(&mut writer).unwrap();
        roots.push(writer.parent().state_root);
    }
    roots
}

/// Runs until the fault strikes or all blocks are there; the last height acknowledged.
fn run(stores: &Stores) -> Option<u64> {
    let mut writer = open(stores).ok()?;
    while writer.height().get() < BLOCKS {
        if advance(&mut writer).is_err() {
            break;
        }
    }
    let height = writer.height().get();
    // The threads behind it may meet the fault as well, and so may the last checkpoint.
    let _ = writer.wait_until_indexed();
    let _ = writer.write_checkpoint();
    Some(height)
}

/// After the fault: nothing acknowledged is gone, the root is right, and it goes on.
fn check(disks: &Disks, acknowledged: Option<u64>, roots: &[StateRoot], what: &str) {
    let mut writer = open(&disks.stores()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let height = writer.height().get();
    let least = acknowledged.unwrap_or(0);
    assert!((least..=least + 1).contains(&height), "{what}: {height} after {least}");
    assert_eq!(writer.parent().state_root, roots[usize::try_from(height).unwrap()], "{what}");
    while writer.height().get() < BLOCKS {
        advance(&mut writer).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    writer.wait_until_listed().unwrap();
    assert_eq!(writer.parent().state_root, *roots.last().unwrap(), "{what}");
    let total = writer.chain().index().transaction_count().unwrap();
    assert_eq!(total, BLOCKS * 3, "{what}: the index is not whole");
    let chain = writer.chain();
    let listed = chain.index().richest(Amount::ZERO, None, usize::MAX).unwrap();
    let sum: u64 = listed.iter().map(|(_, balance)| balance.get()).sum();
    assert_eq!(sum, chain.supply().unwrap().total.get(), "{what}: the list is not whole");
    for (address, balance) in &listed {
        let account = chain.account(address).unwrap().unwrap_or_default();
        assert_eq!(account.balance, *balance, "{what}: {address} in the list");
    }
    assert_eq!(chain.index().account_count().unwrap(), listed.len() as u64, "{what}");
}

#[test]
fn a_crash_at_any_operation_of_any_store_loses_nothing_acknowledged() {
    let roots = roots();
    let mut struck = 0;
    for (which, name) in ["blocks", "state", "index"].iter().enumerate() {
        for moment in [FaultMoment::Before, FaultMoment::Inside, FaultMoment::After] {
            for number in 1.. {
                let disks = Disks::new();
                let (stores, faulty) = disks.faulty(which, FaultPlan::crash_at(number, moment));
                let acknowledged = run(&stores);
                let crashed = faulty.has_crashed();
                drop(stores);
                check(&disks, acknowledged, &roots, &format!("{name}, {moment:?} {number}"));
                if !crashed {
                    break;
                }
                struck += 1;
            }
        }
    }
    assert!(struck > 200, "only {struck} crashes");
}

#[test]
fn a_failed_write_stops_the_writer_and_is_made_good_at_the_next_start() {
    let roots = roots();
    // The first state and the last checkpoint at least, and one batch of the index.
    for (which, name, least) in [(0, "blocks", 1 + BLOCKS), (1, "state", 2), (2, "index", 1)] {
        let mut struck = 0;
        for number in 1.. {
            let disks = Disks::new();
            let plan = FaultPlan::fail_at(Operation::Commit, number, FaultMoment::Inside);
            let (stores, faulty) = disks.faulty(which, plan);
            let acknowledged = run(&stores);
            let has_struck = faulty.operations_of(Operation::Commit) >= number;
            drop(stores);
            check(&disks, acknowledged, &roots, &format!("{name}, write {number}"));
            if !has_struck {
                break;
            }
            if name == "blocks" {
                // The genesis is the first; what comes before the one that failed is there.
                assert_eq!(acknowledged, number.checked_sub(2), "write {number}");
            }
            struck += 1;
        }
        assert!(struck >= least, "{name}: only {struck} writes failed");
    }
}

/// Hash over names, keys and values of all tables of a store.
fn digest(store: &dyn Storage) -> String {
    let mut hasher = blake3::Hasher::new();
    let snapshot = store.snapshot().unwrap();
    for table in store.stats().unwrap() {
        hasher.update(table.name.as_bytes());
        let name: &'static str = Box::leak(table.name.into_boxed_str());
        for entry in snapshot.range(Table::new(name), KeyRange::all(), Direction::Forward).unwrap()
        {
            let (key, value) = entry.unwrap();
            for part in [&key[..], &value[..]] {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part);
            }
        }
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

#[test]
fn the_layout_of_every_table_is_frozen() {
    let disks = Disks::new();
    let mut writer = open(&disks.stores()).unwrap();
    // The first checkpoint is that of genesis; later ones come when they come.
    let state = digest(&disks.0[1]);
    for _ in 0..BLOCKS {
        // One after the other: the index writes in one run what waits for it.
        writer.wait_until_indexed().unwrap();
        advance(&mut writer).unwrap();
    }
    writer.wait_until_indexed().unwrap();
    let found = [digest(&disks.0[0]), state, digest(&disks.0[2])];
    assert_eq!(
        found,
        ["a25ecd16ec738aca", "a9311d6613ac8d41", "b15c6eb591279f5f"],
        "names, keys or records changed: raise SCHEMA_VERSION in src/chain/tables.rs and write a \
         migration, or INDEX_VERSION if it is the index alone; then record the new digests"
    );
}
