//! How the mempool's tables find addresses and hashes of transactions.
//!
//! Both are hashes already, of which whoever grinds them can choose a few bits. A product with
//! a secret spreads them as well as a hash that takes any bytes, in a tenth of its time.

use std::hash::{BuildHasher, Hasher, RandomState};

/// What nobody else knows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Secret(u64, u64);

impl Default for Secret {
    fn default() -> Self {
        let random = RandomState::new();
        // An even factor would lose a bit.
        Self(random.hash_one(0), random.hash_one(1) | 1)
    }
}

impl BuildHasher for Secret {
    type Hasher = KeyHasher;

    fn build_hasher(&self) -> KeyHasher {
        KeyHasher { secret: *self, hash: 0 }
    }
}

/// Takes the last bytes of a key: those before may be chosen.
#[derive(Debug)]
pub(super) struct KeyHasher {
    secret: Secret,
    hash: u64,
}

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        let word = bytes.last_chunk().map_or(0, |word| u64::from_le_bytes(*word));
        let Secret(mask, factor) = self.secret;
        let product = u128::from(word ^ self.hash ^ mask) * u128::from(factor);
        // Both halves, of which one has mixed the upper bits and one the lower.
        let [low, high] = [product, product >> 64].map(|half| half & u128::from(u64::MAX));
        self.hash = u64::try_from(low ^ high).unwrap_or_default();
    }

    /// The length, which is the same for all.
    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.hash
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ait_engine::types::Address;

    use super::*;

    #[test]
    fn spreads_keys_that_differ_in_any_bits_of_their_last_bytes() {
        // The first digits of pi: of all secrets a few spread some keys less well.
        let secret = Secret(0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7345);
        for shift in [0, 8, 24, 48] {
            let hashes: Vec<u64> = (0..4_096_u64)
                .map(|n| {
                    let mut key = [7; 32];
                    key[24..].copy_from_slice(&(n << shift).to_le_bytes());
                    secret.hash_one(Address(key))
                })
                .collect();
            // A table takes its place from the lower bits and its mark from the upper seven.
            for part in [|hash: u64| hash % 4_096, |hash: u64| hash >> 57] {
                let parts: BTreeSet<u64> = hashes.iter().map(|hash| part(*hash)).collect();
                assert!(parts.len() > 100, "{} at {shift}", parts.len());
            }
        }
    }
}
