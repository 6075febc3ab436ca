//! Many signatures at once: one multiscalar multiplication over a random linear
//! combination of their equations.
//!
//! The sum `8 (sum z_i s_i) B - 8 sum z_i R_i - 8 sum z_i k_i A_i` is the identity if
//! every equation holds; if one does not, it is with probability 2^-127 at most, for each sum
//! and each batch that somebody makes up to try. The
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
    pub(super) index: usize,
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
    const SUMMED_PER_SINGLE: usize;
    /// Equations that are summed in the time that a sum takes besides its equations.
    const SUMMED_PER_SUM: usize;

    /// The points of each signature; none if key or `R` is not found to be the encoding of one.
    fn points(&self, items: &[Item<'_>]) -> Vec<Option<Self::Points>>;
    fn sum(&self, equations: &[Equation<Self::Points>]) -> Self::Sum;
    fn difference(&self, whole: &Self::Sum, part: &Self::Sum) -> Self::Sum;
    /// Whether eight times the sum is the identity.
    fn is_of_small_order(&self, sum: &Self::Sum) -> bool;
    /// Whether a single equation holds, which is that of this signature.
    fn holds(&self, equation: &Equation<Self::Points>, item: &Item<'_>) -> bool;
    /// Whether a signature of which no points were found is good all the same.
    fn holds_without_points(&self, item: &Item<'_>) -> bool;
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
    const SUMMED_PER_SINGLE: usize = 1;
    const SUMMED_PER_SUM: usize = 0;

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

    fn holds_without_points(&self, _: &Item<'_>) -> bool {
        false
    }
}

/// What verifying a batch cost, in equations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Work {
    /// Sums made.
    pub(super) sums: usize,
    /// Equations added up in them, each as often as it was.
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

/// Indices of those that do not verify, ascending, and what finding them cost. All are bad that
/// are not found good.
pub(super) fn find_bad<A: Arithmetic>(items: &[Item<'_>], arithmetic: &A) -> (Vec<usize>, Work) {
    let is_good = vec![false; items.len()];
    let mut search = Search { items, arithmetic, credit: 0, work: Work::default(), is_good };
    let mut parsed = Vec::with_capacity(items.len());
    for ((index, item), points) in items.iter().enumerate().zip(arithmetic.points(items)) {
        let (key, message, signature) = item;
        let Some(s) = signature.s() else { continue };
        match points {
            Some(points) => {
                let k = challenge(&signature.r(), key, message);
                parsed.push((index, points, s, k));
            }
            None if arithmetic.holds_without_points(item) => search.accept(index),
            None => {}
        }
    }
    let coefficients = coefficients(items, parsed.iter().map(|(.., k)| k));
    let equations: Vec<_> = parsed
        .into_iter()
        .zip(coefficients)
        .map(|((index, points, s, k), z)| Equation { index, points, s, k, z })
        .collect();
    search.credit = equations.len().saturating_mul(A::SUMMED_PER_SINGLE);
    search.check(&equations);
    let bad = search.is_good.iter().enumerate().filter(|(_, is_good)| !**is_good);
    (bad.map(|(index, _)| index).collect(), search.work)
}

/// A coefficient of 127 bits for each challenge, from keys, signatures and challenges.
pub(super) fn coefficients<'a>(
    items: &[Item<'_>],
    challenges: impl ExactSizeIterator<Item = &'a Scalar>,
) -> Vec<Scalar> {
    // One piece of many bytes is hashed many blocks at once.
    let mut bytes: Vec<u8> = Vec::with_capacity(items.len().saturating_mul(128));
    bytes.extend((items.len() as u64).to_le_bytes());
    for (key, _, signature) in items {
        bytes.extend(key.0);
        bytes.extend(signature.0);
    }
    let mut drawn = vec![[0; 16]; challenges.len()];
    for challenge in challenges {
        // It stands for the message.
        bytes.extend(challenge.as_bytes());
    }
    let mut hasher = Domain::SignatureBatch.hasher();
    hasher.update(&bytes);
    hasher.finalize_xof().fill(drawn.as_flattened_mut());
    drawn.into_iter().map(|bytes| Scalar::from(u128::from_le_bytes(bytes) >> 1)).collect()
}

/// The search for bad signatures of one batch.
struct Search<'a, A> {
    items: &'a [Item<'a>],
    arithmetic: &'a A,
    /// What may still be spent on top of the first sum, in equations summed. Those found good give
    /// back what a single verification of each would have cost.
    credit: usize,
    work: Work,
    is_good: Vec<bool>,
}

impl<A: Arithmetic> Search<'_, A> {
    fn check(&mut self, all: &[Equation<A::Points>]) {
        if all.len() < BATCH_COUNT_MIN {
            self.check_each(all);
            return;
        }
        let sum = self.sum(all);
        if self.arithmetic.is_of_small_order(&sum) {
            self.accept_all(all);
        } else {
            self.split(all, &sum);
        }
    }

    /// Finds the bad ones among `part`, whose `sum` says that there are some.
    fn split(&mut self, part: &[Equation<A::Points>], sum: &A::Sum) {
        let (left, right) = part.split_at(part.len() / 2);
        let cost = left.len().saturating_add(A::SUMMED_PER_SUM);
        let cost_alone = part.len().saturating_mul(A::SUMMED_PER_SINGLE);
        if part.len() < BATCH_COUNT_MIN || self.credit < cost || cost_alone < cost {
            self.check_each(part);
            return;
        }
        self.credit = self.credit.saturating_sub(cost);
        let left_sum = self.sum(left);
        // The sum of the other half is what is left over.
        let right_sum = self.arithmetic.difference(sum, &left_sum);
        let halves = [(left, left_sum), (right, right_sum)]
            .map(|(half, sum)| (half, self.arithmetic.is_of_small_order(&sum), sum));
        for (half, ..) in halves.iter().filter(|(_, is_good, _)| *is_good) {
            self.accept_all(half);
            let saved = half.len().saturating_mul(A::SUMMED_PER_SINGLE);
            self.credit = self.credit.saturating_add(saved);
        }
        for (half, _, sum) in halves.iter().filter(|(_, is_good, _)| !is_good) {
            self.split(half, sum);
        }
    }

    fn check_each(&mut self, part: &[Equation<A::Points>]) {
        self.work.single = self.work.single.saturating_add(part.len());
        for equation in part {
            let item = self.items.get(equation.index);
            if item.is_some_and(|item| self.arithmetic.holds(equation, item)) {
                self.accept(equation.index);
            }
        }
    }

    fn accept_all(&mut self, part: &[Equation<A::Points>]) {
        for equation in part {
            self.accept(equation.index);
        }
    }

    fn accept(&mut self, index: usize) {
        if let Some(is_good) = self.is_good.get_mut(index) {
            *is_good = true;
        }
    }

    fn sum(&mut self, part: &[Equation<A::Points>]) -> A::Sum {
        self.work.sums = self.work.sums.saturating_add(1);
        self.work.summed = self.work.summed.saturating_add(part.len());
        self.arithmetic.sum(part)
    }
}
