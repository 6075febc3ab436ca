//! Receipts.

use crate::codec::{Canonical, DecodeError, Reader, Writer};
use crate::crypto::{PublicKey, Signature};
use crate::limits::{ATTESTATION_COUNT_MAX, RECEIPT_BYTES_MAX};
use crate::types::MicroUnits;

/// A receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs)]
pub struct Receipt {
    pub receipt_id: String,
    pub job_id: String,
    pub provider: String,
    pub client: String,
    pub units: MicroUnits,
    pub completed_at: u64,
    pub chain_id: Option<String>,
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad receipt")]
pub struct ReceiptError;

impl Receipt {
    /// Reads one.
    pub fn parse(_canonical: &[u8]) -> Result<Self, ReceiptError> {
        Err(ReceiptError)
    }
}

/// An attestation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs)]
pub struct Attestation {
    pub coordinator: PublicKey,
    pub signature: Signature,
}

/// A claim.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs)]
pub struct ReceiptClaim {
    pub receipt: Vec<u8>,
    pub provider_key: PublicKey,
    pub provider_signature: Signature,
    pub attestations: Vec<Attestation>,
}

impl Canonical for ReceiptClaim {
    fn encode_to(&self, out: &mut Vec<u8>) {
        out.put_bytes(&self.receipt);
        out.put(&self.provider_key.0);
        out.put(&self.provider_signature.0);
        out.put_count(self.attestations.len());
        for a in &self.attestations {
            out.put(&a.coordinator.0);
            out.put(&a.signature.0);
        }
    }
    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let receipt = reader.bytes("receipt length", RECEIPT_BYTES_MAX)?.to_vec();
        let provider_key = PublicKey(reader.array()?);
        let provider_signature = Signature(reader.array()?);
        let count = reader.count("attestation count", ATTESTATION_COUNT_MAX)?;
        let mut attestations = Vec::new();
        for _ in 0..count {
            attestations.push(Attestation {
                coordinator: PublicKey(reader.array()?),
                signature: Signature(reader.array()?),
            });
        }
        Ok(Self { receipt, provider_key, provider_signature, attestations })
    }
}
