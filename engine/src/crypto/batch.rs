//! Many signatures at once: one multiscalar multiplication over a random linear
//! combination of their equations.
//!
//! The sum `8 (sum z_i s_i) B - 8 sum z_i R_i - 8 sum z_i k_i A_i` is the identity if
//! every equation holds; if one does not, it is with probability 2^-128 at most. The
//! `z_i` come from a hash over the whole batch, so that no signer can choose their
//! signature after them (Fiat-Shamir). If the sum is not the identity, halves are
//! tried until few signatures are left, which decide by themselves.
//!
//! Whoever mixes bad signatures in must not make a batch much dearer than its signatures
//! one by one: what the sums may cost is bounded by [`SUMMED_FACTOR`], and what is left
//! undecided then is verified one by one.

use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{IsIdentity, VartimeMultiscalarMul};

use super::{KeyCache, PublicKey, Signature, challenge, holds};
use crate::hash::Domain;

/// Below this many, single verification is as fast.
const BATCH_COUNT_MIN: usize = 4;
/// How often a signature may stand in a sum, on average. One in a sum costs less than half
/// of one alone, so that the worst batch costs about two and a half times its signatures
/// one by one, whatever is in it.
const SUMMED_FACTOR: usize = 3;

/// What verifying a batch took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cost {
    /// Signatures in all sums together.
    pub(super) summed: usize,
    /// Signatures verified one by one.
    pub(super) alone: usize,
}

/// A signature with its points and scalars.
struct Parsed {
    index: usize,
    negated_key: EdwardsPoint,
    negated_r: EdwardsPoint,
    s: Scalar,
    k: Scalar,
}

/// Verifies many signatures, accepting exactly those that [`super::verify`] accepts.
///
/// # Errors
/// The indices of those that do not verify, ascending.
pub fn verify_batch(
    items: &[(PublicKey, &[u8], Signature)],
    cache: Option<&mut KeyCache>,
) -> Result<(), Vec<usize>> {
    verify_counting(items, cache).0
}

/// As [`verify_batch`], and what it took.
pub(super) fn verify_counting(
    items: &[(PublicKey, &[u8], Signature)],
    cache: Option<&mut KeyCache>,
) -> (Result<(), Vec<usize>>, Cost) {
    let mut bad = Vec::new();
    let mut parsed = Vec::with_capacity(items.len());
    let mut cache = cache;
    for (index, (key, message, signature)) in items.iter().enumerate() {
        let negated_key = match &mut cache {
            Some(cache) => cache.negated_point(key),
            None => key.point().map(|point| -point),
        };
        let r_and_s = signature.parts().and_then(|(r, s)| Some((r, r.decompress()?, s)));
        match (negated_key, r_and_s) {
            (Some(negated_key), Some((encoded_r, r, s))) => {
                let k = challenge(&encoded_r, key, message);
                parsed.push(Parsed { index, negated_key, negated_r: -r, s, k });
            }
            _ => bad.push(index),
        }
    }
    let coefficients = coefficients(items, &parsed);
    let mut cost = Cost::default();
    let summed_max = SUMMED_FACTOR.saturating_mul(parsed.len());
    check(&parsed, &coefficients, summed_max, &mut cost, &mut bad);
    bad.sort_unstable();
    (if bad.is_empty() { Ok(()) } else { Err(bad) }, cost)
}

/// A 128-bit coefficient for each signature, from keys, signatures and challenges.
fn coefficients(items: &[(PublicKey, &[u8], Signature)], parsed: &[Parsed]) -> Vec<Scalar> {
    let mut hasher = Domain::SignatureBatch.hasher();
    for (key, _, signature) in items {
        hasher.update(&key.0);
        hasher.update(&signature.0);
    }
    for signature in parsed {
        // The challenge stands for the message.
        hasher.update(signature.k.as_bytes());
    }
    let mut stream = hasher.finalize_xof();
    let next = |_: &Parsed| {
        let mut bytes = [0; 32];
        let (low, _) = bytes.split_at_mut(16);
        stream.fill(low);
        Scalar::from_bytes_mod_order(bytes)
    };
    parsed.iter().map(next).collect()
}

/// Adds the indices of what does not verify to `bad`.
fn check(
    parsed: &[Parsed],
    coefficients: &[Scalar],
    summed_max: usize,
    cost: &mut Cost,
    bad: &mut Vec<usize>,
) {
    if parsed.len() < BATCH_COUNT_MIN || cost.summed.saturating_add(parsed.len()) > summed_max {
        cost.alone += parsed.len();
        let wrong = parsed.iter().filter(|p| !holds(&p.negated_key, &p.k, &-p.negated_r, &p.s));
        bad.extend(wrong.map(|p| p.index));
        return;
    }
    cost.summed += parsed.len();
    if sum_is_identity(parsed, coefficients) {
        return;
    }
    let middle = parsed.len() / 2;
    let (left, right) = parsed.split_at(middle);
    let (left_z, right_z) = coefficients.split_at(middle);
    check(left, left_z, summed_max, cost, bad);
    check(right, right_z, summed_max, cost, bad);
}

fn sum_is_identity(parsed: &[Parsed], coefficients: &[Scalar]) -> bool {
    let pairs = || parsed.iter().zip(coefficients);
    let base: Scalar = pairs().map(|(p, z)| p.s * z).sum();
    let scalars = std::iter::once(base)
        .chain(coefficients.iter().copied())
        .chain(pairs().map(|(p, z)| p.k * z));
    let points = std::iter::once(ED25519_BASEPOINT_POINT)
        .chain(parsed.iter().map(|p| p.negated_r))
        .chain(parsed.iter().map(|p| p.negated_key));
    EdwardsPoint::vartime_multiscalar_mul(scalars, points).mul_by_cofactor().is_identity()
}
