//! Transactions, accounts, receipts and errors as the node shows them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Newly minted tokens and who got them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RewardJson {
    /// Who got them.
    pub address: String,
    /// How many base units.
    pub amount: u64,
}

/// What executing a transaction did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OutcomeJson {
    /// Base units that its sender paid to the proposer.
    pub fee: u64,
    /// What it minted.
    pub rewards: Vec<RewardJson>,
}

/// A transaction of a committed block: `GET /rpc/tx/{hash}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TransactionView {
    /// Its hash.
    pub tx_hash: String,
    /// Height of its block.
    pub block_height: u64,
    /// Who sent it: an address, or a development account's name.
    pub sender: String,
    /// Who it is to; empty for kinds without a recipient.
    pub recipient: String,
    /// Address of the sender.
    pub sender_address: String,
    /// Address of the recipient; null for kinds without one.
    pub recipient_address: Option<String>,
    /// What it does.
    #[schema(value_type = Object)]
    pub payload: Value,
    /// Time of its block, RFC 3339.
    pub created_at: String,
    /// `TRANSFER`, `RECEIPT_CLAIM`, `PARAM_SET`, `MINT` or `PROVIDER_BIND`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The chain it is for.
    pub chain_id: String,
    /// The sender's key.
    pub public_key: String,
    /// The sender's nonce that it used.
    pub nonce: u64,
    /// Base units offered to the proposer.
    pub fee: u64,
    /// Last height at which it could be included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
    /// Its signature.
    pub sig: String,
    /// Id of its block.
    pub block_hash: String,
    /// Position in its block.
    pub index: u32,
    /// What executing it did.
    pub outcome: OutcomeJson,
}

/// Balance and nonce: `GET /rpc/getBalance/{address}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AccountBalance {
    /// The account as it was asked for.
    pub address: String,
    /// Base units that it holds.
    pub balance: u64,
    /// The next nonce that it must use.
    pub nonce: u64,
    /// The next nonce after its pending transactions; absent if none is pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_nonce: Option<u64>,
    /// Time of the last block that touched it; absent for an unused account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<String>,
}

/// A claimed receipt: `GET /rpc/receipts/{receipt_id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReceiptView {
    /// Its id.
    pub receipt_id: String,
    /// Its job.
    pub job_id: String,
    /// The signed receipt as a JSON object.
    #[schema(value_type = Object)]
    pub payload: Value,
    /// The text that is signed, byte for byte.
    pub canonical: String,
    /// The provider's signature: `{alg, key_id, sig}`.
    #[schema(value_type = Object)]
    pub miner_signature: Value,
    /// The coordinators' signatures, each `{alg, key_id, sig}`.
    #[schema(value_type = Vec<Object>)]
    pub coordinator_attestations: Vec<Value>,
    /// Base units minted for it, all shares together.
    pub minted_amount: u64,
    /// Time of the claim's block, RFC 3339.
    pub recorded_at: String,
    /// The claiming transaction.
    pub tx_hash: String,
    /// Height of its block.
    pub block_height: u64,
}

/// Answer of `POST /rpc/sendTx` and its likes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SendTxResponse {
    /// Hash of the accepted transaction.
    pub tx_hash: String,
    /// The same, under the design's name.
    #[serde(rename = "txHash", default)]
    pub tx_hash_alias: String,
}

/// What became of one transaction of `POST /rpc/sendTxs`: its hash, or why it was refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct SendTxsItem {
    /// Hash of the accepted transaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tx_hash: Option<String>,
    /// HTTP status that `sendTx` would have answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What went wrong, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Stable code, for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Where a transaction is, or why it is nowhere: `GET /rpc/tx/{hash}/why`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WhyResponse {
    /// The transaction.
    pub tx_hash: String,
    /// `committed`, `pending`, `dropped` or `unknown`.
    pub status: String,
    /// A sentence that explains it.
    pub detail: String,
    /// Stable code of a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Height of its block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_height: Option<u64>,
}

/// The one shape of every error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct ErrorBody {
    /// What went wrong, for people.
    pub detail: String,
    /// Stable code, for programs.
    pub code: String,
    /// What to do.
    pub hint: String,
    /// Names the request in the node's log.
    pub request_id: String,
}
