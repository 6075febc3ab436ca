//! Receipts as the existing software hands them on: one JSON object that holds the
//! receipt, its `signature` and its `attestations`, in any spelling.

use data_encoding::BASE64URL_NOPAD;

use super::{Attestation, Receipt, ReceiptClaim, ReceiptError};
use crate::crypto::{PublicKey, Signature};
use crate::json::{self, Json};
use crate::limits::ATTESTATION_COUNT_MAX;

/// Why a JSON object is not a signed receipt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignedReceiptError {
    /// What was signed is not a valid receipt.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// A signature is missing or not of the right shape.
    #[error(
        "{name} must be an object with alg \"Ed25519\", key_id and sig (base64url without padding)"
    )]
    Signature {
        /// Where it stands.
        name: &'static str,
    },
    /// Too many attestations, or one key twice.
    #[error("attestations must be a list of at most {ATTESTATION_COUNT_MAX}, each of another key")]
    Attestations,
}

/// The JSON form of a signature.
#[must_use]
pub fn signature_json(key: &PublicKey, signature: &Signature) -> Json {
    let text = |text: &str| Json::Text(text.to_owned());
    Json::Object(vec![
        ("alg".to_owned(), text("Ed25519")),
        ("key_id".to_owned(), text(&BASE64URL_NOPAD.encode(&key.0))),
        ("sig".to_owned(), text(&BASE64URL_NOPAD.encode(&signature.0))),
    ])
}

fn read_signature(
    json: &Json,
    name: &'static str,
) -> Result<(PublicKey, Signature), SignedReceiptError> {
    let wrong = SignedReceiptError::Signature { name };
    let text = |key: &str| match json.get(key) {
        Some(Json::Text(text)) => Some(text.as_bytes()),
        _ => None,
    };
    let bytes = |key: &str| BASE64URL_NOPAD.decode(text(key)?).ok();
    let read = || {
        text("alg").filter(|alg| alg == b"Ed25519")?;
        let key = bytes("key_id")?.try_into().ok()?;
        let signature = bytes("sig")?.try_into().ok()?;
        Some((PublicKey(key), Signature(signature)))
    };
    read().ok_or(wrong)
}

impl ReceiptClaim {
    /// Reads a signed receipt in the existing software's JSON form.
    ///
    /// # Errors
    /// [`SignedReceiptError`] if it is none; signatures are not verified here.
    pub fn from_signed_json(text: &[u8]) -> Result<Self, SignedReceiptError> {
        let json = json::parse(text).map_err(ReceiptError::Json)?;
        let Json::Object(members) = &json else {
            return Err(ReceiptError::Missing { name: "receipt_id" }.into());
        };
        let missing = Json::Null;
        let signature = json.get("signature").unwrap_or(&missing);
        let (provider_key, provider_signature) = read_signature(signature, "signature")?;
        let attestations = match json.get("attestations") {
            None | Some(Json::Null) => Vec::new(),
            Some(Json::Array(items)) if items.len() <= ATTESTATION_COUNT_MAX => {
                read_attestations(items)?
            }
            Some(_) => return Err(SignedReceiptError::Attestations),
        };
        let signed =
            members.iter().filter(|(name, _)| name != "signature" && name != "attestations");
        let receipt = Json::Object(signed.cloned().collect()).canonical().into_bytes();
        Receipt::parse(&receipt)?;
        Ok(Self { receipt, provider_key, provider_signature, attestations })
    }

    /// The existing software's JSON form.
    ///
    /// # Errors
    /// [`ReceiptError`] if the receipt's text is not a JSON object.
    pub fn to_signed_json(&self) -> Result<String, ReceiptError> {
        let Json::Object(mut members) = json::parse(&self.receipt)? else {
            return Err(ReceiptError::NotCanonical);
        };
        let signature = signature_json(&self.provider_key, &self.provider_signature);
        members.push(("signature".to_owned(), signature));
        let attestations = self.attestations.iter();
        let attestations = attestations.map(|a| signature_json(&a.coordinator, &a.signature));
        members.push(("attestations".to_owned(), Json::Array(attestations.collect())));
        Ok(Json::Object(members).canonical())
    }
}

fn read_attestations(items: &[Json]) -> Result<Vec<Attestation>, SignedReceiptError> {
    let mut attestations = Vec::with_capacity(items.len());
    for item in items {
        let (coordinator, signature) = read_signature(item, "each of attestations")?;
        attestations.push(Attestation { coordinator, signature });
    }
    attestations.sort_unstable_by_key(|a| a.coordinator);
    let twice = |pair: &[Attestation]| matches!(pair, [a, b] if a.coordinator == b.coordinator);
    if attestations.windows(2).any(twice) {
        return Err(SignedReceiptError::Attestations);
    }
    Ok(attestations)
}
