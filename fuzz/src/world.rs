//! What targets begin with: a chain of some blocks, the same in every process, and its keys.

use std::sync::LazyLock;

use ait_engine::block::Block;
use ait_engine::certificate::{Certificate, CommitSignature};
use ait_engine::crypto::SecretKey;
use ait_engine::params::{ParamChange, ParamSet};
use ait_engine::receipt::{Attestation, ReceiptClaim};
use ait_engine::state::Account;
use ait_engine::transaction::{Payload, ProviderBind, Transaction, VerifiedTransaction};
use ait_engine::types::{Address, Amount, BlockId, Height, MicroUnits, Nonce, Round, TimestampMs};
use ait_engine::vote::{Vote, VoteKind};
use ait_node::chain::{self, Chain, ChainOptions, ChainWriter, GenesisSource, Stores};
use ait_node::devnet::DevnetPlan;
use ait_node::receipts::{self, ReceiptFields};

/// When the chain begins, in seconds since 1970.
pub const BEGINS: u64 = 1_700_000_000;
/// Blocks after genesis.
pub const BLOCKS: u64 = 5;

/// A chain whose blocks and certificates are all here.
pub struct World {
    pub plan: DevnetPlan,
    /// Text of its genesis document.
    pub genesis: String,
    /// Its stores, with all of the state on disk.
    pub stores: Stores,
    /// Certified blocks from height 1 on.
    pub blocks: Vec<(Block, Certificate)>,
    /// Ids from genesis on.
    pub ids: Vec<BlockId>,
    /// Addresses that own something or were paid, and one that was not.
    pub addresses: Vec<Address>,
    /// What each of them holds at the end.
    pub accounts: Vec<Option<Account>>,
    /// The chain, to read from.
    pub chain: Chain,
}

pub static WORLD: LazyLock<World> = LazyLock::new(World::new);

/// The plan of the chain.
pub fn plan() -> DevnetPlan {
    DevnetPlan::new([42; 32], BEGINS).unwrap()
}

/// Opens the chain of the world in these stores.
pub fn open(stores: &Stores, text: &str) -> Result<ChainWriter, chain::ChainError> {
    let build = || {
        let document = ait_engine::genesis::GenesisDocument::parse(text)?;
        Ok(document.build()?)
    };
    let fingerprint = GenesisSource::fingerprint(text.as_bytes());
    let source = GenesisSource { fingerprint, build: &build };
    chain::open(stores, &source, &ChainOptions::default(), &mut |_| {})
}

/// A certificate of the only validator.
pub fn certify(key: &SecretKey, block: &Block) -> Certificate {
    let (header, validator) = (&block.header, key.public_key().address());
    let (height, round, block_id) = (header.height, Round::ZERO, header.id());
    let kind = VoteKind::Precommit;
    let vote = Vote { kind, height, round, block_id: Some(block_id), validator };
    let signature = key.sign(vote.sign_hash(&header.chain_id).as_bytes());
    Certificate::new(height, round, block_id, vec![CommitSignature { validator, signature }])
}

/// A claim that the devnet's coordinator attested.
pub fn claim(plan: &DevnetPlan, number: u64) -> ReceiptClaim {
    let fields = ReceiptFields {
        receipt_id: format!("receipt-{number}"),
        job_id: format!("job-{number}"),
        provider: plan.names.resolve("miner-0").unwrap().to_string(),
        client: "client-0".to_owned(),
        units: MicroUnits::saturating(2_500_000),
        unit_type: "gpu_seconds".to_owned(),
        price: Some(MicroUnits::saturating(50_000)),
        started_at: BEGINS - 20,
        completed_at: BEGINS - 10,
        chain_id: Some(plan.document.chain_id),
        artifact_hash: None,
    };
    let receipt = fields.canonical().unwrap();
    let key = plan.names.secret_key("miner-0");
    let mut claim = receipts::sign(receipt, &key).unwrap();
    let signature = plan.coordinator.sign(&claim.receipt);
    let coordinator = plan.coordinator.public_key();
    receipts::attach(&mut claim, Attestation { coordinator, signature });
    claim
}

/// A signed transaction of a named account.
pub fn signed(plan: &DevnetPlan, name: &str, nonce: u64, payload: Payload) -> Transaction {
    let key = plan.names.secret_key(name);
    let (nonce, fee) = (Nonce::saturating(nonce), Amount::saturating(1_000));
    Transaction::sign(&key, plan.document.chain_id, nonce, fee, None, payload)
}

/// A transfer of a named account.
pub fn transfer(plan: &DevnetPlan, name: &str, nonce: u64, to: &str, amount: u64) -> Transaction {
    let to = plan.names.resolve(to).unwrap();
    signed(plan, name, nonce, Payload::Transfer { to, amount: Amount::saturating(amount) })
}

impl World {
    fn new() -> Self {
        let plan = plan();
        let genesis = serde_json::to_string_pretty(&plan.document).unwrap();
        let stores = Stores::memory();
        let mut writer = open(&stores, &genesis).unwrap();
        let mut ids = vec![writer.chain().genesis_id()];
        let mut blocks = Vec::new();
        let validator = plan.validator.public_key().address();
        for height in 1..=BLOCKS {
            let first = (height - 1) * 4;
            let mut all: Vec<_> = (first..first + 4)
                .map(|nonce| transfer(&plan, "alice", nonce, &format!("to-{nonce}"), 100 + nonce))
                .collect();
            if height == 2 {
                all.push(signed(&plan, "miner-0", 0, Payload::ReceiptClaim(claim(&plan, 1))));
            }
            let all = all.into_iter().map(VerifiedTransaction::assume_verified).collect();
            let now = TimestampMs::saturating((BEGINS + height) * 1_000);
            let built = writer.build(all, now, validator).unwrap();
            assert_eq!(built.refused, [], "the world's transactions are good");
            let block = writer.proposal(&built.block_id.unwrap()).unwrap().clone();
            let certificate = certify(&plan.validator, &block);
            writer.commit(certificate.clone()).unwrap();
            ids.push(block.header.id());
            blocks.push((block, certificate));
        }
        writer.write_checkpoint().unwrap();
        writer.wait_until_indexed().unwrap();
        let names = (0..=4 * BLOCKS).map(|n| format!("to-{n}"));
        let funded = ait_node::devnet::FUNDED_NAMES.iter().map(|name| (*name).to_owned());
        let addresses = names.chain(funded).map(|name| plan.names.resolve(&name).unwrap());
        let addresses: Vec<_> = addresses.collect();
        let chain = writer.chain().clone();
        let accounts = chain.accounts(&addresses).unwrap();
        Self { plan, genesis, stores, blocks, ids, addresses, accounts, chain }
    }
}

/// Transactions of every kind.
pub fn transactions() -> Vec<Transaction> {
    let plan = &WORLD.plan;
    let to = plan.names.resolve("bob").unwrap();
    let key = plan.coordinator.public_key();
    let changes = vec![
        ParamChange::Param { name: "mint_per_unit".to_owned(), value: 7 },
        ParamChange::Coordinator { public_key: key, payout: to, active: true },
        ParamChange::Governor { address: to },
    ];
    let mut all = vec![
        transfer(plan, "alice", 20, "bob", 5),
        signed(plan, "miner-0", 1, Payload::ReceiptClaim(claim(plan, 2))),
        signed(plan, "bob", 0, Payload::Mint { to, amount: Amount::saturating(9) }),
    ];
    let (sender, receipt_key) = (plan.names.resolve("carol").unwrap(), plan.names.secret_key("x"));
    let name = "gpu-farm".to_owned();
    let hash = ProviderBind::sign_hash(&plan.document.chain_id, &sender, &name);
    let key_signature = receipt_key.sign(hash.as_bytes());
    let bind = ProviderBind { name, receipt_key: receipt_key.public_key(), key_signature };
    all.push(signed(plan, "carol", 0, Payload::ProviderBind(bind)));
    all.extend(ParamSet::new(changes).map(|set| signed(plan, "bob", 1, Payload::ParamSet(set))));
    let expiring = transfer(plan, "bob", 2, "carol", 1);
    let key = plan.names.secret_key("bob");
    let (nonce, fee, expires) = (expiring.nonce, expiring.fee, Height::new(9));
    let chain_id = plan.document.chain_id;
    all.push(Transaction::sign(&key, chain_id, nonce, fee, expires, expiring.payload));
    all
}

/// A directory of one run, in memory where the system has such a place.
pub fn directory() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    }
}
