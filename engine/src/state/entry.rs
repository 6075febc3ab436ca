//! Entries of the state: their keys, their kinds and the encoding of their values.
//!
//! A value begins with its kind. Those that are written often (accounts, claimed
//! receipts and jobs, the supply) take exactly [`Value::INLINE_BYTES`], so that
//! their leaf is one 64-byte BLAKE3 block; the rest may be of any length.

use crate::codec::{Canonical, DecodeError, Reader, Writer};
use crate::crypto::PublicKey;
use crate::hash::Domain;
use crate::limits::STATE_VALUE_BYTES_MAX;
use crate::types::{Address, Amount, Hash, Height, Nonce};

/// What an entry is; the first byte of its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum EntryKind {
    /// Number 0, the entry below every key.
    Sentinel = 0,
    /// An account.
    Account = 1,
    /// A claimed receipt.
    Receipt = 2,
    /// A job whose receipt was claimed.
    Job = 3,
    /// The supply.
    Supply = 4,
    /// The parameters and roles.
    Settings = 5,
    /// The validator set.
    Validators = 6,
    /// A coordinator.
    Coordinator = 7,
    /// A provider's binding.
    Provider = 8,
}

/// Key of an entry: an account's address, or for any other kind eight zero bytes, with which
/// no account's address begins, and 24 of a hash of kind and id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub [u8; 32]);

impl Key {
    /// Below every other key; that of the sentinel.
    pub const SENTINEL: Self = Self([0; 32]);

    fn derived(kind: EntryKind, id: &[u8]) -> Self {
        let mut key = Domain::StateKey.hash(&[&[kind as u8], id]).0;
        // Anybody may send tokens to any address, and must not take the place of a receipt.
        if let Some(reserved) = key.first_chunk_mut::<{ Address::RESERVED_BYTES }>() {
            *reserved = [0; Address::RESERVED_BYTES];
        }
        Self(key)
    }

    /// An account's key is its address: already a hash.
    #[must_use]
    pub const fn account(address: &Address) -> Self {
        Self(address.0)
    }

    /// Key of a claimed receipt.
    #[must_use]
    pub fn receipt(receipt_id: &str) -> Self {
        Self::derived(EntryKind::Receipt, receipt_id.as_bytes())
    }

    /// Key of a claimed job.
    #[must_use]
    pub fn job(job_id: &str) -> Self {
        Self::derived(EntryKind::Job, job_id.as_bytes())
    }

    /// Key of the supply.
    #[must_use]
    pub fn supply() -> Self {
        Self::derived(EntryKind::Supply, b"")
    }

    /// Key of the parameters and roles.
    #[must_use]
    pub fn settings() -> Self {
        Self::derived(EntryKind::Settings, b"")
    }

    /// Key of the validator set.
    #[must_use]
    pub fn validators() -> Self {
        Self::derived(EntryKind::Validators, b"")
    }

    /// Key of a coordinator.
    #[must_use]
    pub fn coordinator(public_key: &PublicKey) -> Self {
        Self::derived(EntryKind::Coordinator, &public_key.0)
    }

    /// Key of a provider name.
    #[must_use]
    pub fn provider(name: &str) -> Self {
        Self::derived(EntryKind::Provider, name.as_bytes())
    }
}

/// Encoded value of an entry. No kind without a fixed 24-byte form has an encoding
/// of 24 bytes, so that the length tells the two apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// One of exactly 24 bytes.
    Inline([u8; Self::INLINE_BYTES]),
    /// One of any other length.
    Long(Box<[u8]>),
}

impl Value {
    /// Length of an inline value: with key and link it fills one hash block.
    pub const INLINE_BYTES: usize = 24;
    /// Value of the sentinel.
    pub const SENTINEL: Self = Self::Inline([0; Self::INLINE_BYTES]);

    /// The value in these bytes.
    ///
    /// # Errors
    /// [`DecodeError::TooLarge`] over the bound.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > STATE_VALUE_BYTES_MAX {
            let (found, max) = (bytes.len() as u64, STATE_VALUE_BYTES_MAX as u64);
            return Err(DecodeError::TooLarge { what: "state value length", found, max });
        }
        Ok(match bytes.try_into() {
            Ok(inline) => Self::Inline(inline),
            Err(_) => Self::Long(bytes.into()),
        })
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Inline(bytes) => bytes,
            Self::Long(bytes) => bytes,
        }
    }

    fn inline(kind: EntryKind, first: u64, second: u64) -> Self {
        let mut bytes = [0; Self::INLINE_BYTES];
        bytes[0] = kind as u8;
        bytes[8..16].copy_from_slice(&first.to_le_bytes());
        bytes[16..].copy_from_slice(&second.to_le_bytes());
        Self::Inline(bytes)
    }

    fn integers(&self, kind: EntryKind, what: &'static str) -> Result<(u64, u64), DecodeError> {
        let mut reader = Reader::new(self.as_bytes());
        if reader.array()? != [kind as u8, 0, 0, 0, 0, 0, 0, 0] {
            return Err(DecodeError::Invalid { what });
        }
        let integers = (reader.u64()?, reader.u64()?);
        reader.finish()?;
        Ok(integers)
    }

    /// A value of any length: the kind and the canonical encoding of what it holds.
    #[must_use]
    pub fn encoded(kind: EntryKind, object: &impl Canonical) -> Self {
        let mut bytes = vec![kind as u8];
        object.encode_to(&mut bytes);
        Self::Long(bytes.into())
    }

    /// Reads a value of this kind.
    ///
    /// # Errors
    /// [`DecodeError`] if it is another kind or not canonical.
    pub fn decode<T: Canonical>(&self, kind: EntryKind) -> Result<T, DecodeError> {
        let mut reader = Reader::new(self.as_bytes());
        reader.tag("state entry kind", kind as u8)?;
        let object = T::decode_from(&mut reader)?;
        reader.finish()?;
        Ok(object)
    }

    /// A claimed receipt: the height of the claim and what was minted in all.
    #[must_use]
    pub fn receipt(height: Height, minted: Amount) -> Self {
        Self::inline(EntryKind::Receipt, height.get(), minted.get())
    }

    /// Reads a claimed receipt: the height of the claim and what was minted in all.
    ///
    /// # Errors
    /// [`DecodeError`] if it is another kind or out of bounds.
    pub fn as_receipt(&self) -> Result<(Height, Amount), DecodeError> {
        let what = "receipt entry";
        let (height, minted) = self.integers(EntryKind::Receipt, what)?;
        let read = Height::new(height).zip(Amount::new(minted));
        read.ok_or(DecodeError::Invalid { what })
    }

    /// A claimed job: the height of the claim.
    #[must_use]
    pub fn job(height: Height) -> Self {
        Self::inline(EntryKind::Job, height.get(), 0)
    }
}

/// A leaf of the state tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Key of the entry.
    pub key: Key,
    /// Number of the entry with the next greater key; 0 after the greatest.
    pub next: u64,
    /// Value of the entry.
    pub value: Value,
}

impl Leaf {
    /// The leaf of number 0 in a state without other entries.
    pub const SENTINEL: Self = Self { key: Key::SENTINEL, next: 0, value: Value::SENTINEL };

    /// Hash of key, next number and value.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Domain::StateLeaf.hash(&[&self.key.0, &self.next.to_le_bytes(), self.value.as_bytes()])
    }

    /// The one 64-byte block of a leaf with an inline value.
    #[must_use]
    pub fn inline_block(&self) -> Option<[u8; 64]> {
        let Value::Inline(value) = &self.value else { return None };
        let mut block = [0; 64];
        block[..32].copy_from_slice(&self.key.0);
        block[32..40].copy_from_slice(&self.next.to_le_bytes());
        block[40..].copy_from_slice(value);
        Some(block)
    }
}

/// An account: what it holds and the nonce that it uses next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Account {
    /// Base units it holds.
    pub balance: Amount,
    /// Nonce of its next transaction.
    pub nonce: Nonce,
}

impl From<Account> for Value {
    fn from(account: Account) -> Self {
        Self::inline(EntryKind::Account, account.balance.get(), account.nonce.get())
    }
}

impl TryFrom<&Value> for Account {
    type Error = DecodeError;

    fn try_from(value: &Value) -> Result<Self, DecodeError> {
        let (balance, nonce) = value.integers(EntryKind::Account, "account entry")?;
        let balance =
            Amount::new(balance).ok_or(DecodeError::Invalid { what: "account balance" })?;
        Ok(Self { balance, nonce: Nonce::saturating(nonce) })
    }
}

/// The supply: what exists and what was minted after genesis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Supply {
    /// Sum of all balances.
    pub total: Amount,
    /// How much of it was minted since genesis.
    pub minted: Amount,
}

impl From<Supply> for Value {
    fn from(supply: Supply) -> Self {
        Self::inline(EntryKind::Supply, supply.total.get(), supply.minted.get())
    }
}

impl TryFrom<&Value> for Supply {
    type Error = DecodeError;

    fn try_from(value: &Value) -> Result<Self, DecodeError> {
        let (total, minted) = value.integers(EntryKind::Supply, "supply entry")?;
        let amount = |v| Amount::new(v).ok_or(DecodeError::Invalid { what: "supply" });
        Ok(Self { total: amount(total)?, minted: amount(minted)? })
    }
}

/// A coordinator that may attest receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coordinator {
    /// Account that receives its share.
    pub payout: Address,
    /// Whether its attestations count.
    pub active: bool,
}

impl Canonical for Coordinator {
    fn encode_to(&self, out: &mut Vec<u8>) {
        out.put(&self.payout.0);
        out.put_u8(u8::from(self.active));
    }

    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { payout: reader.address()?, active: reader.flag("coordinator active flag")? })
    }
}

/// Who a provider name is, and the key that signs its receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Provider {
    /// The account that may claim and is paid.
    pub account: Address,
    /// The key that must have signed a receipt.
    pub receipt_key: PublicKey,
}

impl Canonical for Provider {
    fn encode_to(&self, out: &mut Vec<u8>) {
        out.put(&self.account.0);
        out.put(&self.receipt_key.0);
    }

    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { account: reader.address()?, receipt_key: PublicKey(reader.array()?) })
    }
}
