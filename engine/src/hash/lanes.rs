//! The compression function of sixteen hashes at once, each with a state, a block and a length
//! of its own. The library hashes many inputs at once only where all blocks are full, and so
//! the last block of each alone, which takes ten times as long.
//!
//! Source: BLAKE3 paper, section 2.2. Equal to the library's, as the tests compare.

#![allow(
    unsafe_code,
    reason = "the instructions are called once the machine is known to have them"
)]
#![allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::needless_range_loop,
    reason = "arrays of fixed size, words and lanes by number"
)]

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_ror_epi32, _mm512_set1_epi32, _mm512_xor_si512,
};

use super::chunk::PLAIN_KEY;

pub(super) const LANES: usize = 16;

/// Which word of the block each round takes in which place.
const SCHEDULE: [[usize; 16]; 7] = {
    const PERMUTATION: [usize; 16] = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8];
    let mut rounds = [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]; 7];
    let mut round = 1;
    while round < 7 {
        let mut at = 0;
        while at < 16 {
            rounds[round][at] = rounds[round - 1][PERMUTATION[at]];
            at += 1;
        }
        round += 1;
    }
    rounds
};

/// Columns, then diagonals.
const MIXED: [[usize; 4]; 8] = [
    [0, 4, 8, 12],
    [1, 5, 9, 13],
    [2, 6, 10, 14],
    [3, 7, 11, 15],
    [0, 5, 10, 15],
    [1, 6, 11, 12],
    [2, 7, 8, 13],
    [3, 4, 9, 14],
];

/// Whether this machine has the instructions.
pub(super) fn are_available() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
}

/// Compresses a block of this length into each state, as block 0 of its input; false, and
/// nothing done, if this machine does not have the instructions.
pub(super) fn compress(
    states: &mut [[u32; 8]; LANES],
    blocks: &[[u8; 64]; LANES],
    lengths: &[u8; LANES],
    flags: u8,
) -> bool {
    if are_available() {
        // SAFETY: the machine has the instructions.
        unsafe { compress_all(states, blocks, lengths, flags) }
        return true;
    }
    false
}

#[target_feature(enable = "avx512f")]
fn compress_all(
    states: &mut [[u32; 8]; LANES],
    blocks: &[[u8; 64]; LANES],
    lengths: &[u8; LANES],
    flags: u8,
) {
    let mut words = [[0; LANES]; 16];
    let mut chained = [[0; LANES]; 8];
    for lane in 0..LANES {
        let (block, _) = blocks[lane].as_chunks::<4>();
        for at in 0..16 {
            words[at][lane] = u32::from_le_bytes(block[at]);
        }
        for at in 0..8 {
            chained[at][lane] = states[lane][at];
        }
    }
    let words = words.map(vector_of);
    let splat = |word: u32| _mm512_set1_epi32(word.cast_signed());
    let [a, b, c, d, e, f, g, h] = chained.map(vector_of);
    let [i, j, k, l, ..] = PLAIN_KEY.map(splat);
    let lengths = vector_of(lengths.map(u32::from));
    // A counter of 0 has two words of zeros.
    let mut v =
        [a, b, c, d, e, f, g, h, i, j, k, l, splat(0), splat(0), lengths, splat(flags.into())];
    for round in 0..7 {
        for (mixed, pair) in MIXED.iter().zip(SCHEDULE[round].as_chunks::<2>().0) {
            let [a, b, c, d] = *mixed;
            let [x, y] = [words[pair[0]], words[pair[1]]];
            v[a] = _mm512_add_epi32(_mm512_add_epi32(v[a], v[b]), x);
            v[d] = _mm512_ror_epi32::<16>(_mm512_xor_si512(v[d], v[a]));
            v[c] = _mm512_add_epi32(v[c], v[d]);
            v[b] = _mm512_ror_epi32::<12>(_mm512_xor_si512(v[b], v[c]));
            v[a] = _mm512_add_epi32(_mm512_add_epi32(v[a], v[b]), y);
            v[d] = _mm512_ror_epi32::<8>(_mm512_xor_si512(v[d], v[a]));
            v[c] = _mm512_add_epi32(v[c], v[d]);
            v[b] = _mm512_ror_epi32::<7>(_mm512_xor_si512(v[b], v[c]));
        }
    }
    for at in 0..8 {
        let lanes = lanes_of(_mm512_xor_si512(v[at], v[at + 8]));
        for lane in 0..LANES {
            states[lane][at] = lanes[lane];
        }
    }
}

fn vector_of(lanes: [u32; LANES]) -> __m512i {
    // SAFETY: both are 64 bytes of numbers, and any bytes are valid numbers.
    unsafe { std::mem::transmute(lanes) }
}

fn lanes_of(vector: __m512i) -> [u32; LANES] {
    // SAFETY: as above.
    unsafe { std::mem::transmute(vector) }
}

#[cfg(test)]
mod tests {
    use blake3::platform::Platform;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn compresses_as_the_library_does(
            states: [[u32; 8]; LANES],
            blocks in prop::array::uniform16(prop::array::uniform32(any::<u16>())),
            lengths in prop::array::uniform16(0_u8..=64),
            flags in 0_u8..128,
        ) {
            let blocks = blocks.map(|words| {
                let mut block = [0; 64];
                for (place, word) in block.as_chunks_mut().0.iter_mut().zip(words) {
                    *place = word.to_le_bytes();
                }
                block
            });
            let mut found = states;
            prop_assert_eq!(compress(&mut found, &blocks, &lengths, flags), are_available());
            let mut expected = states;
            if are_available() {
                for lane in 0..LANES {
                    let (state, block) = (&mut expected[lane], &blocks[lane]);
                    Platform::detect().compress_in_place(state, block, lengths[lane], 0, flags);
                }
            }
            prop_assert_eq!(found, expected);
        }
    }
}
