//! Heads, headers, certificates, validators and blocks as JSON.

use ait_engine::block::Header;
use ait_engine::certificate::{Certificate, CommitSignature};
use ait_engine::crypto::{PublicKey, Signature};
use ait_engine::types::{
    Address, BlockId, ChainId, Hash, Height, Round, StateRoot, TimestampMs, VotingPower,
};
use ait_engine::validator::{Validator, ValidatorSet, ValidatorSetError};
use serde::{Deserialize, Serialize};

use super::time::rfc3339;
use super::views::{ReceiptView, TransactionView};

/// Why a JSON form is not the object that it stands for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// The hash beside a header is not that of the header.
    #[error("the block's hash is {found}, but its header hashes to {expected}")]
    BlockId {
        /// Hash of the header.
        expected: BlockId,
        /// What stands beside it.
        found: BlockId,
    },
    /// The validators are no set.
    #[error(transparent)]
    Validators(#[from] ValidatorSetError),
}

/// The newest block: `GET /rpc/head`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Head {
    /// Its height.
    #[schema(value_type = u64)]
    pub height: Height,
    /// Its block id.
    #[schema(value_type = String)]
    pub hash: BlockId,
    /// When it was made, RFC 3339.
    pub timestamp: String,
    /// How many transactions it holds.
    pub tx_count: u32,
    /// When it was made, in milliseconds since 1970.
    #[schema(value_type = u64)]
    pub timestamp_ms: TimestampMs,
    /// The chain.
    #[schema(value_type = String)]
    pub chain_id: ChainId,
    /// Root of the state after it.
    #[schema(value_type = String)]
    pub state_root: StateRoot,
}

impl From<&Header> for Head {
    fn from(header: &Header) -> Self {
        Self {
            height: header.height,
            hash: header.id(),
            timestamp: rfc3339(header.time),
            tx_count: header.transaction_count,
            timestamp_ms: header.time,
            chain_id: header.chain_id,
            state_root: header.state_root,
        }
    }
}

/// Everything that a block id is the hash of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HeaderJson {
    /// Protocol version.
    pub version: u16,
    /// The chain.
    #[schema(value_type = String)]
    pub chain_id: ChainId,
    /// Position in the chain.
    #[schema(value_type = u64)]
    pub height: Height,
    /// Id of the block before.
    #[schema(value_type = String)]
    pub parent: BlockId,
    /// When it was made, in milliseconds since 1970.
    #[schema(value_type = u64)]
    pub time_ms: TimestampMs,
    /// Validator that made it.
    #[schema(value_type = String)]
    pub proposer: Address,
    /// Root of the list of transactions.
    #[schema(value_type = String)]
    pub transactions_root: Hash,
    /// Root of the list of outcomes.
    #[schema(value_type = String)]
    pub outcomes_root: Hash,
    /// Root of the state after it.
    #[schema(value_type = String)]
    pub state_root: StateRoot,
    /// Hash of the validator set of this height.
    #[schema(value_type = String)]
    pub validators_hash: Hash,
    /// Hash of the validator set of the next height.
    #[schema(value_type = String)]
    pub next_validators_hash: Hash,
    /// Number of transactions.
    pub transaction_count: u32,
    /// Length of the encoded transactions in bytes.
    pub body_bytes: u32,
}

impl From<&Header> for HeaderJson {
    fn from(header: &Header) -> Self {
        Self {
            version: header.version,
            chain_id: header.chain_id,
            height: header.height,
            parent: header.parent,
            time_ms: header.time,
            proposer: header.proposer,
            transactions_root: header.transactions_root,
            outcomes_root: header.outcomes_root,
            state_root: header.state_root,
            validators_hash: header.validators_hash,
            next_validators_hash: header.next_validators_hash,
            transaction_count: header.transaction_count,
            body_bytes: header.body_bytes,
        }
    }
}

impl From<&HeaderJson> for Header {
    fn from(json: &HeaderJson) -> Self {
        Self {
            version: json.version,
            chain_id: json.chain_id,
            height: json.height,
            parent: json.parent,
            time: json.time_ms,
            proposer: json.proposer,
            transactions_root: json.transactions_root,
            outcomes_root: json.outcomes_root,
            state_root: json.state_root,
            validators_hash: json.validators_hash,
            next_validators_hash: json.next_validators_hash,
            transaction_count: json.transaction_count,
            body_bytes: json.body_bytes,
        }
    }
}

/// One precommit of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CommitSignatureJson {
    /// Who signed.
    #[schema(value_type = String)]
    pub validator: Address,
    /// The signature.
    #[schema(value_type = String)]
    pub signature: Signature,
}

/// Precommits with a quorum for one block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CertificateJson {
    /// The certified height.
    #[schema(value_type = u64)]
    pub height: Height,
    /// Round of the precommits.
    #[schema(value_type = u32)]
    pub round: Round,
    /// The certified block.
    #[schema(value_type = String)]
    pub block_id: BlockId,
    /// The precommits.
    pub signatures: Vec<CommitSignatureJson>,
}

impl From<&Certificate> for CertificateJson {
    fn from(certificate: &Certificate) -> Self {
        let signatures = certificate.signatures().iter();
        Self {
            height: certificate.height,
            round: certificate.round,
            block_id: certificate.block_id,
            signatures: signatures
                .map(|s| CommitSignatureJson { validator: s.validator, signature: s.signature })
                .collect(),
        }
    }
}

impl From<&CertificateJson> for Certificate {
    fn from(json: &CertificateJson) -> Self {
        let signatures = json.signatures.iter();
        let signatures = signatures
            .map(|s| CommitSignature { validator: s.validator, signature: s.signature })
            .collect();
        Self::new(json.height, json.round, json.block_id, signatures)
    }
}

/// One validator of a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ValidatorJson {
    /// Address of its key.
    #[schema(value_type = String)]
    pub address: Address,
    /// Its key.
    #[schema(value_type = String)]
    pub public_key: PublicKey,
    /// Its voting power.
    #[schema(value_type = u64)]
    pub power: VotingPower,
    /// Account that receives its fees.
    #[schema(value_type = String)]
    pub payout: Address,
}

impl ValidatorJson {
    /// The set's JSON form.
    #[must_use]
    pub fn list(set: &ValidatorSet) -> Vec<Self> {
        set.iter()
            .map(|v| Self {
                address: v.address(),
                public_key: v.public_key,
                power: v.power,
                payout: v.payout,
            })
            .collect()
    }

    /// The set of these validators.
    ///
    /// # Errors
    /// [`FormError::Validators`] if they are none.
    pub fn set(list: &[Self]) -> Result<ValidatorSet, FormError> {
        let validators = list
            .iter()
            .map(|v| Validator { public_key: v.public_key, power: v.power, payout: v.payout })
            .collect();
        Ok(ValidatorSet::new(validators)?)
    }
}

/// A block without its body, as lists and old clients have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BlockSummary {
    /// Its height.
    #[schema(value_type = u64)]
    pub height: Height,
    /// Its block id.
    #[schema(value_type = String)]
    pub hash: BlockId,
    /// Id of the block before.
    #[schema(value_type = String)]
    pub parent_hash: BlockId,
    /// When it was made, RFC 3339.
    pub timestamp: String,
    /// How many transactions it holds.
    pub tx_count: u32,
    /// Root of the state after it.
    #[schema(value_type = String)]
    pub state_root: StateRoot,
    /// Validator that made it.
    #[schema(value_type = String)]
    pub proposer: Address,
    /// When it was made, in milliseconds since 1970.
    #[schema(value_type = u64)]
    pub timestamp_ms: TimestampMs,
    /// Block and certificate in their canonical encoding, in base64: what `blocks/import`
    /// takes in place of everything else. Only where it was asked for; genesis has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canonical: Option<String>,
}

impl From<&Header> for BlockSummary {
    fn from(header: &Header) -> Self {
        Self {
            height: header.height,
            hash: header.id(),
            parent_hash: header.parent,
            timestamp: rfc3339(header.time),
            tx_count: header.transaction_count,
            state_root: header.state_root,
            proposer: header.proposer,
            timestamp_ms: header.time,
            canonical: None,
        }
    }
}

/// A block with all that belongs to it: `GET /rpc/blocks/{height or hash}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BlockBody {
    /// What old clients know of it.
    #[serde(flatten)]
    pub summary: BlockSummary,
    /// Everything that its id is the hash of.
    pub header: HeaderJson,
    /// Its transactions in order.
    pub transactions: Vec<TransactionView>,
    /// Receipts claimed in it.
    pub receipts: Vec<ReceiptView>,
    /// Why it is final; null for genesis.
    pub certificate: Option<CertificateJson>,
}

impl BlockBody {
    /// The header, if it is what the block's hash is the hash of.
    ///
    /// # Errors
    /// [`FormError::BlockId`].
    pub fn checked_header(&self) -> Result<Header, FormError> {
        let header = Header::from(&self.header);
        let expected = header.id();
        if self.summary.hash != expected {
            return Err(FormError::BlockId { expected, found: self.summary.hash });
        }
        Ok(header)
    }
}
