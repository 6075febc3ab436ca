//! Many signatures at once: one multiscalar multiplication over a random linear
//! combination of their equations.
//!
//! The sum `8 (sum z_i s_i) B - 8 sum z_i R_i - 8 sum z_i k_i A_i` is the identity if
//! every equation holds; if one does not, it is with probability 2^-127 at most. The
//! `z_i` come from a hash over the whole batch, so that no signer can choose their
//! signature after them (Fiat-Shamir). If the sum is not the identity, halves are
//! tried until single signatures are left, which decide by themselves.
//!
//! Whoever places bad signatures chooses how often halves are tried in vain. That is
//! bounded: trying may cost as much as verifying each alone once, and beyond it no more than
//! was saved by what was found good; then the rest is verified one by one. So a batch costs one
//! sum and each signature twice at most, wherever the bad ones are.

use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{IsIdentity, VartimeMultiscalarMul};

use super::{KeyCache, PublicKey, Signature, challenge, holds};
use crate::hash::Domain;

/// Below this many, single verification is as fast.
const BATCH_COUNT_MIN: usize = 4;

/// Key, message and signature.
pub type Item<'a> = (PublicKey, &'a [u8], Signature);

/// A signature's points, scalars and coefficient.
pub(super) struct Equation<P> {
    index: usize,
    pub(super) points: P,
    pub(super) s: Scalar,
    pub(super) k: Scalar,
    /// Below 2^127.
    pub(super) z: Scalar,
}

/// Who computes with points.
pub(super) trait Arithmetic {
    /// Key and `R` of a signature.
    type Points;
    /// The sum over equations of `z (R + k A - s B)`, or its negative.
    type Sum;
    /// Equations that may be summed in the time of a single verification, or fewer.
    const SUMS_PER_SINGLE: usize;

    /// The points of each signature, unless key or `R` is not the encoding of one.
    fn points(&self, items: &[Item<'_>]) -> Vec<Option<Self::Points>>;
    fn sum(&self, equations: &[Equation<Self::Points>]) -> Self::Sum;
    fn difference(&self, whole: &Self::Sum, part: &Self::Sum) -> Self::Sum;
    /// Whether eight times the sum is the identity.
    fn is_of_small_order(&self, sum: &Self::Sum) -> bool;
    /// Whether a single equation holds, which is that of this signature.
    fn holds(&self, equation: &Equation<Self::Points>, item: &Item<'_>) -> bool;
}

/// Sums made by the library, one point after another.
pub(super) struct Library<'a> {
    pub(super) cache: Option<&'a KeyCache>,
}

/// Negatives of key and `R`.
pub(super) struct Negated {
    key: EdwardsPoint,
    r: EdwardsPoint,
}

impl Arithmetic for Library<'_> {
    type Points = Negated;
    type Sum = EdwardsPoint;
    const SUMS_PER_SINGLE: usize = 1;

    fn points(&self, items: &[Item<'_>]) -> Vec<Option<Negated>> {
        let points = |(key, _, signature): &Item<'_>| {
            let key = match self.cache {
                Some(cache) => cache.negated_point(key)?,
                None => -key.point()?,
            };
            Some(Negated { key, r: -signature.r().decompress()? })
        };
        items.iter().map(points).collect()
    }

    fn sum(&self, equations: &[Equation<Negated>]) -> EdwardsPoint {
        let base: Scalar = equations.iter().map(|e| e.s * e.z).sum();
        let scalars = std::iter::once(base)
            .chain(equations.iter().map(|e| e.z))
            .chain(equations.iter().map(|e| e.k * e.z));
        let points = std::iter::once(ED25519_BASEPOINT_POINT)
            .chain(equations.iter().map(|e| e.points.r))
            .chain(equations.iter().map(|e| e.points.key));
        EdwardsPoint::vartime_multiscalar_mul(scalars, points)
    }

    fn difference(&self, whole: &EdwardsPoint, part: &EdwardsPoint) -> EdwardsPoint {
        whole - part
    }

    fn is_of_small_order(&self, sum: &EdwardsPoint) -> bool {
        sum.mul_by_cofactor().is_identity()
    }

    fn holds(&self, e: &Equation<Negated>, _: &Item<'_>) -> bool {
        holds(&e.points.key, &e.k, &-e.points.r, &e.s)
    }
}

/// What verifying a batch cost, in equations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Work {
    /// Equations added up in sums, each as often as it was.
    pub(super) summed: usize,
    /// Equations verified one by one.
    pub(super) single: usize,
}

/// Verifies many signatures, accepting exactly those that [`super::verify`] accepts. The cache is
/// for machines without AVX-512: eight points are decompressed there in the time of one look-up.
///
/// # Errors
/// The indices of those that do not verify, ascending.
pub fn verify_batch(items: &[Item<'_>], cache: Option<&KeyCache>) -> Result<(), Vec<usize>> {
    let bad = find_bad_here(items, cache);
    if bad.is_empty() { Ok(()) } else { Err(bad) }
}

/// As [`verify_batch`] by the library on every machine: what one without AVX-512 does, and a
/// yardstick for the rest.
///
/// # Errors
/// As [`verify_batch`].
pub fn verify_batch_by_library(
    items: &[Item<'_>],
    cache: Option<&KeyCache>,
) -> Result<(), Vec<usize>> {
    let (bad, _) = find_bad(items, &Library { cache });
    if bad.is_empty() { Ok(()) } else { Err(bad) }
}

fn find_bad_here(items: &[Item<'_>], cache: Option<&KeyCache>) -> Vec<usize> {
    #[cfg(target_arch = "x86_64")]
    if items.len() >= BATCH_COUNT_MIN
        && let Some(lanes) = super::lanes::Lanes::new()
    {
        return find_bad(items, &lanes).0;
    }
    find_bad(items, &Library { cache }).0
}

/// Indices of those that do not verify, ascending, and what finding them cost.
pub(super) fn find_bad<A: Arithmetic>(items: &[Item<'_>], arithmetic: &A) -> (Vec<usize>, Work) {
    let mut bad = Vec::new();
    let mut equations = Vec::with_capacity(items.len());
    let points = arithmetic.points(items);
    for ((index, (key, message, signature)), points) in items.iter().enumerate().zip(points) {
        match (points, signature.s()) {
            (Some(points), Some(s)) => {
                let k = challenge(&signature.r(), key, message);
                equations.push(Equation { index, points, s, k, z: Scalar::ZERO });
            }
            _ => bad.push(index),
        }
    }
    set_coefficients(items, &mut equations);
    let credit = equations.len().saturating_mul(A::SUMS_PER_SINGLE);
    let mut search = Search { items, arithmetic, credit, work: Work::default(), bad };
    search.check(&equations);
    search.bad.sort_unstable();
    (search.bad, search.work)
}

/// Gives each signature a coefficient of 127 bits from keys, signatures and challenges.
fn set_coefficients<P>(items: &[Item<'_>], equations: &mut [Equation<P>]) {
    // One piece of many bytes is hashed many blocks at once.
    let mut bytes: Vec<u8> = Vec::with_capacity(items.len().saturating_mul(128));
    for (key, _, signature) in items {
        bytes.extend(key.0);
        bytes.extend(signature.0);
    }
    for equation in equations.iter() {
        // The challenge stands for the message.
        bytes.extend(equation.k.as_bytes());
    }
    let mut hasher = Domain::SignatureBatch.hasher();
    hasher.update(&bytes);
    let mut coefficients = vec![[0; 16]; equations.len()];
    hasher.finalize_xof().fill(coefficients.as_flattened_mut());
    for (equation, bytes) in equations.iter_mut().zip(coefficients) {
        equation.z = Scalar::from(u128::from_le_bytes(bytes) >> 1);
    }
}

/// The search for bad signatures of one batch.
struct Search<'a, A> {
    items: &'a [Item<'a>],
    arithmetic: &'a A,
    /// Equations that may still be summed on top of the first sum. Those found good give back
    /// what a single verification of each would have cost.
    credit: usize,
    work: Work,
    bad: Vec<usize>,
}

impl<A: Arithmetic> Search<'_, A> {
    fn check(&mut self, all: &[Equation<A::Points>]) {
        if all.len() < BATCH_COUNT_MIN {
            self.check_each(all);
            return;
        }
        let sum = self.sum(all);
        if !self.arithmetic.is_of_small_order(&sum) {
            self.split(all, &sum);
        }
    }

    /// Finds the bad ones among `part`, whose `sum` says that there are some.
    fn split(&mut self, part: &[Equation<A::Points>], sum: &A::Sum) {
        let (left, right) = part.split_at(part.len() / 2);
        if part.len() < BATCH_COUNT_MIN || self.credit < left.len() {
            self.check_each(part);
            return;
        }
        self.credit = self.credit.saturating_sub(left.len());
        let left_sum = self.sum(left);
        // The sum of the other half is what is left over.
        let right_sum = self.arithmetic.difference(sum, &left_sum);
        let halves = [(left, left_sum), (right, right_sum)]
            .map(|(half, sum)| (half, self.arithmetic.is_of_small_order(&sum), sum));
        for (half, ..) in halves.iter().filter(|(_, is_good, _)| *is_good) {
            let saved = half.len().saturating_mul(A::SUMS_PER_SINGLE);
            self.credit = self.credit.saturating_add(saved);
        }
        for (half, _, sum) in halves.iter().filter(|(_, is_good, _)| !is_good) {
            self.split(half, sum);
        }
    }

    fn check_each(&mut self, part: &[Equation<A::Points>]) {
        self.work.single = self.work.single.saturating_add(part.len());
        let holds = |e: &Equation<A::Points>| {
            self.items.get(e.index).is_some_and(|item| self.arithmetic.holds(e, item))
        };
        let wrong: Vec<usize> = part.iter().filter(|e| !holds(e)).map(|e| e.index).collect();
        self.bad.extend(wrong);
    }

    fn sum(&mut self, part: &[Equation<A::Points>]) -> A::Sum {
        self.work.summed = self.work.summed.saturating_add(part.len());
        self.arithmetic.sum(part)
    }
}
