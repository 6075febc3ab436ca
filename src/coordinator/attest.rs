//! Attesting: a receipt that its provider signed and that matches its job gets the
//! coordinator's signature, one receipt a job.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ait_engine::crypto::{self, PublicKey, SecretKey};
use ait_engine::json::Json;
use ait_engine::receipt::{
    Attestation, Receipt, ReceiptClaim, ReceiptError, SignedReceiptError, signature_json,
};
use ait_engine::types::{Hash, MicroUnits};

use super::JobBook;
use super::text::decimal;
use crate::devnet::DevAccounts;
use crate::receipts::{Attest, receipt_hash};

/// Why a receipt is not attested.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are what the messages say")]
pub enum AttestRefusal {
    /// The body is not a request.
    #[error("{reason}")]
    Request { reason: String },
    /// The signed receipt cannot be read.
    #[error("the signed receipt is not valid: {0}")]
    Signed(#[from] SignedReceiptError),
    /// The receipt cannot be read.
    #[error("the receipt is not valid: {0}")]
    Receipt(#[from] ReceiptError),
    /// The provider's signature does not verify, or is not the provider's.
    #[error("the provider's signature on the receipt does not verify")]
    ProviderSignature,
    /// No such job.
    #[error("job {job_id:?} is not known")]
    JobUnknown { job_id: String },
    /// Other units than the job's.
    #[error("the receipt has {} units, the job has {}", decimal(*.found), decimal(*.expected))]
    UnitsMismatch { expected: MicroUnits, found: MicroUnits },
    /// Another price than the job's.
    #[error("the receipt's price is {}, the job's is {}", decimal(*.found), decimal(*.expected))]
    PriceMismatch { expected: MicroUnits, found: MicroUnits },
    /// Another provider than the job's.
    #[error("the receipt's provider is {found:?}, the job's is {expected:?}")]
    ProviderMismatch { expected: String, found: String },
    /// Another client than the job's.
    #[error("the receipt's client is {found:?}, the job's is {expected:?}")]
    ClientMismatch { expected: String, found: String },
    /// Another receipt of the job was attested.
    #[error("another receipt of job {job_id:?} was attested already")]
    AlreadyAttested { job_id: String },
}

impl AttestRefusal {
    /// Stable code, for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Request { .. } => "invalid_request",
            Self::Signed(_) | Self::Receipt(_) => "receipt_malformed",
            Self::ProviderSignature => "bad_provider_signature",
            Self::JobUnknown { .. } => "job_unknown",
            Self::UnitsMismatch { .. } => "units_mismatch",
            Self::PriceMismatch { .. } => "price_mismatch",
            Self::ProviderMismatch { .. } => "provider_mismatch",
            Self::ClientMismatch { .. } => "client_mismatch",
            Self::AlreadyAttested { .. } => "already_attested",
        }
    }

    /// What the caller may do.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Request { .. } => "send one JSON object with the fields that the detail names",
            Self::Signed(_) | Self::Receipt(_) => {
                "build the receipt with `ait-node receipt sign`, which writes the canonical form"
            }
            Self::ProviderSignature => {
                "sign the canonical receipt bytes with the key of the provider's address"
            }
            Self::JobUnknown { .. } => "create the job with POST /v1/jobs and use the id it gives",
            Self::UnitsMismatch { .. }
            | Self::PriceMismatch { .. }
            | Self::ProviderMismatch { .. }
            | Self::ClientMismatch { .. } => "GET /v1/jobs/{id} says what the job was ordered with",
            Self::AlreadyAttested { .. } => "send the receipt that was attested first, unchanged",
        }
    }
}

struct Inner {
    key: SecretKey,
    names: Option<DevAccounts>,
    book: Mutex<JobBook>,
}

/// The mock coordinator: a job book and the key that attests. Clones share both.
#[derive(Clone)]
pub struct Coordinator(Arc<Inner>);

impl fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Coordinator({})", self.public_key())
    }
}

impl Coordinator {
    /// A coordinator with this key. With `names`, a development account's name and its
    /// address are one party. `now` is in seconds since 1970.
    #[must_use]
    pub fn new(key: SecretKey, names: Option<DevAccounts>, now: u64) -> Self {
        let random = key.public_key().0.first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b));
        let book = Mutex::new(JobBook::new(random, now));
        Self(Arc::new(Inner { key, names, book }))
    }

    /// The key that its attestations verify under.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.0.key.public_key()
    }

    /// The job book. Every change of it is whole before the lock is given back.
    pub(super) fn book(&self) -> MutexGuard<'_, JobBook> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_same_party(&self, a: &str, b: &str) -> bool {
        let address = |text: &str| self.0.names.as_ref()?.resolve(text).ok();
        a == b || address(a).is_some_and(|address_a| address(b) == Some(address_a))
    }

    /// Attests a receipt that its provider signed.
    ///
    /// # Errors
    /// [`AttestRefusal`]; nothing was changed.
    pub fn attest_claim(&self, claim: &ReceiptClaim) -> Result<Attestation, AttestRefusal> {
        let receipt = Receipt::parse(&claim.receipt)?;
        crypto::verify(&claim.provider_key, &claim.receipt, &claim.provider_signature)
            .map_err(|_| AttestRefusal::ProviderSignature)?;
        if let Ok(address) = receipt.provider.parse()
            && claim.provider_key.address() != address
        {
            return Err(AttestRefusal::ProviderSignature);
        }
        let hash: Hash = receipt_hash(&claim.receipt);
        self.book().attest(&receipt, hash, |a, b| self.is_same_party(a, b))?;
        let signature = self.0.key.sign(&claim.receipt);
        Ok(Attestation { coordinator: self.public_key(), signature })
    }
}

impl Attest for Coordinator {
    type Error = AttestRefusal;

    async fn attest(&self, claim: &ReceiptClaim) -> Result<Attestation, AttestRefusal> {
        self.attest_claim(claim)
    }

    async fn job_time(&self, job_id: &str) -> Option<u64> {
        self.book().get(job_id).map(|job| job.created_at)
    }
}

/// Reads the request to attest: a signed receipt as the old software writes it, or
/// `{receipt, provider_signature, provider_key?}` with the receipt as object or text.
///
/// # Errors
/// [`AttestRefusal::Request`] or what is wrong with the receipt.
pub(super) fn read_request(body: &Json) -> Result<ReceiptClaim, AttestRefusal> {
    let wrong = |reason: &str| AttestRefusal::Request { reason: reason.to_owned() };
    if !matches!(body, Json::Object(_)) {
        return Err(wrong("the body must be a JSON object"));
    }
    let Some(receipt) = body.get("receipt") else {
        return Ok(ReceiptClaim::from_signed_json(body.canonical().as_bytes())?);
    };
    let parsed;
    let receipt = match receipt {
        Json::Text(text) => {
            parsed = ait_engine::json::parse(text.as_bytes()).map_err(ReceiptError::Json)?;
            &parsed
        }
        other => other,
    };
    let Json::Object(members) = receipt else {
        return Err(wrong("receipt must be an object, or a text that holds one"));
    };
    let mut members = members.clone();
    if let Some(signature) = body.get("provider_signature") {
        members.retain(|(name, _)| name != "signature");
        let provider_key = body.get("provider_key");
        members.push(("signature".to_owned(), read_signature(signature, provider_key)?));
    }
    Ok(ReceiptClaim::from_signed_json(Json::Object(members).canonical().as_bytes())?)
}

fn read_signature(signature: &Json, key: Option<&Json>) -> Result<Json, AttestRefusal> {
    let reason = "provider_signature must be {alg, key_id, sig}, or hex beside provider_key in hex";
    let wrong = || AttestRefusal::Request { reason: reason.to_owned() };
    match (signature, key) {
        (Json::Object(_), None) => Ok(signature.clone()),
        (Json::Text(signature), Some(Json::Text(key))) => {
            let key: PublicKey = key.parse().map_err(|_| wrong())?;
            Ok(signature_json(&key, &signature.parse().map_err(|_| wrong())?))
        }
        _ => Err(wrong()),
    }
}
