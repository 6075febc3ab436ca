//! Ed25519 keys and signatures by the rule of ZIP-215.
//!
//! A replicated state machine must accept exactly the same signatures one by one, in
//! batches, and in every version: the equation is the cofactored one of ZIP-215,
//! `s` must be canonical, keys and `R` may be any encoding of a point.
//! Source: ZIP-215, "Explicitly Defining and Modifying Ed25519 Validation Rules".
//!
//! No randomness here: a batch's coefficients are hashed from the batch.

mod batch;
mod cache;
#[cfg(target_arch = "x86_64")]
mod lanes;

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

pub use batch::{Item, verify_batch, verify_batch_by_library};
pub use cache::KeyCache;

use crate::hash::Domain;
use crate::types::{Address, hash_type};

/// Tag of the only signature scheme so far, in addresses and encodings.
pub const SCHEME_ED25519: u8 = 1;

hash_type!(
    /// An Ed25519 public key: 32 bytes that may or may not be the encoding of a point.
    PublicKey
);

impl PublicKey {
    /// The address of the key's account.
    #[must_use]
    pub fn address(&self) -> Address {
        Address(Domain::Address.hash(&[&[SCHEME_ED25519], &self.0]).0)
    }

    /// The address of each key's account, in order, many hashed at once.
    pub(crate) fn addresses<'a>(keys: impl IntoIterator<Item = &'a Self>) -> Vec<Address> {
        let (hashes, _) = Domain::Address.hash_items(keys, |key, out| {
            out.push(SCHEME_ED25519);
            out.extend(key.0);
        });
        hashes.into_iter().map(|hash| Address(hash.0)).collect()
    }

    fn point(&self) -> Option<EdwardsPoint> {
        CompressedEdwardsY(self.0).decompress()
    }
}

/// An Ed25519 signature: the encoding of `R`, then `s`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

/// A text that is not 64 bytes of hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 0x and 128 hex digits")]
pub struct ParseSignatureError;

impl Signature {
    /// The encoding of `R`, or what stands in its place.
    fn r(&self) -> CompressedEdwardsY {
        CompressedEdwardsY(self.0.first_chunk().copied().unwrap_or_default())
    }

    /// `s`, if it is canonical.
    fn s(&self) -> Option<Scalar> {
        Scalar::from_canonical_bytes(*self.0.last_chunk()?).into_option()
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::types::write_hex::<128>(f, &self.0)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({self})")
    }
}

impl FromStr for Signature {
    type Err = ParseSignatureError;

    fn from_str(text: &str) -> Result<Self, ParseSignatureError> {
        crate::types::read_hex(text).map(Self).ok_or(ParseSignatureError)
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A secret key. Wiped from memory when dropped; never shown by `Debug`.
pub struct SecretKey(ed25519_dalek::SigningKey);

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public_key())
    }
}

impl SecretKey {
    /// The key of this 32-byte seed (RFC 8032, section 5.1.5).
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let seed = Zeroizing::new(seed);
        Self(ed25519_dalek::SigningKey::from_bytes(&seed))
    }

    /// The seed: whoever has it has the account.
    #[must_use]
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs a message; the same message gives the same signature.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        use ed25519_dalek::Signer as _;
        Signature(self.0.sign(message).to_bytes())
    }
}

/// A signature that does not verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct SignatureError;

/// The challenge `k`: SHA-512 of `R`, key and message as they are encoded.
fn challenge(r: &CompressedEdwardsY, key: &PublicKey, message: &[u8]) -> Scalar {
    let mut hash = Sha512::new();
    hash.update(r.0);
    hash.update(key.0);
    hash.update(message);
    Scalar::from_bytes_mod_order_wide(&hash.finalize().into())
}

/// Whether `8 (s B - R - k A)` is the identity, A being the point of the key.
fn holds(negated_key: &EdwardsPoint, k: &Scalar, r: &EdwardsPoint, s: &Scalar) -> bool {
    let expected = EdwardsPoint::vartime_double_scalar_mul_basepoint(k, negated_key, s);
    (expected - r).mul_by_cofactor().is_identity()
}

/// Verifies one signature.
///
/// # Errors
/// [`SignatureError`] if it is not one that ZIP-215 accepts.
pub fn verify(
    key: &PublicKey,
    message: &[u8],
    signature: &Signature,
) -> Result<(), SignatureError> {
    let point = key.point().ok_or(SignatureError)?;
    let (r, s) = (signature.r(), signature.s().ok_or(SignatureError)?);
    let k = challenge(&r, key, message);
    let r = r.decompress().ok_or(SignatureError)?;
    if holds(&-point, &k, &r, &s) { Ok(()) } else { Err(SignatureError) }
}
