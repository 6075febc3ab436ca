//! Compute receipts: the canonical text that providers and coordinators sign, its
//! fields, and the claim that carries it onto the chain.
//!
//! Signatures are over the canonical bytes themselves, as the existing coordinators make
//! them. Who may claim is decided in [`crate::execute`]; keys come from state, never from
//! a receipt.

mod signed;

#[cfg(test)]
mod tests;

use crate::codec::{Canonical, DecodeError, Reader, Writer};
use crate::crypto::{PublicKey, Signature};
use crate::json::{self, Json, JsonError};
use crate::limits::{ATTESTATION_COUNT_MAX, RECEIPT_BYTES_MAX, RECEIPT_TEXT_BYTES_MAX};
use crate::types::MicroUnits;

pub use signed::{SignedReceiptError, signature_json};

/// The only version of receipts.
pub const RECEIPT_VERSION: &str = "1.0";

/// What a receipt says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Its id, claimed once.
    pub receipt_id: String,
    /// The job it is for, claimed once.
    pub job_id: String,
    /// Who did the job: an address or a bound name.
    pub provider: String,
    /// Who ordered the job.
    pub client: String,
    /// How many units, at least one millionth.
    pub units: MicroUnits,
    /// What a unit is.
    pub unit_type: String,
    /// What the client pays, in millionths; 0 if the receipt does not say.
    pub price: MicroUnits,
    /// When the job began, in seconds since 1970.
    pub started_at: u64,
    /// When it was done, in seconds since 1970.
    pub completed_at: u64,
    /// The chain it is for, if it names one; the old software's integers name none.
    pub chain_id: Option<String>,
}

/// Why a text is not a receipt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Not JSON within the bounds.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// JSON, but not in the canonical spelling.
    #[error("the text is not in its canonical form (sorted keys, no spaces, no nulls, ASCII)")]
    NotCanonical,
    /// A field that has no place in the signed text.
    #[error("the signed text holds {name:?}, which is not part of it")]
    Unsigned {
        /// The field.
        name: &'static str,
    },
    /// A field that must be there is not.
    #[error("{name} is missing")]
    Missing {
        /// The field.
        name: &'static str,
    },
    /// A field with a value that it cannot have.
    #[error("{name} must be {expected}")]
    Field {
        /// The field.
        name: &'static str,
        /// What it must be.
        expected: &'static str,
    },
}

const TEXT: &str = "a text of 1 to 128 bytes";

impl Receipt {
    /// Reads a canonical text.
    ///
    /// # Errors
    /// [`ReceiptError`] for anything but the canonical text of a valid receipt.
    pub fn parse(canonical: &[u8]) -> Result<Self, ReceiptError> {
        let json = json::parse(canonical)?;
        if json.canonical().as_bytes() != canonical {
            return Err(ReceiptError::NotCanonical);
        }
        for name in ["signature", "attestations"] {
            if json.get(name).is_some() {
                return Err(ReceiptError::Unsigned { name });
            }
        }
        if text(&json, "version")? != RECEIPT_VERSION {
            return Err(ReceiptError::Field { name: "version", expected: "\"1.0\"" });
        }
        let receipt = Self {
            receipt_id: text(&json, "receipt_id")?,
            job_id: text(&json, "job_id")?,
            provider: text(&json, "provider")?,
            client: text(&json, "client")?,
            units: decimal(&json, "units")?.ok_or(ReceiptError::Missing { name: "units" })?,
            unit_type: text(&json, "unit_type")?,
            price: decimal(&json, "price")?.unwrap_or_default(),
            started_at: seconds(&json, "started_at")?,
            completed_at: seconds(&json, "completed_at")?,
            chain_id: match json.get("chain_id") {
                Some(Json::Text(name)) => Some(name.clone()),
                Some(Json::Number(_)) | None => None,
                Some(_) => {
                    return Err(ReceiptError::Field {
                        name: "chain_id",
                        expected: "a chain's name",
                    });
                }
            },
        };
        if receipt.units == MicroUnits::ZERO {
            return Err(ReceiptError::Field { name: "units", expected: "more than 0" });
        }
        if receipt.completed_at < receipt.started_at {
            let expected = "no earlier than started_at";
            return Err(ReceiptError::Field { name: "completed_at", expected });
        }
        Ok(receipt)
    }
}

fn text(json: &Json, name: &'static str) -> Result<String, ReceiptError> {
    match json.get(name) {
        Some(Json::Text(text)) if (1..=RECEIPT_TEXT_BYTES_MAX).contains(&text.len()) => {
            Ok(text.clone())
        }
        Some(_) => Err(ReceiptError::Field { name, expected: TEXT }),
        None => Err(ReceiptError::Missing { name }),
    }
}

fn decimal(json: &Json, name: &'static str) -> Result<Option<MicroUnits>, ReceiptError> {
    let expected = "a number from 0 to 18446744073709 with at most six decimal places";
    match json.get(name) {
        None => Ok(None),
        Some(Json::Number(spelled)) => json::millionths(spelled)
            .and_then(MicroUnits::new)
            .map(Some)
            .ok_or(ReceiptError::Field { name, expected }),
        Some(_) => Err(ReceiptError::Field { name, expected }),
    }
}

fn seconds(json: &Json, name: &'static str) -> Result<u64, ReceiptError> {
    let micros = decimal(json, name)?.ok_or(ReceiptError::Missing { name })?;
    Ok(micros.get() / 1_000_000)
}

/// A coordinator's signature on a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attestation {
    /// The coordinator's key.
    pub coordinator: PublicKey,
    /// Its signature over the canonical text.
    pub signature: Signature,
}

/// A receipt with its signatures, as a claim carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptClaim {
    /// The canonical text, byte for byte as it was signed.
    pub receipt: Vec<u8>,
    /// The key that signed it for the provider.
    pub provider_key: PublicKey,
    /// Its signature over the canonical text.
    pub provider_signature: Signature,
    /// Attestations in strictly ascending order of their keys.
    pub attestations: Vec<Attestation>,
}

impl Canonical for ReceiptClaim {
    fn encode_to(&self, out: &mut Vec<u8>) {
        out.put_bytes(&self.receipt);
        out.put(&self.provider_key.0);
        out.put(&self.provider_signature.0);
        out.put_count(self.attestations.len());
        for attestation in &self.attestations {
            out.put(&attestation.coordinator.0);
            out.put(&attestation.signature.0);
        }
    }

    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let receipt = reader.bytes("receipt length", RECEIPT_BYTES_MAX)?.to_vec();
        let provider_key = PublicKey(reader.array()?);
        let provider_signature = Signature(reader.array()?);
        let count = reader.count("attestation count", ATTESTATION_COUNT_MAX)?;
        let mut attestations: Vec<Attestation> = Vec::with_capacity(count);
        for _ in 0..count {
            let coordinator = PublicKey(reader.array()?);
            if attestations.last().is_some_and(|last| last.coordinator >= coordinator) {
                return Err(DecodeError::Invalid { what: "order of attestations" });
            }
            attestations.push(Attestation { coordinator, signature: Signature(reader.array()?) });
        }
        Ok(Self { receipt, provider_key, provider_signature, attestations })
    }
}
