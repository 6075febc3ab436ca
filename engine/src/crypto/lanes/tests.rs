#![allow(clippy::unwrap_used)]
#![allow(unsafe_code, reason = "each test begins with asking for the instructions")]

use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::traits::IsIdentity;
use proptest::prelude::*;

use super::field::{D, Field, LIMBS, SQRT_MINUS_ONE};
use super::point::Points;
use super::*;

/// p, little endian.
const P: [u8; 32] = {
    let mut bytes = [0xff; 32];
    (bytes[0], bytes[31]) = (0xed, 0x7f);
    bytes
};

/// A field element as the sum of its digits in base 256, modulo p, by schoolbook arithmetic.
type Number = [u8; 32];

/// `a b + c` modulo p, bit by bit: slow, and of nothing but additions and subtractions.
fn multiplied(a: &Number, b: &Number, c: &Number) -> Number {
    let mut sum = [0; 32];
    for bit in (0..256).rev() {
        sum = added(&sum, &sum);
        if a[bit / 8] >> (bit % 8) & 1 == 1 {
            sum = added(&sum, b);
        }
    }
    added(&sum, c)
}

/// The sum modulo p of two numbers below 2^256.
fn added(a: &Number, b: &Number) -> Number {
    let (a, b) = (reduced(*a), reduced(*b));
    let mut sum = [0; 32];
    let mut carry = 0;
    for i in 0..32 {
        carry += u16::from(a[i]) + u16::from(b[i]);
        sum[i] = carry as u8;
        carry >>= 8;
    }
    reduced(sum)
}

fn reduced(mut a: Number) -> Number {
    while a.iter().rev().cmp(P.iter().rev()) != std::cmp::Ordering::Less {
        let mut borrow = 0;
        for i in 0..32 {
            let difference = i16::from(a[i]) - i16::from(P[i]) - borrow;
            borrow = i16::from(difference < 0);
            a[i] = (difference + 256 * borrow) as u8;
        }
    }
    a
}

/// The eight residues of a vector.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn residues(field: &Field) -> [Number; LANES] {
    let limbs = field.frozen().map(lanes_of);
    std::array::from_fn(|lane| {
        let mut bits = [0; 32];
        for bit in 0..255 {
            let limb = limbs[bit / 51][lane];
            bits[bit / 8] |= ((limb >> (bit % 51) & 1) as u8) << (bit % 8);
        }
        bits
    })
}

/// Limbs at their bounds and anything between.
fn loose() -> impl Strategy<Value = [i64; LIMBS]> {
    let most = (1_i64 << 51) + (1 << 15) - 1;
    let limb = prop_oneof![
        Just(0),
        Just(1),
        Just(most),
        Just((1 << 51) - 1),
        Just((1 << 51) - 19),
        Just(1 << 51),
        0..=most,
    ];
    prop::array::uniform5(limb)
}

fn number(limbs: &[i64; LIMBS]) -> Number {
    let mut sum = [0; 32];
    for limb in limbs.iter().rev() {
        let mut shift = [0; 32];
        shift[6] = 8;
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&limb.to_le_bytes());
        sum = multiplied(&sum, &shift, &bytes);
    }
    sum
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn check_field(a: [i64; LIMBS], b: [i64; LIMBS]) {
    let (x, y) = (Field::splat(a), Field::splat(b));
    let (a, b) = (number(&a), number(&b));
    let zero = [0; 32];
    let minus_one = {
        let mut bytes = P;
        bytes[0] -= 1;
        bytes
    };
    let is = |field: &Field, number: Number| {
        for limb in field.0 {
            assert!(lanes_of(limb).iter().all(|limb| *limb < (1 << 51) + (1 << 15)), "not loose");
        }
        assert_eq!(residues(field), [number; LANES]);
    };
    is(&x, reduced(a));
    is(&x.add(&y), added(&a, &b));
    is(&x.sub(&y), multiplied(&b, &minus_one, &a));
    is(&x.neg(), multiplied(&a, &minus_one, &zero));
    is(&x.mul(&y), multiplied(&a, &b, &zero));
    is(&x.square(), multiplied(&a, &a, &zero));
    is(&x.squared(3), {
        let s = |n: Number| multiplied(&n, &n, &zero);
        s(s(s(a)))
    });
    is(&x.or_in(0xff, &y), reduced(b));
    assert_eq!(x.zeros(), if reduced(a) == zero { 0xff } else { 0 });
    assert_eq!(x.equal(&y), if reduced(a) == reduced(b) { 0xff } else { 0 });
    assert_eq!(x.negatives(), if reduced(a)[0] & 1 == 1 { 0xff } else { 0 });
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn check_constants() {
    let number = |n: i64| Field::splat([n, 0, 0, 0, 0]);
    let d = Field::splat(D).mul(&number(121_666));
    assert_eq!(d.add(&number(121_665)).zeros(), 0xff);
    let root = Field::splat(SQRT_MINUS_ONE);
    assert_eq!(root.square().add(&Field::one()).zeros(), 0xff);
    assert_eq!(root.negatives(), 0);
}

/// The affine coordinates of a point that can be added, as the library would encode it.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn check_decompression(encodings: &[[u8; 32]; LANES]) {
    for (encoding, point) in encodings.iter().zip(decompressed(encodings)) {
        let expected = CompressedEdwardsY(*encoding).decompress();
        assert_eq!(point.is_some(), expected.is_some(), "{encoding:?}");
        let (Some(point), Some(expected)) = (point, expected) else { continue };
        // The point less what the library says, of which the sum must be nothing.
        let other = (-expected).compress().0;
        let other = decompressed(&[other])[0].unwrap();
        let one = {
            let mut bytes = [0; 32];
            bytes[0] = 1;
            bytes
        };
        let terms = [Term { point: &point, scalar: one }, Term { point: &other, scalar: one }];
        assert_eq!(sum::sum(&terms, &[]).identities() & 1, 1, "{encoding:?}");
        // And neither has become the identity by itself.
        let single = sum::sum(&terms[..1], &[]);
        assert_eq!(single.identities() & 1 == 1, expected.is_identity());
    }
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn check_sum(points: &[EdwardsPoint], scalars: &[Scalar], short: &[u128]) {
    let encodings: Vec<[u8; 32]> = points.iter().map(|p| p.compress().0).collect();
    let stored: Vec<Stored> = decompressed(&encodings).into_iter().flatten().collect();
    assert_eq!(stored.len(), points.len());
    let short: Vec<Scalar> = short.iter().map(|n| Scalar::from(*n >> 1)).collect();
    let long_terms: Vec<Term<'_>> =
        stored.iter().zip(scalars).map(|(point, s)| Term { point, scalar: s.to_bytes() }).collect();
    let short_terms: Vec<Term<'_>> =
        stored.iter().zip(&short).map(|(point, s)| Term { point, scalar: s.to_bytes() }).collect();
    let expected: EdwardsPoint =
        points.iter().zip(scalars).map(|(p, s)| p * s).sum::<EdwardsPoint>()
            + points.iter().zip(&short).map(|(p, s)| p * s).sum::<EdwardsPoint>();
    let minus = decompressed(&[(-expected).compress().0])[0].unwrap();
    let one = Term { point: &minus, scalar: Scalar::ONE.to_bytes() };
    let minus = sum::sum(&[one], &[]);
    let sum = sum::sum(&long_terms, &short_terms);
    assert_eq!(sum.plus(&minus).identities() & 1, 1);
    assert_eq!(difference(&sum, &minus.neg()).identities() & 1, 1);
    assert_eq!(is_of_small_order(&sum), expected.mul_by_cofactor().is_identity());
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn check_memory() {
    let points = Points::identity().plus(&Points::identity());
    let rows = points.store();
    let again = Points::load(&rows).store();
    for (row, other) in rows.iter().flatten().zip(again.iter().flatten()) {
        assert_eq!(lanes_of(*row), lanes_of(*other));
    }
    assert_eq!(points.identities(), 0xff);
}

/// Encodings around what is special: 0, 1, p, 2^255, and 40 on both sides.
fn special_encodings() -> Vec<[u8; 32]> {
    let mut encodings = Vec::new();
    for middle in [[0; 32], P, [0xff; 32]] {
        for distance in -40..40_i64 {
            let mut bytes = middle;
            let mut carry = distance;
            for byte in &mut bytes {
                carry += i64::from(*byte);
                *byte = carry as u8;
                carry >>= 8;
            }
            encodings.push(bytes);
            bytes[31] ^= 0x80;
            encodings.push(bytes);
        }
    }
    encodings
}

#[test]
fn constants_are_what_they_are_said_to_be() {
    if are_available() {
        // SAFETY: the machine has the instructions.
        unsafe { check_constants() }
    }
}

#[test]
fn points_come_back_from_memory() {
    if are_available() {
        // SAFETY: the machine has the instructions.
        unsafe { check_memory() }
    }
}

#[test]
fn decompresses_special_encodings_as_the_library_does() {
    if !are_available() {
        return;
    }
    let encodings = special_encodings();
    let (chunks, _) = encodings.as_chunks::<LANES>();
    for chunk in chunks {
        // SAFETY: the machine has the instructions.
        unsafe { check_decompression(chunk) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn computes_as_schoolbook_arithmetic_does(a in loose(), b in loose()) {
        if are_available() {
            // SAFETY: the machine has the instructions.
            unsafe { check_field(a, b) }
        }
    }

    #[test]
    fn decompresses_as_the_library_does(encodings: [[u8; 32]; LANES]) {
        if are_available() {
            // SAFETY: the machine has the instructions.
            unsafe { check_decompression(&encodings) }
        }
    }

    #[test]
    fn sums_as_the_library_does(
        seeds in prop::collection::vec((any::<[u8; 32]>(), any::<u128>(), 0_u8..16), 0..40),
        many in prop::bool::weighted(0.1),
    ) {
        let times = if many { 12 } else { 1 };
        let seeds: Vec<_> = seeds.iter().cycle().take(seeds.len() * times).collect();
        // Multiples of the base point, some of them of no order that divides the group's.
        let points: Vec<EdwardsPoint> = seeds
            .iter()
            .map(|(bytes, _, torsion)| {
                let point = EdwardsPoint::mul_base(&Scalar::from_bytes_mod_order(*bytes));
                let torsion = curve25519_dalek::constants::EIGHT_TORSION.get(usize::from(*torsion));
                torsion.map_or(point, |torsion| point + torsion)
            })
            .collect();
        let scalars: Vec<Scalar> = seeds
            .iter()
            .map(|(bytes, _, torsion)| match torsion {
                0 => Scalar::ZERO,
                1 => -Scalar::ONE,
                2 => Scalar::from(128_u8),
                _ => Scalar::from_bytes_mod_order(*bytes).invert(),
            })
            .collect();
        let short: Vec<u128> =
            seeds.iter().map(|(_, n, torsion)| if *torsion == 3 { u128::MAX } else { *n }).collect();
        if are_available() {
            // SAFETY: the machine has the instructions.
            unsafe { check_sum(&points, &scalars, &short) }
        }
    }
}
