//! Making receipts and claims: what the command line and the devnet's edge do before a
//! `RECEIPT_CLAIM` can be signed.
//!
//! Whether a claim is good is decided by the engine alone.

use std::future::Future;

use ait_engine::crypto::SecretKey;
use ait_engine::json::Json;
use ait_engine::receipt::{
    Attestation, RECEIPT_VERSION, Receipt, ReceiptClaim, ReceiptError, SignedReceiptError,
};
use ait_engine::types::{Address, ChainId, Hash, MicroUnits};

use ait_net::wire::{integer, optional_integer};

use crate::devnet::DevAccounts;

/// Who attests a receipt that its provider signed.
pub trait Attest {
    /// Why it does not.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Asks for the attestation of a claim's receipt.
    fn attest(
        &self,
        claim: &ReceiptClaim,
    ) -> impl Future<Output = Result<Attestation, Self::Error>> + Send;

    /// When a job came in, in seconds since 1970, if it is known.
    fn job_time(&self, job_id: &str) -> impl Future<Output = Option<u64>> + Send {
        let _ = job_id;
        async { None }
    }
}

/// A local name for a receipt's canonical text; it is no part of the protocol.
#[must_use]
pub fn receipt_hash(canonical: &[u8]) -> Hash {
    Hash(*blake3::hash(canonical).as_bytes())
}

/// The shortest decimal of a number of millionths.
#[must_use]
pub fn decimal(value: MicroUnits) -> String {
    let (whole, fraction) = (value.get() / 1_000_000, value.get() % 1_000_000);
    if fraction == 0 {
        return whole.to_string();
    }
    format!("{whole}.{fraction:06}").trim_end_matches('0').to_owned()
}

/// The fields of a receipt that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptFields {
    /// Its id.
    pub receipt_id: String,
    /// The job that was done.
    pub job_id: String,
    /// Who did it: an address or a bound name.
    pub provider: String,
    /// Who ordered it.
    pub client: String,
    /// How many units.
    pub units: MicroUnits,
    /// What a unit is.
    pub unit_type: String,
    /// What the client pays, if the receipt says.
    pub price: Option<MicroUnits>,
    /// When the job began, in seconds since 1970.
    pub started_at: u64,
    /// When it was done, in seconds since 1970.
    pub completed_at: u64,
    /// The chain it is for; any chain if none.
    pub chain_id: Option<ChainId>,
    /// Hash of the result, if there is one.
    pub artifact_hash: Option<String>,
}

impl ReceiptFields {
    /// The canonical text that provider and coordinators sign.
    ///
    /// # Errors
    /// [`ReceiptError`] if the fields make no valid receipt.
    pub fn canonical(&self) -> Result<Vec<u8>, ReceiptError> {
        let text = |text: &str| Json::Text(text.to_owned());
        let optional = |value: Option<Json>| value.unwrap_or(Json::Null);
        let number = |value: MicroUnits| Json::Number(decimal(value));
        let seconds = |value: u64| Json::Number(value.to_string());
        let members = [
            ("version", text(RECEIPT_VERSION)),
            ("receipt_id", text(&self.receipt_id)),
            ("job_id", text(&self.job_id)),
            ("provider", text(&self.provider)),
            ("client", text(&self.client)),
            ("units", number(self.units)),
            ("unit_type", text(&self.unit_type)),
            ("price", optional(self.price.map(number))),
            ("started_at", seconds(self.started_at)),
            ("completed_at", seconds(self.completed_at)),
            ("chain_id", optional(self.chain_id.map(|id| text(id.as_str())))),
            ("artifact_hash", optional(self.artifact_hash.as_deref().map(text))),
        ];
        let members = members.map(|(name, value)| (name.to_owned(), value));
        let canonical = Json::Object(members.into()).canonical().into_bytes();
        Receipt::parse(&canonical)?;
        Ok(canonical)
    }
}

/// Signs a canonical receipt for its provider; the claim has no attestation yet.
///
/// # Errors
/// [`ReceiptError`] if the text is not a canonical receipt.
pub fn sign(receipt: Vec<u8>, key: &SecretKey) -> Result<ReceiptClaim, ReceiptError> {
    Receipt::parse(&receipt)?;
    let provider_signature = key.sign(&receipt);
    let provider_key = key.public_key();
    Ok(ReceiptClaim { receipt, provider_key, provider_signature, attestations: Vec::new() })
}

/// Puts an attestation in its place; another one of the same coordinator is replaced.
pub fn attach(claim: &mut ReceiptClaim, attestation: Attestation) {
    let place = claim
        .attestations
        .binary_search_by_key(&attestation.coordinator, |present| present.coordinator);
    match place {
        Ok(at) => {
            if let Some(present) = claim.attestations.get_mut(at) {
                *present = attestation;
            }
        }
        Err(at) => claim.attestations.insert(at, attestation),
    }
}

/// A claim in the old design's integer form. Its `miner_sig` is not read: what it
/// signs was never settled, so that the development key signs anew.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct DesignClaim {
    /// The receipt's id.
    pub receipt_id: String,
    /// The job.
    pub job_id: String,
    /// Who ordered it.
    #[serde(default)]
    pub client_addr: Option<String>,
    /// Who did it; the sender if absent.
    #[serde(default)]
    pub miner_addr: Option<String>,
    /// Whole compute units.
    #[serde(deserialize_with = "integer")]
    pub compute_units: u64,
    /// Whole price.
    #[serde(default, deserialize_with = "optional_integer")]
    pub price: Option<u64>,
    /// Hash of the result.
    #[serde(default)]
    pub output_hash: Option<String>,
}

/// What a claim body is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimBody {
    /// A receipt with its signatures, as the existing software writes it.
    Signed(Box<ReceiptClaim>),
    /// The integer form, without usable signatures.
    Design(DesignClaim),
}

/// Why a claim cannot be made of a body.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The signed receipt cannot be read.
    #[error("the signed receipt is not valid: {0}")]
    Signed(#[from] SignedReceiptError),
    /// The receipt cannot be read or made.
    #[error("the receipt is not valid: {0}")]
    Receipt(#[from] ReceiptError),
    /// Neither form.
    #[error(
        "a claim is a signed receipt (with signature and attestations), or {{receipt_id, job_id, compute_units, ..}}: {reason}"
    )]
    Shape {
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody here has the provider's key.
    #[error("no development key is known for provider {provider:?}")]
    ProviderKeyUnknown {
        /// The provider.
        provider: String,
    },
    /// The coordinator does not attest it.
    #[error("the coordinator does not attest the receipt: {reason}")]
    NotAttested {
        /// What it says.
        reason: String,
        /// Its code.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ClaimError {
    /// Stable code, for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Signed(_) | Self::Receipt(_) | Self::Shape { .. } => "receipt_malformed",
            Self::ProviderKeyUnknown { .. } => "provider_key_unknown",
            Self::NotAttested { source, .. } => source
                .downcast_ref::<crate::coordinator::AttestRefusal>()
                .map_or("not_attested", crate::coordinator::AttestRefusal::code),
        }
    }

    /// What the caller may do.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Signed(_) | Self::Receipt(_) => {
                "build the receipt with `ait-node receipt sign`, which writes the canonical form"
            }
            Self::Shape { .. } => "see specs/protocol.md for both forms",
            Self::ProviderKeyUnknown { .. } => {
                "sign the receipt with the provider's key and send it with its signature"
            }
            Self::NotAttested { source, .. } => source
                .downcast_ref::<crate::coordinator::AttestRefusal>()
                .map_or("ask the coordinator", crate::coordinator::AttestRefusal::hint),
        }
    }
}

impl ClaimBody {
    /// Reads a claim's JSON text, byte for byte as it came: numbers of a signed receipt
    /// must keep their spelling.
    ///
    /// # Errors
    /// [`ClaimError`] if it is neither form.
    pub fn read(text: &[u8]) -> Result<Self, ClaimError> {
        let json = ait_engine::json::parse(text).map_err(ReceiptError::Json)?;
        if json.get("signature").is_some() {
            return Ok(Self::Signed(Box::new(ReceiptClaim::from_signed_json(text)?)));
        }
        let design = serde_json::from_slice(text)
            .map_err(|e| ClaimError::Shape { reason: e.to_string() })?;
        Ok(Self::Design(design))
    }
}

/// What the devnet's edge needs to complete a claim.
#[derive(Debug, Clone, Copy)]
pub struct Edge<'a, A> {
    /// Keys of the unlocked accounts.
    pub names: &'a DevAccounts,
    /// Who attests.
    pub coordinator: &'a A,
    /// The chain.
    pub chain_id: ChainId,
    /// The time in seconds since 1970.
    pub now: u64,
}

impl<A: Attest> Edge<'_, A> {
    /// Makes a whole claim of a body: a design claim is signed with the provider's
    /// development key, and what has no attestation is sent to the coordinator.
    ///
    /// # Errors
    /// [`ClaimError`] if a key is missing or the coordinator refuses.
    pub async fn complete(
        &self,
        body: ClaimBody,
        sender: &Address,
    ) -> Result<ReceiptClaim, ClaimError> {
        let mut claim = match body {
            ClaimBody::Signed(claim) => *claim,
            ClaimBody::Design(design) => {
                // Not the time of the request: the same claim sent again is the same receipt.
                let time = self.coordinator.job_time(&design.job_id).await.unwrap_or(self.now);
                self.sign_design(design, sender, time)?
            }
        };
        if claim.attestations.is_empty() {
            let asked = self.coordinator.attest(&claim).await;
            let attestation = asked.map_err(|error| ClaimError::NotAttested {
                reason: error.to_string(),
                source: Box::new(error),
            })?;
            attach(&mut claim, attestation);
        }
        Ok(claim)
    }

    fn sign_design(
        &self,
        design: DesignClaim,
        sender: &Address,
        time: u64,
    ) -> Result<ReceiptClaim, ClaimError> {
        let provider = design.miner_addr.unwrap_or_else(|| sender.to_string());
        let Some(key) = self.names.unlocked(&provider) else {
            return Err(ClaimError::ProviderKeyUnknown { provider });
        };
        let whole = |name: &'static str, value: u64| {
            value
                .checked_mul(1_000_000)
                .and_then(MicroUnits::new)
                .ok_or(ReceiptError::Field { name, expected: "at most 18446744073709" })
        };
        let fields = ReceiptFields {
            receipt_id: design.receipt_id,
            job_id: design.job_id,
            provider: key.public_key().address().to_string(),
            client: design.client_addr.unwrap_or_else(|| "unspecified".to_owned()),
            units: whole("compute_units", design.compute_units)?,
            unit_type: "compute_units".to_owned(),
            price: design.price.map(|price| whole("price", price)).transpose()?,
            started_at: time,
            completed_at: time,
            chain_id: Some(self.chain_id),
            artifact_hash: design.output_hash,
        };
        Ok(sign(fields.canonical()?, &key)?)
    }
}

#[cfg(test)]
mod tests;
