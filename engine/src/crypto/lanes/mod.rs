//! Batches by the AVX-512 instructions for integers of 52 bits (IFMA), eight numbers at a time.
//!
//! Most of a batched verification is the decompression of points, one long chain of squares each:
//! eight are done at once here. The library that verifies elsewhere does not offer that, nor takes
//! points that it did not decompress, so that their sum is made here, too.
//!
//! What is accepted here is what the library accepts: a batch is good if the same sum is the
//! identity. What is *not* accepted here, the library decides, signature by signature.

#![allow(
    unsafe_code,
    reason = "the instructions are called once the machine is known to have them"
)]
#![allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::needless_range_loop,
    reason = "arrays of fixed size, limbs and lanes by number; what could overflow says why it does not"
)]

mod field;
mod point;
mod sum;

#[cfg(test)]
mod tests;

use std::arch::x86_64::__m512i;
use std::sync::LazyLock;

use curve25519_dalek::constants::ED25519_BASEPOINT_COMPRESSED;
use curve25519_dalek::scalar::Scalar;

use super::batch::{Arithmetic, Equation, Item, find_bad};
use super::{SecretKey, Signature, verify};
use field::LANES;
use point::Addends;
use sum::{Stored, Term};

/// Whether this machine has the instructions.
pub(super) fn are_available() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512dq")
        && std::arch::is_x86_feature_detected!("avx512ifma")
}

/// Sums made eight lanes at a time, on a machine that has the instructions.
pub(super) struct Lanes(());

/// Whether the instructions are there and do what they should.
static ARE_GOOD: LazyLock<bool> = LazyLock::new(|| are_available() && Lanes(()).is_good());

/// The curve's base point, decompressed once.
static BASE_POINT: LazyLock<Option<Stored>> = LazyLock::new(|| {
    // SAFETY: the machine has the instructions.
    let points =
        are_available().then(|| unsafe { decompressed(&[ED25519_BASEPOINT_COMPRESSED.0]) });
    points?.into_iter().next()?
});

impl Lanes {
    /// None if this machine does not have the instructions, or they do not do what they should.
    pub(super) fn new() -> Option<Self> {
        ARE_GOOD.then_some(Self(()))
    }

    /// Tries a good batch, and one whose faults cancel if its coefficients do nothing.
    fn is_good(&self) -> bool {
        const COUNT: u8 = 8;
        let message = b"signed to be tried";
        let mut items: Vec<Item<'_>> = (0..COUNT)
            .map(|n| SecretKey::from_seed([n; 32]))
            .map(|key| (key.public_key(), message.as_slice(), key.sign(message)))
            .collect();
        let sums = |items: &[Item<'_>]| {
            let (bad, work) = find_bad(items, self);
            (bad, work.sums == 1 && work.single == 0)
        };
        let good = sums(&items) == (Vec::new(), true);
        let changes = [Scalar::ONE, -Scalar::ONE];
        for ((.., signature), change) in items.iter_mut().zip(changes) {
            let s = signature.s().unwrap_or_default() + change;
            let (r, _) = signature.0.split_at(32);
            let bytes = [r, s.as_bytes()].concat().try_into();
            *signature = Signature(bytes.unwrap_or([0; 64]));
        }
        good && sums(&items) == (vec![0, 1], false)
    }
}

/// Key and `R` of a signature.
pub(super) struct KeyAndR {
    key: Stored,
    r: Stored,
}

impl Arithmetic for Lanes {
    type Points = KeyAndR;
    /// None if a scalar was too large for its windows: no such sum is ever good.
    type Sum = Option<point::Points>;
    // An equation takes 84 multiplications of vectors, a sum of few of them 3,300 besides.
    const SUMMED_PER_SINGLE: usize = 16;
    const SUMMED_PER_SUM: usize = 39;

    fn points(&self, items: &[Item<'_>]) -> Vec<Option<KeyAndR>> {
        let encodings: Vec<[u8; 32]> =
            items.iter().flat_map(|(key, _, signature)| [key.0, signature.r().0]).collect();
        // SAFETY: a value of this type says that the machine has the instructions.
        let points = unsafe { decompressed(&encodings) };
        let (pairs, _) = points.as_chunks::<2>();
        pairs.iter().map(|[key, r]| Some(KeyAndR { key: (*key)?, r: (*r)? })).collect()
    }

    fn sum(&self, equations: &[Equation<KeyAndR>]) -> Option<point::Points> {
        let base: Scalar = equations.iter().map(|e| e.s * e.z).sum();
        let base_point = BASE_POINT.as_ref()?;
        let key_terms = equations.iter().map(|e| (&e.points.key, e.k * e.z));
        let term = |(point, scalar): (_, Scalar)| Term { point, scalar: scalar.to_bytes() };
        let long: Vec<_> =
            std::iter::once((base_point, -base)).chain(key_terms).map(term).collect();
        let short: Vec<_> = equations.iter().map(|e| term((&e.points.r, e.z))).collect();
        // SAFETY: as above.
        unsafe { sum::sum(&long, &short) }
    }

    fn difference(&self, whole: &Self::Sum, part: &Self::Sum) -> Self::Sum {
        let (whole, part) = whole.as_ref().zip(part.as_ref())?;
        // SAFETY: as above.
        Some(unsafe { difference(whole, part) })
    }

    fn is_of_small_order(&self, sum: &Self::Sum) -> bool {
        // SAFETY: as above.
        sum.as_ref().is_some_and(|sum| unsafe { is_of_small_order(sum) })
    }

    fn holds(&self, _: &Equation<KeyAndR>, (key, message, signature): &Item<'_>) -> bool {
        verify(key, message, signature).is_ok()
    }

    fn holds_without_points(&self, (key, message, signature): &Item<'_>) -> bool {
        verify(key, message, signature).is_ok()
    }
}

/// The points that the encodings are of, if they are.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn decompressed(encodings: &[[u8; 32]]) -> Vec<Option<Stored>> {
    let mut points = Vec::with_capacity(encodings.len());
    for chunk in encodings.chunks(LANES) {
        let mut eight = [ED25519_BASEPOINT_COMPRESSED.0; LANES];
        eight[..chunk.len()].copy_from_slice(chunk);
        let (addends, valid) = Addends::decompress(&eight);
        let mut stored = [Stored([0; 20]); LANES];
        for (at, field) in [addends.y_plus_x, addends.y_minus_x, addends.xy2d, addends.xy2d.neg()]
            .iter()
            .enumerate()
        {
            for (i, limb) in field.0.iter().enumerate() {
                for (lane, value) in lanes_of(*limb).into_iter().enumerate() {
                    stored[lane].0[at * field.0.len() + i] = value;
                }
            }
        }
        let lanes = stored.iter().take(chunk.len()).enumerate();
        points.extend(lanes.map(|(lane, point)| (valid >> lane & 1 == 1).then_some(*point)));
    }
    points
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn difference(whole: &point::Points, part: &point::Points) -> point::Points {
    whole.plus(&part.neg())
}

/// Whether eight times the sum in the lowest lane is the identity.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn is_of_small_order(sum: &point::Points) -> bool {
    sum.doubled(3).identities() & 1 == 1
}

fn lanes_of(vector: __m512i) -> [i64; LANES] {
    // SAFETY: both are 64 bytes of numbers, and any bytes are valid numbers.
    unsafe { std::mem::transmute(vector) }
}
