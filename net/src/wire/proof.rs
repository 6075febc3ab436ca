//! Proofs as JSON: what is proved, and the header, certificate and validators that
//! it leads to. State proofs and transactions are canonical bytes in hex.

use ait_engine::list::ListProof;
use ait_engine::types::{Address, Amount, Hash, Height, Nonce, TxHash};
use serde::{Deserialize, Serialize};

use super::block::{CertificateJson, HeaderJson, ValidatorJson};

/// The block that a proof leads to, and why it is final.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Anchor {
    /// The header.
    pub header: HeaderJson,
    /// Why it is final; null for genesis.
    pub certificate: Option<CertificateJson>,
    /// The validators of its height, whose hash is in the header.
    pub validators: Vec<ValidatorJson>,
}

/// `GET /rpc/proof/account/{address}`: what the state holds under an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AccountProof {
    /// The account.
    #[schema(value_type = String)]
    pub address: Address,
    /// Whether the account exists; `false` is proved as well.
    pub exists: bool,
    /// Base units that it holds.
    #[schema(value_type = u64)]
    pub balance: Amount,
    /// The next nonce that it must use.
    #[schema(value_type = u64)]
    pub nonce: Nonce,
    /// Canonical state proof in hex.
    pub proof: String,
    /// What it leads to.
    #[serde(flatten)]
    pub anchor: Anchor,
}

/// `GET /rpc/proof/receipt/{receipt_id}`: whether a receipt was claimed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReceiptProof {
    /// The receipt.
    pub receipt_id: String,
    /// Whether it was claimed; `false` is proved as well.
    pub claimed: bool,
    /// Height of the claim.
    #[schema(value_type = Option<u64>)]
    pub claimed_at: Option<Height>,
    /// Base units minted for it.
    #[schema(value_type = Option<u64>)]
    pub minted_amount: Option<Amount>,
    /// Canonical state proof in hex.
    pub proof: String,
    /// What it leads to.
    #[serde(flatten)]
    pub anchor: Anchor,
}

/// A position in a Merkle list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ListProofJson {
    /// Position of the item, from 0.
    pub index: u32,
    /// Length of the list.
    pub count: u32,
    /// Sibling hashes from the leaf up.
    #[schema(value_type = Vec<String>)]
    pub siblings: Vec<Hash>,
}

impl From<&ListProof> for ListProofJson {
    fn from(proof: &ListProof) -> Self {
        Self { index: proof.index, count: proof.count, siblings: proof.siblings.clone() }
    }
}

impl From<&ListProofJson> for ListProof {
    fn from(json: &ListProofJson) -> Self {
        Self { index: json.index, count: json.count, siblings: json.siblings.clone() }
    }
}

/// `GET /rpc/proof/transaction/{hash}`: a transaction's place in its block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TransactionProof {
    /// The transaction.
    #[schema(value_type = String)]
    pub tx_hash: TxHash,
    /// Canonical transaction in hex, signature included.
    pub transaction: String,
    /// Its place in the list under the header's `transactions_root`.
    pub proof: ListProofJson,
    /// The block.
    #[serde(flatten)]
    pub anchor: Anchor,
}
