//! Blocks: the header that is hashed, the body, and a block with its certificate.
//!
//! [`Block`] is what somebody claims; [`CertifiedBlock`] is one whose certificate
//! was verified against a validator set, made only here. Whether the header's
//! roots are those of executing the body is decided in [`crate::execute`].

use crate::certificate::{
    Certificate, CertificateError, Signed, verify_signed, verify_signed_beside,
};
use crate::codec::{Canonical, DecodeError, Reader, Writer};
use crate::crypto::Signature;
use crate::execute::Transition;
use crate::hash::Domain;
use crate::limits::{BLOCK_BODY_BYTES_MAX, BLOCK_TRANSACTION_COUNT_MAX};
use crate::list;
use crate::transaction::Transaction;
use crate::types::{Address, BlockId, ChainId, Hash, Height, StateRoot, TimestampMs};
use crate::validator::ValidatorSet;

/// The protocol version that this code executes.
pub const PROTOCOL_VERSION: u16 = 1;

/// What a block id is the hash of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Protocol version; a node refuses one that it does not know.
    pub version: u16,
    /// The chain.
    pub chain_id: ChainId,
    /// Position in the chain.
    pub height: Height,
    /// Id of the block before; zero for genesis.
    pub parent: BlockId,
    /// When it was made; strictly greater than the parent's.
    pub time: TimestampMs,
    /// Validator that made it; zero for genesis.
    pub proposer: Address,
    /// Root of the list of transactions, signatures included.
    pub transactions_root: Hash,
    /// Root of the list of outcomes.
    pub outcomes_root: Hash,
    /// Root of the state after this block.
    pub state_root: StateRoot,
    /// Hash of the validator set of this height.
    pub validators_hash: Hash,
    /// Hash of the validator set of the next height.
    pub next_validators_hash: Hash,
    /// Number of transactions.
    pub transaction_count: u32,
    /// Length of the encoded transactions in bytes.
    pub body_bytes: u32,
}

impl Header {
    /// The block's id: hash of the canonical header.
    #[must_use]
    pub fn id(&self) -> BlockId {
        BlockId(Domain::Block.hash(&[&self.encode()]).0)
    }

    /// The fields in which `found` is not this header, in their order.
    #[must_use]
    pub fn differences(&self, found: &Self) -> Vec<FieldDifference> {
        let mut differences = Vec::new();
        macro_rules! fields {
            ($($field:ident),*) => {
                // Names every field, so that a new one cannot be forgotten.
                let Self { $($field),* } = self;
                $(if *$field != found.$field {
                    differences.push(FieldDifference {
                        field: stringify!($field),
                        expected: $field.to_string(),
                        found: found.$field.to_string(),
                    });
                })*
            };
        }
        fields!(
            version,
            chain_id,
            height,
            parent,
            time,
            proposer,
            transactions_root,
            outcomes_root,
            state_root,
            validators_hash,
            next_validators_hash,
            transaction_count,
            body_bytes
        );
        differences
    }
}

/// A header field with two values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldDifference {
    /// The field.
    pub field: &'static str,
    /// What it should be.
    pub expected: String,
    /// What it is.
    pub found: String,
}

impl Canonical for Header {
    fn encode_to(&self, out: &mut Vec<u8>) {
        out.put_u16(self.version);
        out.put_chain_id(&self.chain_id);
        out.put_u64(self.height.get());
        out.put(&self.parent.0);
        out.put_u64(self.time.get());
        out.put(&self.proposer.0);
        out.put(&self.transactions_root.0);
        out.put(&self.outcomes_root.0);
        out.put(&self.state_root.0);
        out.put(&self.validators_hash.0);
        out.put(&self.next_validators_hash.0);
        out.put_u32(self.transaction_count);
        out.put_u32(self.body_bytes);
    }

    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let version = reader.u16()?;
        if version != PROTOCOL_VERSION {
            return Err(DecodeError::Unknown {
                what: "protocol version",
                found: u64::from(version),
            });
        }
        Ok(Self {
            version,
            chain_id: reader.chain_id()?,
            height: reader.height()?,
            parent: reader.block_id()?,
            time: TimestampMs::new(reader.u64()?)
                .ok_or(DecodeError::Invalid { what: "block time" })?,
            proposer: reader.address()?,
            transactions_root: reader.hash()?,
            outcomes_root: reader.hash()?,
            state_root: StateRoot(reader.array()?),
            validators_hash: reader.hash()?,
            next_validators_hash: reader.hash()?,
            transaction_count: reader.u32()?,
            body_bytes: reader.u32()?,
        })
    }
}

/// A header and the transactions it should commit to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The header.
    pub header: Header,
    /// The transactions in order.
    pub transactions: Vec<Transaction>,
}

/// Leaves of the tree under [`Header::transactions_root`], and the body's length in bytes.
#[must_use]
pub fn transaction_leaves<'a>(
    transactions: impl IntoIterator<Item = &'a Transaction>,
) -> (Vec<Hash>, usize) {
    list::leaf_hashes(transactions)
}

impl Block {
    /// Whether the header commits to exactly this body: count, bytes and root.
    #[must_use]
    pub fn body_matches_header(&self) -> bool {
        let (leaves, bytes) = transaction_leaves(&self.transactions);
        u32::try_from(leaves.len()) == Ok(self.header.transaction_count)
            && u32::try_from(bytes) == Ok(self.header.body_bytes)
            && list::root(&leaves) == self.header.transactions_root
    }
}

impl Canonical for Block {
    fn encode(&self) -> Vec<u8> {
        // Most are transfers, which take less.
        let bytes = self.transactions.len().saturating_mul(192).saturating_add(512);
        let mut bytes = Vec::with_capacity(bytes);
        self.encode_to(&mut bytes);
        bytes
    }

    fn encode_to(&self, out: &mut Vec<u8>) {
        self.header.encode_to(out);
        for transaction in &self.transactions {
            transaction.encode_to(out);
        }
    }

    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let header = Header::decode_from(reader)?;
        let bounds = [
            ("transaction count", header.transaction_count, BLOCK_TRANSACTION_COUNT_MAX),
            ("body length", header.body_bytes, BLOCK_BODY_BYTES_MAX),
        ];
        for (what, found, max) in bounds {
            if found > max {
                return Err(DecodeError::TooLarge { what, found: found.into(), max: max.into() });
            }
        }
        let mut body = Reader::new(reader.take(header.body_bytes as usize)?);
        // The count is a claim; no transaction is shorter than 128 bytes.
        let mut transactions =
            Vec::with_capacity((body.remaining() / 128).min(header.transaction_count as usize));
        for _ in 0..header.transaction_count {
            transactions.push(Transaction::decode_from(&mut body)?);
        }
        body.finish()?;
        Ok(Self { header, transactions })
    }
}

/// A block whose certificate was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertifiedBlock {
    block: Block,
    block_id: BlockId,
    certificate: Certificate,
}

/// Why a block and a certificate do not make a certified block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertifyError {
    /// The header names another validator set.
    #[error("the header's validator set is {found}, expected {expected}")]
    Validators {
        /// Hash of the set of this height.
        expected: Hash,
        /// What the header says.
        found: Hash,
    },
    /// Count, length or root of the body are not the header's.
    #[error("the transactions are not those the header commits to")]
    Body,
    /// The certificate does not prove it final.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// Checks all but the body and the signatures.
fn check(
    block: &Block,
    certificate: &Certificate,
    validators: &ValidatorSet,
    expected: Hash,
) -> Result<(BlockId, Vec<Signed>), CertifyError> {
    let header = &block.header;
    if header.validators_hash != expected {
        return Err(CertifyError::Validators { expected, found: header.validators_hash });
    }
    let block_id = header.id();
    let signed = certificate.signed(&header.chain_id, header.height, block_id, validators)?;
    Ok((block_id, signed))
}

impl CertifiedBlock {
    /// Verifies that `certificate` makes `block` final under `validators`, the set of its height.
    ///
    /// # Errors
    /// [`CertifyError`] if the set, the body or the certificate do not match the header.
    pub fn verify(
        block: Block,
        certificate: Certificate,
        validators: &ValidatorSet,
    ) -> Result<Self, CertifyError> {
        let (mut verified, error) = Self::verify_all(vec![(block, certificate)], validators);
        match (verified.pop(), error) {
            (Some(block), None) => Ok(block),
            (_, Some(error)) => Err(error),
            // One went in, so that one came out or is at fault.
            (None, None) => Err(CertifyError::Body),
        }
    }

    /// As [`CertifiedBlock::verify`] for a block that was built or executed here, which gave
    /// `transition`: its body is known to be the header's, and is not hashed again. Neither are
    /// signatures verified that are among those `made_here`, of the same hash.
    ///
    /// # Errors
    /// [`CertifyError`] if the transition is another block's, or the set or the certificate
    /// do not match the header.
    pub fn verify_executed(
        block: Block,
        transition: &Transition,
        certificate: Certificate,
        validators: &ValidatorSet,
        made_here: &[(Hash, Signature)],
    ) -> Result<Self, CertifyError> {
        let (block_id, signed) = check(&block, &certificate, validators, validators.hash())?;
        if block_id != transition.block_id {
            return Err(CertifyError::Body);
        }
        verify_signed_beside(signed, made_here)?;
        Ok(Self { block, block_id, certificate })
    }

    /// As [`CertifiedBlock::verify`] for many blocks of one validator set, with all
    /// signatures in one batch. Gives the blocks before the first that does not verify,
    /// and what is wrong with that one.
    #[must_use]
    pub fn verify_all(
        blocks: Vec<(Block, Certificate)>,
        validators: &ValidatorSet,
    ) -> (Vec<Self>, Option<CertifyError>) {
        let expected = validators.hash();
        let mut error = None;
        let (mut candidates, mut signed, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for (block, certificate) in blocks {
            let checked = if block.body_matches_header() {
                check(&block, &certificate, validators, expected)
            } else {
                Err(CertifyError::Body)
            };
            match checked {
                Ok((block_id, of_block)) => {
                    signed.extend(of_block);
                    ends.push(signed.len());
                    candidates.push(Self { block, block_id, certificate });
                }
                Err(found) => {
                    error = Some(found);
                    break;
                }
            }
        }
        if let Err(bad) = verify_signed(&signed) {
            let at = ends.partition_point(|end| *end <= bad);
            let begin = at.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
            let of_block = candidates.get(at).map(|one| one.certificate.signatures());
            let signer = of_block.and_then(|signatures| signatures.get(bad.checked_sub(begin)?));
            let validator = signer.map_or(Address::ZERO, |signer| signer.validator);
            error = Some(CertificateError::Signature { validator }.into());
            candidates.truncate(at);
        }
        (candidates, error)
    }

    /// The block.
    #[must_use]
    pub const fn block(&self) -> &Block {
        &self.block
    }

    /// The block and its certificate.
    #[must_use]
    pub fn into_parts(self) -> (Block, Certificate) {
        (self.block, self.certificate)
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.block.header
    }

    /// The block's id.
    #[must_use]
    pub const fn id(&self) -> BlockId {
        self.block_id
    }

    /// The certificate.
    #[must_use]
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }
}
