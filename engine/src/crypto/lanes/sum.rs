//! Sums of multiples of many points, eight windows of the scalars at a time.
//!
//! Pippenger's method (Bernstein, Doumen, Lange and Oosterwijk, "Faster batch forgery
//! identification", 2012, section 4): a scalar is cut into windows with signed digits, and for each
//! window a point is added to the bucket of its digit. Neighbouring windows are lanes, each with
//! buckets of its own, so that a vector of additions serves eight windows of one point.

use std::arch::x86_64::{__mmask8, _mm512_set_epi64, _mm512_set1_epi64};

use super::field::{Field, LANES, LIMBS};
use super::point::{Addends, Points, Row};

/// Bits of a scalar.
const SCALAR_BITS: usize = 256;
/// From so many points on, windows of eight bits take fewer additions than those of four.
const POINTS_MIN_FOR_WIDE: usize = 300;

/// A point ready to be added: the limbs of y + x, y - x, 2 d x y, and -2 d x y.
#[derive(Clone, Copy)]
pub(super) struct Stored(pub(super) [i64; 4 * LIMBS]);

impl Stored {
    /// The point in the lanes out of the mask, its negative in those of the mask.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn spread(&self, negated: __mmask8) -> Addends {
        let mut fields = [Field::zero(); 4];
        for (at, field) in fields.iter_mut().enumerate() {
            for i in 0..LIMBS {
                field.0[i] = _mm512_set1_epi64(self.0[at * LIMBS + i]);
            }
        }
        let [y_plus_x, y_minus_x, xy2d, minus_xy2d] = fields;
        Addends { y_plus_x, y_minus_x, xy2d }.negated_in(negated, &minus_xy2d)
    }
}

/// A multiple of a point.
pub(super) struct Term<'a> {
    pub(super) point: &'a Stored,
    /// Little endian.
    pub(super) scalar: [u8; 32],
}

/// The sum of all, in the lowest lane; none if a scalar of `long` is not below 2^255, or one of
/// `short` not below 2^127.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn sum(long: &[Term<'_>], short: &[Term<'_>]) -> Option<Points> {
    if long.len() + short.len() < POINTS_MIN_FOR_WIDE {
        sum_by_windows_of::<4, { buckets_of(4) }>(long, short)
    } else {
        sum_by_windows_of::<8, { buckets_of(8) }>(long, short)
    }
}

/// A bucket for each magnitude of a digit of so many bits; that of 0 is never looked at.
pub(super) const fn buckets_of(bits: usize) -> usize {
    (1 << (bits - 1)) + 1
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn sum_by_windows_of<const BITS: usize, const BUCKETS: usize>(
    long: &[Term<'_>],
    short: &[Term<'_>],
) -> Option<Points> {
    let groups = SCALAR_BITS / BITS / LANES;
    let long = all_digits::<BITS>(long, SCALAR_BITS)?;
    let short = all_digits::<BITS>(short, SCALAR_BITS / 2)?;
    let empty = Points::identity().store();
    // On the stack, 198 kB at most: from the allocator they came as pages that the system had to
    // clear first.
    let mut buckets = [empty; BUCKETS];
    let mut total: Option<Points> = None;
    for group in (0..groups).rev() {
        buckets.fill(empty);
        fill(&mut buckets, &long, group);
        if group < groups / 2 {
            fill(&mut buckets, &short, group);
        }
        // What is in bucket n is added n times.
        let mut running = Points::identity();
        let mut sum = Points::identity();
        for bucket in buckets.iter().skip(1).rev() {
            running = running.plus(&Points::load(bucket));
            sum = sum.plus(&running);
        }
        total = Some(match total {
            Some(above) => above.doubled(BITS * LANES).plus(&sum),
            None => sum,
        });
    }
    let mut total = total?;
    // Each lane counts 2^BITS times the one below it.
    let mut distance = 1;
    while distance < LANES {
        let lane = |lane: usize| ((lane + distance) % LANES) as i64;
        let above = _mm512_set_epi64(
            lane(7),
            lane(6),
            lane(5),
            lane(4),
            lane(3),
            lane(2),
            lane(1),
            lane(0),
        );
        total = total.plus(&total.rearranged(above).doubled(BITS * distance));
        distance *= 2;
    }
    Some(total)
}

/// The digits of scalars of at most so many bits less one.
fn all_digits<'a, const BITS: usize>(
    terms: &[Term<'a>],
    bits: usize,
) -> Option<Vec<(&'a Stored, Digits)>> {
    terms.iter().map(|term| Some((term.point, Digits::of::<BITS>(&term.scalar, bits)?))).collect()
}

/// Adds each point to the buckets of its digits in a group of eight windows.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn fill(buckets: &mut [[Row; LANES]], terms: &[(&Stored, Digits)], group: usize) {
    for (point, digits) in terms {
        let (magnitudes, negative) = digits.of_group(group);
        let mut rows = Points::identity().store();
        for lane in 0..LANES {
            rows[lane] = buckets[usize::from(magnitudes[lane])][lane];
        }
        let rows = Points::load(&rows).plus_affine(&point.spread(negative)).store();
        for lane in 0..LANES {
            buckets[usize::from(magnitudes[lane])][lane] = rows[lane];
        }
    }
}

/// A scalar as signed digits, the lowest window first: with windows of n bits, each is above
/// -2^(n - 1) and at most 2^(n - 1).
#[derive(Debug)]
pub(super) struct Digits {
    pub(super) magnitudes: [u8; SCALAR_BITS / 4],
    /// One bit a digit.
    pub(super) negative: u64,
}

impl Digits {
    /// None if the scalar is not below 2^(`bits` - 1): its last digit would be too large.
    pub(super) fn of<const BITS: usize>(scalar: &[u8; 32], bits: usize) -> Option<Self> {
        let mut digits = Self { magnitudes: [0; SCALAR_BITS / 4], negative: 0 };
        let half = 1_u16 << (BITS - 1);
        let mut carry = 0;
        for (at, magnitude) in digits.magnitudes.iter_mut().take(bits / BITS).enumerate() {
            let byte = u16::from(scalar[at * BITS / 8]);
            let window = (byte >> (at * BITS % 8)) & (2 * half - 1);
            let digit = window + carry;
            carry = u16::from(digit > half);
            *magnitude = if carry == 0 { digit } else { 2 * half - digit } as u8;
            digits.negative |= u64::from(carry) << at;
        }
        (carry == 0 && scalar[bits / 8..].iter().all(|byte| *byte == 0)).then_some(digits)
    }

    fn of_group(&self, group: usize) -> ([u8; LANES], u8) {
        let (groups, _) = self.magnitudes.as_chunks::<LANES>();
        (groups[group], (self.negative >> (group * LANES)) as u8)
    }
}
