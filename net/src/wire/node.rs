//! The node and its chain as a whole: what it is, how it does, what it asks for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::block::ValidatorJson;
use super::transaction::TransactionJson;

/// `GET /rpc/info`: the chain and the program that serves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Info {
    /// Name of the chain.
    pub chain_id: String,
    /// Id of its first block.
    pub genesis_hash: String,
    /// Height of the newest block.
    pub height: u64,
    /// Id of the newest block.
    pub hash: String,
    /// Transactions in the chain.
    pub total_transactions: u64,
    /// Pending transactions.
    pub pending_transactions: u64,
    /// Version of the protocol's newest header.
    pub protocol_version: u16,
    /// Version of the program.
    pub node_version: String,
    /// Storage engine.
    pub storage_engine: String,
    /// Whether plain names stand for unlocked development accounts.
    pub dev: bool,
}

/// `GET /health` and `GET /readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Health {
    /// `ok`, `stalled` or `failed`.
    pub status: String,
    /// Name of the chain.
    pub chain_id: String,
    /// Validator that this node signs for.
    pub proposer_id: String,
    /// Height of the newest block.
    pub height: u64,
    /// Pending transactions.
    pub pending: u64,
    /// What is wrong; absent if nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `GET /rpc/supply`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SupplyView {
    /// Base units that exist.
    pub total_supply: u64,
    /// Base units minted since genesis.
    pub minted: u64,
    /// Height at which it was read.
    pub height: u64,
}

/// `GET /rpc/validators`: the set of the next height.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ValidatorList {
    /// The validators.
    pub validators: Vec<ValidatorJson>,
    /// Sum of their voting power.
    pub total_power: u64,
    /// Height for which the set holds.
    pub height: u64,
    /// Hash of the set, as headers have it.
    pub validators_hash: String,
}

/// `GET /rpc/params`: on-chain parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ParamsView {
    /// Value of each.
    pub params: BTreeMap<String, u64>,
    /// Who may change them; null if nobody.
    pub governor: Option<String>,
    /// Who may mint; null if nobody.
    pub minter: Option<String>,
}

/// `POST /rpc/estimateFee`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FeeEstimate {
    /// Kind of the transaction.
    #[serde(rename = "type")]
    pub kind: String,
    /// Advised fee for an empty payload.
    pub base_fee: u64,
    /// Length of the payload as canonical JSON.
    pub payload_bytes: u64,
    /// Advised fee.
    pub estimated_fee: u64,
    /// The same, under the design's name.
    pub fee: u64,
    /// Least fee that a block takes for it.
    pub min_fee: u64,
}

/// `GET /rpc/syncStatus`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SyncStatus {
    /// Name of the chain.
    pub chain_id: String,
    /// Height of the newest block.
    pub head_height: u64,
    /// Its id.
    pub head_hash: String,
    /// Who made it.
    pub head_proposer: String,
    /// When it was made, RFC 3339.
    pub head_timestamp: String,
    /// Blocks in the chain, genesis included.
    pub total_blocks: u64,
    /// Transactions in the chain.
    pub total_transactions: u64,
    /// Always true: nothing unsigned is ever taken.
    pub validate_signatures: bool,
    /// The validators.
    pub trusted_proposers: Vec<String>,
    /// Always 0: what is committed is final.
    pub max_reorg_depth: u64,
    /// `validator` or `follower`.
    pub role: String,
    /// Why the node is where it is: `in_sync`, `fetching`, `no_peers`, `peers_silent`,
    /// `applying`, `bad_blocks`, or `alone` for a node without a network.
    pub reason: String,
    /// What that means.
    pub about: String,
    /// Height of the newest block that a connected peer has, or of the newest here.
    pub target_height: u64,
    /// Blocks that are missing here.
    pub blocks_behind: u64,
    /// Seconds since the last block while blocks are missing; 0 if none is.
    pub waiting_seconds: u64,
    /// Peers that were asked for blocks and have not answered yet.
    pub asked_peers: Vec<String>,
    /// Peers that are connected.
    pub peers_connected: u64,
    /// Remotes of other sites that are synced with over HTTP; absent if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remotes: Vec<RemoteJson>,
}

/// A remote of another site: an item of `remotes` in `GET /rpc/syncStatus`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RemoteJson {
    /// Its URL, without a password.
    pub url: String,
    /// `not_asked`, `in_sync`, `behind`, `fetching`, `waiting`, `unreachable`, `bad_answer`,
    /// `other_chain`, `bad_blocks` or `local_fault`.
    pub reason: String,
    /// Height of its newest block, as it said last.
    pub height: Option<u64>,
    /// Seconds since it last answered as it should; null if it never did.
    pub last_success_seconds: Option<u64>,
    /// What is wrong; null if nothing is.
    pub last_error: Option<String>,
    /// Seconds until it is asked again after something went wrong.
    pub retry_seconds: Option<u64>,
}

/// A node that this one knows: an item of `GET /rpc/peers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PeerJson {
    /// Its network key in hex.
    pub id: String,
    /// Where it is.
    pub address: String,
    /// Whether a connection is up.
    pub connected: bool,
    /// Whether this node called.
    pub outbound: bool,
    /// Whether the operator named it.
    #[serde(rename = "static")]
    pub is_static: bool,
    /// Height of its newest block, as it says.
    pub height: Option<u64>,
    /// Its program.
    pub agent: String,
    /// Seconds since it is connected.
    pub connected_seconds: u64,
    /// Round-trip time in milliseconds.
    pub rtt_ms: Option<u64>,
    /// Points against it, of 100 that lead to a ban.
    pub fault_points: u32,
    /// Seconds until its ban ends.
    pub banned_seconds: Option<u64>,
}

/// Answer of `GET /rpc/peers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PeerList {
    /// This node's own id; none if it has no network.
    pub id: Option<String>,
    /// How many are known.
    pub total: u64,
    /// How many are connected.
    pub connected: u64,
    /// Each.
    pub peers: Vec<PeerJson>,
}

/// Answer of `POST /rpc/admin/peers/add`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PeerAdded {
    /// Always `added`.
    pub status: String,
    /// The peer.
    pub peer: String,
}

/// A pending transaction: an item of `GET /rpc/mempool`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PendingTransaction {
    /// Its hash.
    pub hash: String,
    /// When it came, in milliseconds since 1970.
    pub added_at_ms: u64,
    /// The transaction itself.
    #[serde(flatten)]
    pub transaction: TransactionJson,
}

/// Answer of `POST /rpc/admin/mintFaucet`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MintResponse {
    /// The account as it was given.
    pub address: String,
    /// What it holds now.
    pub balance: u64,
    /// The minting transaction.
    pub tx_hash: String,
}

/// `GET /rpc/getTx/{hash}`: the design's short form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TxStatusView {
    /// `committed`, `pending`, `dropped` or `unknown`.
    pub status: String,
    /// The transaction with what executing it did; null if it is in no block.
    pub receipt: Option<super::views::TransactionView>,
}
