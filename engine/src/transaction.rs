//! Signed requests to change state: their kinds, canonical encoding, hash and
//! stateless verification.
//!
//! [`Transaction`] is what somebody claims; [`VerifiedTransaction`] is one whose
//! signatures all verify, made only here. Whether it applies to the state is
//! decided in [`crate::execute`].

use crate::codec::{Canonical, DecodeError, Reader, Writer};
use crate::crypto::{KeyCache, PublicKey, SCHEME_ED25519, SecretKey, Signature, verify_batch};
use crate::hash::Domain;
use crate::limits::{NAME_BYTES_MAX, PAYLOAD_BYTES_MAX, TRANSACTION_BYTES_MAX};
use crate::params::ParamSet;
use crate::receipt::{Receipt, ReceiptClaim, ReceiptError};
use crate::types::{Address, Amount, ChainId, Hash, Height, Nonce, TxHash};

const VERSION: u8 = 1;

/// What a transaction does. The numbers are part of the encoding; those between
/// are reserved for stake, unstake, delegate, evidence and key rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Moves tokens from the sender to another account.
    Transfer = 1,
    /// Turns an attested receipt into minted tokens.
    ReceiptClaim = 2,
    /// Changes on-chain parameters; the governor only.
    ParamSet = 7,
    /// Creates tokens; the minter only, where the genesis names one.
    Mint = 8,
    /// Binds a provider name and its receipt key to the sender.
    ProviderBind = 10,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Transfer, Self::ReceiptClaim, Self::ParamSet, Self::Mint, Self::ProviderBind];

    /// The name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transfer => "TRANSFER",
            Self::ReceiptClaim => "RECEIPT_CLAIM",
            Self::ParamSet => "PARAM_SET",
            Self::Mint => "MINT",
            Self::ProviderBind => "PROVIDER_BIND",
        }
    }

    /// The kind of this JSON name, whatever its case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name))
    }
}

/// Binds a provider name to an account and to the key that signs its receipts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderBind {
    /// The name that receipts give as `provider`.
    pub name: String,
    /// The key that signs them.
    pub receipt_key: PublicKey,
    /// That key's signature over [`ProviderBind::sign_hash`]: nobody binds a key that is not theirs.
    pub key_signature: Signature,
}

impl ProviderBind {
    /// What the receipt key signs to be bound to `account` on this chain.
    #[must_use]
    pub fn sign_hash(chain_id: &ChainId, account: &Address, name: &str) -> Hash {
        let mut bytes = Vec::new();
        bytes.put_chain_id(chain_id);
        bytes.put(&account.0);
        bytes.put_bytes(name.as_bytes());
        Domain::ProviderBinding.hash(&[&bytes])
    }
}

/// What a transaction does, with its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// Moves `amount` to `to`.
    Transfer {
        /// The recipient.
        to: Address,
        /// Base units, at least 1.
        amount: Amount,
    },
    /// Claims the reward of a receipt.
    ReceiptClaim(ReceiptClaim),
    /// Changes parameters.
    ParamSet(ParamSet),
    /// Creates `amount` for `to`.
    Mint {
        /// The recipient.
        to: Address,
        /// Base units, at least 1.
        amount: Amount,
    },
    /// Binds a provider name to the sender.
    ProviderBind(ProviderBind),
}

impl Payload {
    /// Which kind it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Transfer { .. } => Kind::Transfer,
            Self::ReceiptClaim(_) => Kind::ReceiptClaim,
            Self::ParamSet(_) => Kind::ParamSet,
            Self::Mint { .. } => Kind::Mint,
            Self::ProviderBind(_) => Kind::ProviderBind,
        }
    }

    /// Length of the canonical payload in bytes, which fees are counted on.
    #[must_use]
    pub fn byte_count(&self) -> usize {
        match self {
            Self::Transfer { .. } | Self::Mint { .. } => 40,
            other => {
                let mut bytes = Vec::new();
                other.encode_body_to(&mut bytes);
                bytes.len()
            }
        }
    }

    /// Holds a payload that was not read from its canonical form to the bounds of that form:
    /// what nobody can read must not get into a block.
    ///
    /// # Errors
    /// [`DecodeError`]: what reading its canonical form would meet.
    pub fn check_bounds(&self) -> Result<(), DecodeError> {
        let mut body = Vec::with_capacity(256);
        self.encode_body_to(&mut body);
        if body.len() > PAYLOAD_BYTES_MAX {
            let (found, max) = (body.len() as u64, PAYLOAD_BYTES_MAX as u64);
            return Err(DecodeError::TooLarge { what: "payload length", found, max });
        }
        Self::decode_body(self.kind() as u8, &body).map(|_| ())
    }

    fn encode_body_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::Transfer { to, amount } | Self::Mint { to, amount } => {
                out.put(&to.0);
                out.put_u64(amount.get());
            }
            Self::ReceiptClaim(claim) => claim.encode_to(out),
            Self::ParamSet(changes) => changes.encode_to(out),
            Self::ProviderBind(bind) => {
                out.put_bytes(bind.name.as_bytes());
                out.put(&bind.receipt_key.0);
                out.put(&bind.key_signature.0);
            }
        }
    }

    fn decode_body(kind: u8, body: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let kind = Kind::ALL
            .into_iter()
            .find(|k| *k as u8 == kind)
            .ok_or(DecodeError::Unknown { what: "transaction kind", found: u64::from(kind) })?;
        let payload = match kind {
            Kind::Transfer => Self::Transfer { to: reader.address()?, amount: reader.amount()? },
            Kind::Mint => Self::Mint { to: reader.address()?, amount: reader.amount()? },
            Kind::ReceiptClaim => Self::ReceiptClaim(ReceiptClaim::decode_from(&mut reader)?),
            Kind::ParamSet => Self::ParamSet(ParamSet::decode_from(&mut reader)?),
            Kind::ProviderBind => Self::ProviderBind(ProviderBind {
                name: reader.text("provider name", NAME_BYTES_MAX)?.to_owned(),
                receipt_key: PublicKey(reader.array()?),
                key_signature: Signature(reader.array()?),
            }),
        };
        reader.finish()?;
        Ok(payload)
    }
}

/// A signed request to change state, not yet verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// The chain it is for.
    pub chain_id: ChainId,
    /// The sender's key; the sender is its address.
    pub public_key: PublicKey,
    /// The sender's next nonce.
    pub nonce: Nonce,
    /// Paid to the proposer of the block.
    pub fee: Amount,
    /// Last height at which it may be included; none means any.
    pub expires_at: Option<Height>,
    /// What it does.
    pub payload: Payload,
    /// The sender's signature over the transaction's hash.
    pub signature: Signature,
}

/// Why a transaction is refused before any state is looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// The sender's signature does not verify.
    #[error("the signature does not verify for the transaction's public key")]
    Signature,
    /// It takes more bytes than any transaction may.
    #[error("the transaction has {found} bytes, at most {TRANSACTION_BYTES_MAX} are allowed")]
    TooLarge {
        /// Its encoded length.
        found: usize,
    },
    /// The receipt of a claim is not canonical or breaks a rule of its own.
    #[error("the receipt is not valid: {0}")]
    Receipt(#[from] ReceiptError),
    /// The provider's signature on the receipt does not verify.
    #[error("the provider's signature on the receipt does not verify")]
    ProviderSignature,
    /// A coordinator's attestation does not verify.
    #[error("the attestation of coordinator {coordinator} does not verify")]
    Attestation {
        /// The key it claims.
        coordinator: PublicKey,
    },
    /// The receipt key's proof of possession does not verify.
    #[error("the receipt key's signature in the provider binding does not verify")]
    BindingSignature,
}

impl TransactionError {
    /// Stable code of the refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Signature => "bad_signature",
            Self::TooLarge { .. } => "transaction_too_large",
            Self::Receipt(_) => "receipt_malformed",
            Self::ProviderSignature => "bad_provider_signature",
            Self::Attestation { .. } => "bad_attestation",
            Self::BindingSignature => "bad_binding_signature",
        }
    }
}

impl Transaction {
    /// Makes and signs a transaction.
    #[must_use]
    pub fn sign(
        key: &SecretKey,
        chain_id: ChainId,
        nonce: Nonce,
        fee: Amount,
        expires_at: Option<Height>,
        payload: Payload,
    ) -> Self {
        let mut transaction = Self {
            chain_id,
            public_key: key.public_key(),
            nonce,
            fee,
            expires_at,
            payload,
            signature: Signature([0; 64]),
        };
        transaction.signature = key.sign(transaction.hash().as_bytes());
        transaction
    }

    /// Who sends it.
    #[must_use]
    pub fn sender(&self) -> Address {
        self.public_key.address()
    }

    /// Hash of all but the signature: what is signed, and the transaction's id.
    #[must_use]
    pub fn hash(&self) -> TxHash {
        let mut bytes = Vec::with_capacity(128);
        self.encode_unsigned_to(&mut bytes);
        TxHash(Domain::Transaction.hash(&[&bytes]).0)
    }

    fn encode_unsigned_to(&self, out: &mut Vec<u8>) {
        out.put_u8(VERSION);
        out.put_chain_id(&self.chain_id);
        out.put_u8(SCHEME_ED25519);
        out.put(&self.public_key.0);
        out.put_u64(self.nonce.get());
        out.put_u64(self.fee.get());
        out.put_u64(self.expires_at.map_or(0, Height::get));
        out.put_u8(self.payload.kind() as u8);
        let length_at = out.len();
        out.put_u32(0);
        let body_at = out.len();
        self.payload.encode_body_to(out);
        let length = u32::try_from(out.len().saturating_sub(body_at)).unwrap_or(u32::MAX);
        if let Some(place) = out.get_mut(length_at..body_at) {
            place.copy_from_slice(&length.to_le_bytes());
        }
    }

    /// Verifies every signature that it bears.
    ///
    /// # Errors
    /// [`TransactionError`]: what does not hold whatever the state.
    pub fn verify(self) -> Result<VerifiedTransaction, TransactionError> {
        match verify_transactions(vec![self], None).pop() {
            Some(result) => result,
            None => Err(TransactionError::Signature),
        }
    }
}

impl Canonical for Transaction {
    fn encode_to(&self, out: &mut Vec<u8>) {
        self.encode_unsigned_to(out);
        out.put(&self.signature.0);
    }

    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.tag("transaction version", VERSION)?;
        let chain_id = reader.chain_id()?;
        reader.tag("signature scheme", SCHEME_ED25519)?;
        let public_key = PublicKey(reader.array()?);
        let nonce = reader.nonce()?;
        let fee = reader.amount()?;
        let expires_at = Some(reader.height()?).filter(|height| *height > Height::ZERO);
        let kind = reader.u8()?;
        let body = reader.bytes("payload length", PAYLOAD_BYTES_MAX)?;
        let payload = Payload::decode_body(kind, body)?;
        let signature = Signature(reader.array()?);
        Ok(Self { chain_id, public_key, nonce, fee, expires_at, payload, signature })
    }
}

/// A transaction all of whose signatures verify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedTransaction {
    transaction: Transaction,
    hash: TxHash,
    sender: Address,
    byte_count: u32,
}

impl VerifiedTransaction {
    /// Takes the signatures as good. Only for transactions of a block whose
    /// certificate was verified, or that this node verified before it stored them.
    #[must_use]
    pub fn assume_verified(transaction: Transaction) -> Self {
        let mut bytes = Vec::with_capacity(256);
        transaction.encode_unsigned_to(&mut bytes);
        let hash = TxHash(Domain::Transaction.hash(&[&bytes]).0);
        Self::new(transaction.sender(), transaction, hash, bytes.len())
    }

    /// One of this sender and hash, whose encoding takes as many bytes without the signature.
    fn new(sender: Address, transaction: Transaction, hash: TxHash, unsigned: usize) -> Self {
        let encoded = unsigned.saturating_add(transaction.signature.0.len());
        let byte_count = u32::try_from(encoded).unwrap_or(u32::MAX);
        Self { hash, sender, byte_count, transaction }
    }

    /// The transaction.
    #[must_use]
    pub const fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    /// Its hash.
    #[must_use]
    pub const fn hash(&self) -> TxHash {
        self.hash
    }

    /// Who sends it.
    #[must_use]
    pub const fn sender(&self) -> Address {
        self.sender
    }

    /// Its encoded length in bytes.
    #[must_use]
    pub const fn byte_count(&self) -> u32 {
        self.byte_count
    }

    /// Gives the transaction back.
    #[must_use]
    pub fn into_inner(self) -> Transaction {
        self.transaction
    }
}

/// What a signature of a batch is for, to name the fault.
#[derive(Clone, Copy)]
enum Purpose {
    Sender,
    Provider,
    Attestation(PublicKey),
    Binding,
}

impl From<Purpose> for TransactionError {
    fn from(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Sender => Self::Signature,
            Purpose::Provider => Self::ProviderSignature,
            Purpose::Attestation(coordinator) => Self::Attestation { coordinator },
            Purpose::Binding => Self::BindingSignature,
        }
    }
}

/// Verifies the signatures of many transactions in one batch; the results stand
/// in the order of the input and are those of [`Transaction::verify`] for each.
#[must_use]
pub fn verify_transactions(
    transactions: Vec<Transaction>,
    cache: Option<&KeyCache>,
) -> Vec<Result<VerifiedTransaction, TransactionError>> {
    let (hashes, lengths) =
        Domain::Transaction.hash_items(&transactions, Transaction::encode_unsigned_to);
    let senders = PublicKey::addresses(transactions.iter().map(|one| &one.public_key));
    let hashed = hashes.into_iter().map(|hash| TxHash(hash.0)).zip(lengths);
    let mut verified: Vec<Result<VerifiedTransaction, TransactionError>> = transactions
        .into_iter()
        .zip(senders.into_iter().zip(hashed))
        .map(|(transaction, (sender, (hash, unsigned)))| {
            check_size(VerifiedTransaction::new(sender, transaction, hash, unsigned))
        })
        .collect();
    // Binding hashes are made here, so that the batch can borrow them.
    let bindings: Vec<Option<Hash>> =
        verified.iter().map(|v| v.as_ref().ok().and_then(binding_hash)).collect();
    let mut items = Vec::with_capacity(verified.len());
    let mut owners = Vec::with_capacity(verified.len());
    for (at, (candidate, binding)) in verified.iter().zip(&bindings).enumerate() {
        let Ok(candidate) = candidate else { continue };
        let transaction = &candidate.transaction;
        items.push((transaction.public_key, candidate.hash.0.as_slice(), transaction.signature));
        owners.push((at, Purpose::Sender));
        match (&transaction.payload, binding) {
            (Payload::ReceiptClaim(claim), _) => {
                items.push((
                    claim.provider_key,
                    claim.receipt.as_slice(),
                    claim.provider_signature,
                ));
                owners.push((at, Purpose::Provider));
                for attestation in &claim.attestations {
                    items.push((attestation.coordinator, &claim.receipt, attestation.signature));
                    owners.push((at, Purpose::Attestation(attestation.coordinator)));
                }
            }
            (Payload::ProviderBind(bind), Some(hash)) => {
                items.push((bind.receipt_key, hash.0.as_slice(), bind.key_signature));
                owners.push((at, Purpose::Binding));
            }
            _ => {}
        }
    }
    let bad = verify_batch(&items, cache).err().unwrap_or_default();
    // From the last to the first, so that the first fault of a transaction is the one reported.
    for (at, purpose) in bad.iter().rev().filter_map(|index| owners.get(*index)) {
        if let Some(result) = verified.get_mut(*at) {
            *result = Err((*purpose).into());
        }
    }
    verified
}

fn check_size(candidate: VerifiedTransaction) -> Result<VerifiedTransaction, TransactionError> {
    let found = candidate.byte_count as usize;
    if found > TRANSACTION_BYTES_MAX {
        return Err(TransactionError::TooLarge { found });
    }
    if let Payload::ReceiptClaim(claim) = &candidate.transaction.payload {
        Receipt::parse(&claim.receipt)?;
    }
    Ok(candidate)
}

fn binding_hash(candidate: &VerifiedTransaction) -> Option<Hash> {
    match &candidate.transaction.payload {
        Payload::ProviderBind(bind) => Some(ProviderBind::sign_hash(
            &candidate.transaction.chain_id,
            &candidate.sender,
            &bind.name,
        )),
        _ => None,
    }
}
