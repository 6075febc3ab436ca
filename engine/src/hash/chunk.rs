//! The hash of a short input without the library's hasher, whose 2 kB of state take longer
//! to set up than an input of two or three blocks takes to hash.
//!
//! Equal, byte for byte, to the public interface, as the tests compare: an input of at most
//! one chunk is hashed by a chain of compressions (BLAKE3 paper, section 2.1 to 2.3). See
//! [`super::many`] on the module that this uses.

use std::sync::LazyLock;

use blake3::hazmat::ContextKey;
use blake3::platform::{Platform, le_bytes_from_words_32, words_from_le_bytes_32};
use blake3::{BLOCK_LEN, CHUNK_LEN, IncrementCounter};

use crate::types::Hash;

pub(super) const CHUNK_START: u8 = 1 << 0;
pub(super) const CHUNK_END: u8 = 1 << 1;
pub(super) const ROOT: u8 = 1 << 3;
pub(super) const DERIVE_KEY_MATERIAL: u8 = 1 << 6;

static PLATFORM: LazyLock<Platform> = LazyLock::new(Platform::detect);

/// Inputs that are begun together: enough for every lane, small enough for the stack.
const BATCH: usize = 16;

/// The words that a hash without a key begins with, which are those of SHA-256.
pub(super) const PLAIN_KEY: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// What BLAKE3's modes differ in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mode {
    key: [u32; 8],
    flags: u8,
}

impl Mode {
    /// The hash without a key.
    pub(super) const PLAIN: Self = Self { key: PLAIN_KEY, flags: 0 };

    /// The hash under the key of a derive-key context.
    pub(super) fn derived(key: &ContextKey) -> Self {
        Self { key: words_from_le_bytes_32(key), flags: DERIVE_KEY_MATERIAL }
    }
}

/// Hash of the concatenated parts; none if they are longer than a chunk.
pub(super) fn hash(mode: Mode, parts: &[&[u8]]) -> Option<Hash> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    if length > CHUNK_LEN {
        return None;
    }
    let mut state = mode.key;
    let mut flags = mode.flags | CHUNK_START;
    let (mut block, mut filled) = ([0; BLOCK_LEN], 0_usize);
    for part in parts {
        let mut rest = *part;
        while !rest.is_empty() {
            // The last block is the one that ends the chunk, even if it is full.
            if filled == BLOCK_LEN {
                compress(&mut state, &block, BLOCK_LEN, flags);
                flags = mode.flags;
                (block, filled) = ([0; BLOCK_LEN], 0);
            }
            let (_, room) = block.split_at_mut(filled);
            let (now, later) = rest.split_at(rest.len().min(room.len()));
            let (place, _) = room.split_at_mut(now.len());
            place.copy_from_slice(now);
            (filled, rest) = (filled.saturating_add(now.len()), later);
        }
    }
    compress(&mut state, &block, filled, flags | CHUNK_END | ROOT);
    Some(Hash(le_bytes_from_words_32(&state)))
}

fn compress(state: &mut [u32; 8], block: &[u8; BLOCK_LEN], length: usize, flags: u8) {
    // A block's length fits into a byte.
    let length = u8::try_from(length).unwrap_or(u8::MAX);
    PLATFORM.compress_in_place(state, block, length, 0, flags);
}

/// Blocks before the last one of an input.
const fn blocks_before_last(input: &[u8]) -> usize {
    input.len().saturating_sub(1) / BLOCK_LEN
}

/// The hash of each input, in order, neighbours of about the same length together. `alone` hashes
/// an input of any length.
pub(super) fn hash_each(mode: Mode, inputs: &[&[u8]], alone: impl Fn(&[u8]) -> Hash) -> Vec<Hash> {
    let mut hashes = Vec::with_capacity(inputs.len());
    let out = &mut hashes;
    for alike in inputs.chunk_by(|a, b| blocks_before_last(a) == blocks_before_last(b)) {
        for batch in alike.chunks(BATCH) {
            match batch.first().map_or(0, |input| blocks_before_last(input)) {
                0 => hash_last(mode, [mode.key; BATCH], batch, CHUNK_START, out),
                1 => hash_alike::<BLOCK_LEN>(mode, batch, out),
                2 => hash_alike::<{ 2 * BLOCK_LEN }>(mode, batch, out),
                3 => hash_alike::<{ 3 * BLOCK_LEN }>(mode, batch, out),
                _ => out.extend(batch.iter().map(|input| alone(input))),
            }
        }
    }
    hashes
}

/// As [`hash_each`] for a batch of inputs of `N` bytes and a last block each.
fn hash_alike<const N: usize>(mode: Mode, batch: &[&[u8]], out: &mut Vec<Hash>) {
    let zero = [0; N];
    let mut begins = [&zero; BATCH];
    let mut lasts: [&[u8]; BATCH] = [&[]; BATCH];
    for ((begin, last), input) in begins.iter_mut().zip(&mut lasts).zip(batch) {
        (*begin, *last) = input.split_first_chunk().unwrap_or((&zero, &[]));
    }
    let mut states = [[0; 32]; BATCH];
    PLATFORM.hash_many(
        begins.get(..batch.len()).unwrap_or(&begins),
        &mode.key,
        0,
        IncrementCounter::No,
        mode.flags,
        CHUNK_START,
        0,
        states.as_flattened_mut(),
    );
    let states = states.map(|state| words_from_le_bytes_32(&state));
    hash_last(mode, states, lasts.get(..batch.len()).unwrap_or(&lasts), 0, out);
}

/// Ends a batch of inputs, each of which came to its state, by its last block.
fn hash_last(
    mode: Mode,
    mut states: [[u32; 8]; BATCH],
    lasts: &[&[u8]],
    flags: u8,
    out: &mut Vec<Hash>,
) {
    let (mut blocks, mut lengths) = ([[0; BLOCK_LEN]; BATCH], [0; BATCH]);
    for ((block, length), last) in blocks.iter_mut().zip(&mut lengths).zip(lasts) {
        if let Some(place) = block.get_mut(..last.len()) {
            place.copy_from_slice(last);
        }
        // A block's length fits into a byte.
        *length = u8::try_from(last.len()).unwrap_or(u8::MAX);
    }
    let flags = mode.flags | flags | CHUNK_END | ROOT;
    if !compress_together(&mut states, &blocks, &lengths, flags, lasts.len()) {
        for ((state, block), last) in states.iter_mut().zip(&blocks).zip(lasts) {
            compress(state, block, last.len(), flags);
        }
    }
    out.extend(states.iter().take(lasts.len()).map(|state| Hash(le_bytes_from_words_32(state))));
}

/// Compresses all at once, if this machine can and there are enough of them to gain by it.
#[cfg(target_arch = "x86_64")]
fn compress_together(
    states: &mut [[u32; 8]; BATCH],
    blocks: &[[u8; BLOCK_LEN]; BATCH],
    lengths: &[u8; BATCH],
    flags: u8,
    count: usize,
) -> bool {
    const COUNT_MIN: usize = 3;
    count >= COUNT_MIN && super::lanes::compress(states, blocks, lengths, flags)
}

#[cfg(not(target_arch = "x86_64"))]
fn compress_together(
    _: &mut [[u32; 8]; BATCH],
    _: &[[u8; BLOCK_LEN]; BATCH],
    _: &[u8; BATCH],
    _: u8,
    _: usize,
) -> bool {
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use blake3::hazmat::hash_derive_key_context;

    use crate::hash::{Domain, plain_hash_each};

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
                let found = super::hash(super::Mode::derived(&key), &[left, right]);
                assert_eq!(found.is_some(), length <= 1_024);
                if let Some(found) = found {
                    assert_eq!(found.0, *hasher.finalize().as_bytes(), "{length}");
                }
            }
        }
    }

    #[test]
    fn many_of_any_lengths_are_hashed_as_each_alone() {
        let bytes: Vec<u8> = (0..4_000_u32).map(|n| (n * 7 % 251).to_le_bytes()[0]).collect();
        let edges = [0, 1, 63, 64, 65, 127, 128, 129, 191, 192, 193, 255, 256, 257, 1_024, 1_025];
        let each = 0..1_100;
        let in_turn = edges.into_iter().cycle().take(100);
        let alike = edges.into_iter().flat_map(|length| std::iter::repeat_n(length, 37));
        // Batches of every size, of lengths that have as many blocks.
        let sizes =
            (1..18).flat_map(|size| [1, 64, 33].into_iter().cycle().take(size).chain([900]));
        let lengths = each.chain(in_turn).chain(alike).chain(sizes);
        let inputs: Vec<&[u8]> =
            lengths.enumerate().map(|(at, length)| &bytes[at..at + length]).collect();
        for domain in [Domain::ListLeaf, Domain::Transaction] {
            let alone = inputs.iter().map(|input| {
                let mut hasher = domain.hasher();
                hasher.update(input);
                *hasher.finalize().as_bytes()
            });
            assert!(domain.hash_each(&inputs).iter().map(|hash| hash.0).eq(alone));
        }
        let alone = inputs.iter().map(|input| *blake3::hash(input).as_bytes());
        assert!(plain_hash_each(&inputs).iter().map(|hash| hash.0).eq(alone));
    }
}
