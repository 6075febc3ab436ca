//! A certified block as `POST /rpc/blocks/import` takes it: what `GET /rpc/blocks/{height}`
//! answers, or its canonical bytes.
//!
//! The body is read in two steps, so that a block that is here already costs little: what
//! it says of itself, and then the block. Nothing is built from a part of the text before
//! that part's length is bounded, and nothing is verified here.

use std::fmt;

use ait_engine::block::{Block, Header, PROTOCOL_VERSION};
use ait_engine::certificate::Certificate;
use ait_engine::codec::{Canonical, DecodeError, Reader};
use ait_engine::crypto::{PublicKey, Signature};
use ait_engine::limits::{BLOCK_TRANSACTION_COUNT_MAX, TRANSACTION_BYTES_MAX, VALIDATOR_COUNT_MAX};
use ait_engine::transaction::Transaction;
use ait_engine::types::{BlockId, ChainId, Height};
use data_encoding::BASE64;
use serde::de::{DeserializeOwned, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::block::{CertificateJson, HeaderJson};
use super::integer::read_integer;
use super::transaction::TransactionJson;

/// Longest text of a payload, in bytes: JSON spells the largest in less than four times its
/// canonical length.
const PAYLOAD_TEXT_BYTES_MAX: usize = 4 * TRANSACTION_BYTES_MAX;
/// Longest text of a number or a hash, in bytes.
const SHORT_TEXT_BYTES_MAX: usize = 100;
/// Longest text of a header, in bytes.
const HEADER_TEXT_BYTES_MAX: usize = 16 * 1024;
/// Base64 that holds a canonical header, in bytes: whole groups of four.
const HEADER_BASE64_BYTES: usize = 1_024;
/// Longest text of a certificate, in bytes: of each signature, names and spaces included.
const CERTIFICATE_TEXT_BYTES_MAX: usize = 1_024 + VALIDATOR_COUNT_MAX * 512;

/// Body of `POST /rpc/blocks/import` and `POST /rpc/importBlock`: either `canonical`, or
/// what `GET /rpc/blocks/{height}` answers. Other fields are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ImportBlockJson {
    /// Block and certificate as `?canonical=true` gives them; nothing else is needed then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canonical: Option<String>,
    /// Its height.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u64>,
    /// Its block id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// Everything that its id is the hash of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderJson>,
    /// Its transactions in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transactions: Option<Vec<TransactionJson>>,
    /// Why it is final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateJson>,
}

/// Answer of `POST /rpc/blocks/import`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ImportStatus {
    /// `imported`, or `exists` if it was here before.
    pub status: String,
    /// Its height.
    pub height: u64,
    /// Its block id.
    pub hash: String,
    /// How many transactions it holds; absent if it was here before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx_count: Option<u32>,
}

/// Answer of `POST /rpc/importBlock`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ImportOutcome {
    /// Whether the block is here now.
    pub accepted: bool,
    /// Its height; null if the body names none.
    pub height: Option<u64>,
    /// Its block id; null if the body names none.
    pub hash: Option<String>,
    /// What became of it.
    pub reason: String,
    /// Stable code of a refusal; absent if it is here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Always false: what is committed is final.
    pub reorged: bool,
    /// Always 0.
    pub reorg_depth: u64,
}

/// Why a body is not a certified block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportFormError {
    /// It is no JSON object.
    #[error("not a JSON object: {reason}")]
    Json {
        /// What is wrong.
        reason: String,
    },
    /// A field is missing or has no acceptable value.
    #[error("{field}: {reason}")]
    Field {
        /// Which.
        field: &'static str,
        /// What is wrong and what is expected.
        reason: String,
    },
    /// It comes without the signatures of validators.
    #[error("the block has no certificate")]
    Unsigned,
    /// The hash that it states is not that of its header.
    #[error("Invalid block hash. Expected: {expected}, Got: {found}")]
    Hash {
        /// Hash of the header.
        expected: BlockId,
        /// What it states.
        found: BlockId,
    },
    /// The canonical bytes are none.
    #[error("canonical: {0}")]
    Decode(#[from] DecodeError),
}

fn wrong(field: &'static str, reason: impl ToString) -> ImportFormError {
    ImportFormError::Field { field, reason: reason.to_string() }
}

/// Block and certificate as `canonical` has them.
#[must_use]
pub fn canonical_block(block: &Block, certificate: &Certificate) -> String {
    let mut bytes = block.encode();
    certificate.encode_to(&mut bytes);
    BASE64.encode(&bytes)
}

/// Block and certificate of a `canonical`.
///
/// # Errors
/// [`ImportFormError`] if it is not base64 of exactly the two.
pub fn read_canonical(text: &str) -> Result<(Block, Certificate), ImportFormError> {
    let bytes = BASE64.decode(text.as_bytes()).map_err(|error| wrong("canonical", error))?;
    let mut reader = Reader::new(&bytes);
    let block = Block::decode_from(&mut reader)?;
    let certificate = Certificate::decode_from(&mut reader)?;
    reader.finish()?;
    Ok((block, certificate))
}

/// The parts of a body, unread.
#[derive(Debug, Default, Deserialize)]
struct Parts<'a> {
    #[serde(borrow, default)]
    height: Option<&'a RawValue>,
    #[serde(borrow, default)]
    hash: Option<&'a RawValue>,
    #[serde(borrow, default)]
    parent_hash: Option<&'a RawValue>,
    #[serde(borrow, default)]
    header: Option<&'a RawValue>,
    #[serde(borrow, default)]
    transactions: Option<&'a RawValue>,
    #[serde(borrow, default)]
    certificate: Option<&'a RawValue>,
    #[serde(borrow, default)]
    canonical: Option<&'a RawValue>,
}

/// What a body says of its block, of which no more than the header is read yet.
#[derive(Debug)]
pub struct ImportForm<'a> {
    /// Its height, at least 1.
    pub height: Height,
    /// Its id.
    pub hash: BlockId,
    /// Id of the block before.
    pub parent: BlockId,
    parts: Parts<'a>,
    canonical: Option<&'a str>,
}

impl<'a> ImportForm<'a> {
    /// Reads what a body says of its block.
    ///
    /// # Errors
    /// [`ImportFormError`] if it does not say it, or begins with no canonical header.
    pub fn parse(body: &'a [u8]) -> Result<Self, ImportFormError> {
        let json = |error: serde_json::Error| ImportFormError::Json { reason: error.to_string() };
        // A list would count as an object's values in order.
        if body.trim_ascii_start().first() != Some(&b'{') {
            return Err(ImportFormError::Json { reason: "it begins with no {".to_owned() });
        }
        let parts: Parts<'a> = serde_json::from_slice(body).map_err(json)?;
        let stated = parts.hash.map(|raw| short("hash", raw)).transpose()?;
        let height = parts.height.map(|raw| integer("height", raw)).transpose()?;
        if height == Some(0) {
            return Err(wrong("height", "Input should be greater than 0"));
        }
        if let Some(raw) = parts.canonical {
            // Base64 needs no escapes, so that the text is used where it is.
            let text: &str =
                serde_json::from_str(raw.get()).map_err(|error| wrong("canonical", error))?;
            let header = canonical_header(text)?;
            let (found, parent) = (header.height, header.parent);
            if found == Height::ZERO {
                return Err(wrong("height", "Input should be greater than 0"));
            }
            if height.is_some_and(|height| height != found.get()) {
                return Err(wrong("height", format!("the canonical block is of height {found}")));
            }
            let hash = stated.unwrap_or_else(|| header.id());
            return Ok(Self { height: found, hash, parent, parts, canonical: Some(text) });
        }
        let height = height.and_then(Height::new);
        let height = height.ok_or_else(|| wrong("height", "is missing or too large"))?;
        let hash = stated.ok_or_else(|| wrong("hash", "is missing"))?;
        let parent = parts.parent_hash.map(|raw| short("parent_hash", raw)).transpose()?;
        let parent = parent.ok_or_else(|| wrong("parent_hash", "is missing"))?;
        Ok(Self { height, hash, parent, parts, canonical: None })
    }

    /// Reads the block, whose header then has the stated height, parent and hash.
    ///
    /// # Errors
    /// [`ImportFormError`]; `Unsigned` for the blocks of the old software.
    pub fn block(self) -> Result<(Block, Certificate), ImportFormError> {
        let (block, certificate) = match self.canonical {
            Some(text) => read_canonical(text)?,
            None => {
                let raw = self.parts.certificate.ok_or(ImportFormError::Unsigned)?;
                let certificate = certificate(raw)?;
                let raw = self.parts.header.ok_or_else(|| wrong("header", "is missing"))?;
                let header = header(raw)?;
                let raw = self.parts.transactions;
                let raw = raw.ok_or_else(|| wrong("transactions", "is missing"))?;
                let List(transactions) = serde_json::from_str(raw.get())
                    .map_err(|error| wrong("transactions", error))?;
                (Block { header, transactions }, certificate)
            }
        };
        let expected = block.header.id();
        if expected != self.hash {
            return Err(ImportFormError::Hash { expected, found: self.hash });
        }
        if block.header.height != self.height || block.header.parent != self.parent {
            return Err(wrong("header", "height and parent are not those beside it"));
        }
        Ok((block, certificate))
    }
}

fn bounded<'a>(
    field: &'static str,
    raw: &'a RawValue,
    max: usize,
) -> Result<&'a str, ImportFormError> {
    let text = raw.get();
    if text.len() > max {
        return Err(wrong(field, format!("{} bytes, at most {max} are possible", text.len())));
    }
    Ok(text)
}

fn short<T: DeserializeOwned>(field: &'static str, raw: &RawValue) -> Result<T, ImportFormError> {
    let text = bounded(field, raw, SHORT_TEXT_BYTES_MAX)?;
    serde_json::from_str(text).map_err(|error| wrong(field, error))
}

fn integer(field: &'static str, raw: &RawValue) -> Result<u64, ImportFormError> {
    let value = short(field, raw)?;
    read_integer(&value).map_err(|reason| wrong(field, reason))
}

/// The header that a `canonical` begins with.
fn canonical_header(text: &str) -> Result<Header, ImportFormError> {
    let begin = text.as_bytes().get(..HEADER_BASE64_BYTES).unwrap_or(text.as_bytes());
    let bytes = BASE64.decode(begin).map_err(|error| wrong("canonical", error))?;
    Ok(Header::decode_from(&mut Reader::new(&bytes))?)
}

fn header(raw: &RawValue) -> Result<Header, ImportFormError> {
    let text = bounded("header", raw, HEADER_TEXT_BYTES_MAX)?;
    let json: HeaderJson = serde_json::from_str(text).map_err(|error| wrong("header", error))?;
    if json.version != PROTOCOL_VERSION {
        let reason = format!("version {}, this node knows {PROTOCOL_VERSION}", json.version);
        return Err(wrong("header", reason));
    }
    Ok(Header::from(&json))
}

fn certificate(raw: &RawValue) -> Result<Certificate, ImportFormError> {
    let text = bounded("certificate", raw, CERTIFICATE_TEXT_BYTES_MAX)?;
    let json: CertificateJson =
        serde_json::from_str(text).map_err(|error| wrong("certificate", error))?;
    if json.signatures.len() > VALIDATOR_COUNT_MAX {
        return Err(wrong("certificate", "more signatures than validators can be"));
    }
    Ok(Certificate::from(&json))
}

/// A transaction of a body; what the view has beside these fields is ignored.
#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow, rename = "type")]
    kind: &'a RawValue,
    chain_id: ChainId,
    public_key: PublicKey,
    #[serde(borrow)]
    nonce: &'a RawValue,
    #[serde(borrow)]
    fee: &'a RawValue,
    #[serde(borrow, default)]
    expires_at: Option<&'a RawValue>,
    #[serde(borrow)]
    payload: &'a RawValue,
    sig: Signature,
}

impl Item<'_> {
    fn transaction(&self) -> Result<Transaction, ImportFormError> {
        let payload = bounded("payload", self.payload, PAYLOAD_TEXT_BYTES_MAX)?;
        let json = TransactionJson {
            kind: short("type", self.kind)?,
            chain_id: self.chain_id,
            // The view may show a name in its place; the key says who it is.
            sender: self.public_key.address(),
            public_key: self.public_key,
            nonce: integer("nonce", self.nonce)?,
            fee: integer("fee", self.fee)?,
            expires_at: self.expires_at.map(|raw| integer("expires_at", raw)).transpose()?,
            payload: serde_json::from_str(payload).map_err(|error| wrong("payload", error))?,
            sig: self.sig,
        };
        Transaction::try_from(&json).map_err(|error| wrong("transactions", error))
    }
}

/// Transactions, each made as its text is passed, so that the texts are never held as trees.
struct List(Vec<Transaction>);

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ListVisitor)
    }
}

struct ListVisitor;

impl<'de> Visitor<'de> for ListVisitor {
    type Value = List;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of transactions")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<List, A::Error> {
        let mut transactions = Vec::new();
        while let Some(item) = items.next_element::<Item<'de>>()? {
            if transactions.len() as u64 == u64::from(BLOCK_TRANSACTION_COUNT_MAX) {
                return Err(serde::de::Error::custom("more transactions than a block can hold"));
            }
            transactions.push(item.transaction().map_err(serde::de::Error::custom)?);
        }
        Ok(List(transactions))
    }
}

#[cfg(test)]
mod tests;
