//! Many signatures at once: one multiscalar multiplication over a random linear
//! combination of their equations.
//!
//! The sum `8 (sum z_i s_i) B - 8 sum z_i R_i - 8 sum z_i k_i A_i` is the identity if
//! every equation holds; if one does not, it is with probability 2^-128 at most. The
//! `z_i` come from a hash over the whole batch, so that no signer can choose their
//! signature after them (Fiat-Shamir). If the sum is not the identity, halves are
//! tried until single signatures are left, which decide by themselves.
//!
//! Whoever places bad signatures chooses how often halves are tried in vain. That is
//! bounded: trying may cost a second sum over the batch, and beyond it no more than was
//! found good; then the rest is verified one by one. So a batch costs two sums and
//! each signature at most, wherever the bad ones are.

use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{IsIdentity, VartimeMultiscalarMul};

use super::{KeyCache, PublicKey, Signature, challenge, holds};
use crate::hash::Domain;

/// Below this many, single verification is as fast.
const BATCH_COUNT_MIN: usize = 4;

/// A signature with its points, scalars and coefficient.
struct Parsed {
    index: usize,
    negated_key: EdwardsPoint,
    negated_r: EdwardsPoint,
    s: Scalar,
    k: Scalar,
    z: Scalar,
}

/// What verifying a batch cost, in equations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Work {
    /// Equations added up in sums, each as often as it was.
    pub(super) summed: usize,
    /// Equations verified one by one.
    pub(super) single: usize,
}

/// Verifies many signatures, accepting exactly those that [`super::verify`] accepts.
///
/// # Errors
/// The indices of those that do not verify, ascending.
pub fn verify_batch(
    items: &[(PublicKey, &[u8], Signature)],
    cache: Option<&KeyCache>,
) -> Result<(), Vec<usize>> {
    let (bad, _) = find_bad(items, cache);
    if bad.is_empty() { Ok(()) } else { Err(bad) }
}

/// Indices of those that do not verify, ascending, and what finding them cost.
pub(super) fn find_bad(
    items: &[(PublicKey, &[u8], Signature)],
    cache: Option<&KeyCache>,
) -> (Vec<usize>, Work) {
    let mut bad = Vec::new();
    let mut parsed = Vec::with_capacity(items.len());
    for (index, (key, message, signature)) in items.iter().enumerate() {
        let negated_key = match cache {
            Some(cache) => cache.negated_point(key),
            None => key.point().map(|point| -point),
        };
        let r_and_s = signature.parts().and_then(|(r, s)| Some((r, r.decompress()?, s)));
        match (negated_key, r_and_s) {
            (Some(negated_key), Some((encoded_r, r, s))) => {
                let k = challenge(&encoded_r, key, message);
                parsed.push(Parsed { index, negated_key, negated_r: -r, s, k, z: Scalar::ZERO });
            }
            _ => bad.push(index),
        }
    }
    set_coefficients(items, &mut parsed);
    let mut search = Search { credit: parsed.len(), work: Work::default(), bad };
    search.check(&parsed);
    search.bad.sort_unstable();
    (search.bad, search.work)
}

/// Gives each signature a 128-bit coefficient from keys, signatures and challenges.
fn set_coefficients(items: &[(PublicKey, &[u8], Signature)], parsed: &mut [Parsed]) {
    let mut hasher = Domain::SignatureBatch.hasher();
    for (key, _, signature) in items {
        hasher.update(&key.0);
        hasher.update(&signature.0);
    }
    for signature in parsed.iter() {
        // The challenge stands for the message.
        hasher.update(signature.k.as_bytes());
    }
    let mut stream = hasher.finalize_xof();
    for signature in parsed {
        let mut bytes = [0; 32];
        let (low, _) = bytes.split_at_mut(16);
        stream.fill(low);
        signature.z = Scalar::from_bytes_mod_order(bytes);
    }
}

/// The search for bad signatures of one batch.
struct Search {
    /// Equations that may still be summed on top of the first sum. Those found good are
    /// given back: each saved a single verification, which costs more.
    credit: usize,
    work: Work,
    bad: Vec<usize>,
}

impl Search {
    fn check(&mut self, all: &[Parsed]) {
        if all.len() < BATCH_COUNT_MIN {
            self.check_each(all);
            return;
        }
        let sum = self.sum(all);
        if !is_good(&sum) {
            self.split(all, &sum);
        }
    }

    /// Finds the bad ones among `part`, whose `sum` says that there are some.
    fn split(&mut self, part: &[Parsed], sum: &EdwardsPoint) {
        let (left, right) = part.split_at(part.len() / 2);
        if part.len() < BATCH_COUNT_MIN || self.credit < left.len() {
            self.check_each(part);
            return;
        }
        self.credit = self.credit.saturating_sub(left.len());
        let left_sum = self.sum(left);
        // The sum of the other half is what is left over.
        let halves = [(left, left_sum), (right, sum - left_sum)];
        let bad = halves.map(|(half, sum)| (half, sum, !is_good(&sum)));
        for (half, ..) in bad.iter().filter(|(.., is_bad)| !is_bad) {
            self.credit = self.credit.saturating_add(half.len());
        }
        for (half, sum, _) in bad.iter().filter(|(.., is_bad)| *is_bad) {
            self.split(half, sum);
        }
    }

    fn check_each(&mut self, part: &[Parsed]) {
        self.work.single = self.work.single.saturating_add(part.len());
        let wrong = part.iter().filter(|p| !holds(&p.negated_key, &p.k, &-p.negated_r, &p.s));
        self.bad.extend(wrong.map(|p| p.index));
    }

    fn sum(&mut self, part: &[Parsed]) -> EdwardsPoint {
        self.work.summed = self.work.summed.saturating_add(part.len());
        let base: Scalar = part.iter().map(|p| p.s * p.z).sum();
        let scalars = std::iter::once(base)
            .chain(part.iter().map(|p| p.z))
            .chain(part.iter().map(|p| p.k * p.z));
        let points = std::iter::once(ED25519_BASEPOINT_POINT)
            .chain(part.iter().map(|p| p.negated_r))
            .chain(part.iter().map(|p| p.negated_key));
        EdwardsPoint::vartime_multiscalar_mul(scalars, points)
    }
}

fn is_good(sum: &EdwardsPoint) -> bool {
    sum.mul_by_cofactor().is_identity()
}
