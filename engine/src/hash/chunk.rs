//! The hash of a short input without the library's hasher, whose 2 kB of state take longer
//! to set up than an input of two or three blocks takes to hash.
//!
//! Equal, byte for byte, to the public interface, as the tests compare: an input of at most
//! one chunk is hashed by a chain of compressions (BLAKE3 paper, section 2.1 to 2.3). See
//! [`super::many`] on the module that this uses.

use std::sync::LazyLock;

use blake3::hazmat::ContextKey;
use blake3::platform::{Platform, le_bytes_from_words_32, words_from_le_bytes_32};
use blake3::{BLOCK_LEN, CHUNK_LEN};

use crate::types::Hash;

pub(super) const CHUNK_START: u8 = 1 << 0;
pub(super) const CHUNK_END: u8 = 1 << 1;
pub(super) const ROOT: u8 = 1 << 3;
pub(super) const DERIVE_KEY_MATERIAL: u8 = 1 << 6;

static PLATFORM: LazyLock<Platform> = LazyLock::new(Platform::detect);

/// Hash of the concatenated parts under a derive-key context; none if they are longer than
/// a chunk.
pub(super) fn hash(key: &ContextKey, parts: &[&[u8]]) -> Option<Hash> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    if length > CHUNK_LEN {
        return None;
    }
    let mut chunk = [0; CHUNK_LEN];
    let mut rest = &mut chunk[..];
    for part in parts {
        let (place, after) = rest.split_at_mut(part.len());
        place.copy_from_slice(part);
        rest = after;
    }
    let blocks = length.div_ceil(BLOCK_LEN).max(1);
    let mut state = words_from_le_bytes_32(key);
    let mut left = length;
    for (at, block) in chunk.as_chunks::<BLOCK_LEN>().0.iter().take(blocks).enumerate() {
        let mut flags = DERIVE_KEY_MATERIAL;
        if at == 0 {
            flags |= CHUNK_START;
        }
        if left <= BLOCK_LEN {
            flags |= CHUNK_END | ROOT;
        }
        let bytes = left.min(BLOCK_LEN);
        PLATFORM.compress_in_place(&mut state, block, u8::try_from(bytes).ok()?, 0, flags);
        left = left.saturating_sub(BLOCK_LEN);
    }
    Some(Hash(le_bytes_from_words_32(&state)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use blake3::hazmat::hash_derive_key_context;

    #[test]
    fn equals_the_public_interface_for_every_length_and_split() {
        let bytes: Vec<u8> = (0..1_100_u32).map(|n| n.to_le_bytes()[0]).collect();
        for context in ["one", "another"] {
            let key = hash_derive_key_context(context);
            for length in 0..bytes.len() {
                let input = &bytes[..length];
                let mut hasher = blake3::Hasher::new_derive_key(context);
                hasher.update(input);
                let (left, right) = input.split_at(length / 3);
                let found = super::hash(&key, &[left, right]);
                assert_eq!(found.is_some(), length <= 1_024);
                if let Some(found) = found {
                    assert_eq!(found.0, *hasher.finalize().as_bytes(), "{length}");
                }
            }
        }
    }
}
