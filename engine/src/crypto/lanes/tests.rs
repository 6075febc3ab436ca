#![allow(clippy::unwrap_used)]
#![allow(unsafe_code, reason = "each test begins with asking for the instructions")]

use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::traits::IsIdentity;
use proptest::prelude::*;

use super::field::{D, Field, LIMBS, SQRT_MINUS_ONE};
use super::point::Points;
use super::sum::Digits;
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

/// A vector of different elements.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn vector(elements: &[[i64; LIMBS]; LANES]) -> Field {
    let mut field = Field::zero();
    for (lane, element) in elements.iter().enumerate() {
        field = field.or_in(1 << lane, &Field::splat(*element));
    }
    field
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn check_field(a: &[[i64; LIMBS]; LANES], b: &[[i64; LIMBS]; LANES], mask: u8) {
    let (x, y) = (vector(a), vector(b));
    let (a, b) = (a.map(|limbs| number(&limbs)), b.map(|limbs| number(&limbs)));
    let zero = [0; 32];
    let mut minus_one = P;
    minus_one[0] -= 1;
    let is = |field: &Field, expected: &dyn Fn(&Number, &Number) -> Number| {
        for limb in field.0 {
            assert!(lanes_of(limb).iter().all(|limb| *limb < (1 << 51) + (1 << 15)), "not loose");
        }
        let found = residues(field);
        for lane in 0..LANES {
            assert_eq!(found[lane], expected(&a[lane], &b[lane]), "lane {lane}");
        }
    };
    let square = |n: &Number| multiplied(n, n, &zero);
    is(&x, &|a, _| reduced(*a));
    is(&x.add(&y), &added);
    is(&x.sub(&y), &|a, b| multiplied(b, &minus_one, a));
    is(&x.neg(), &|a, _| multiplied(a, &minus_one, &zero));
    is(&x.mul(&y), &|a, b| multiplied(a, b, &zero));
    is(&x.square(), &|a, _| square(a));
    is(&x.squared(3), &|a, _| square(&square(&square(a))));
    let mask_of = |is: &dyn Fn(&Number, &Number) -> bool| {
        (0..LANES).map(|lane| u8::from(is(&a[lane], &b[lane])) << lane).sum::<u8>()
    };
    assert_eq!(x.zeros(), mask_of(&|a, _| reduced(*a) == zero));
    assert_eq!(x.equal(&y), mask_of(&|a, b| reduced(*a) == reduced(*b)));
    assert_eq!(x.negatives(), mask_of(&|a, _| reduced(*a)[0] & 1 == 1));
    let chosen = residues(&x.or_in(mask, &y));
    for lane in 0..LANES {
        let expected = if mask >> lane & 1 == 1 { b[lane] } else { a[lane] };
        assert_eq!(chosen[lane], reduced(expected));
    }
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
        assert_eq!(sum::sum(&terms, &[]).unwrap().identities() & 1, 1, "{encoding:?}");
        // And neither has become the identity by itself.
        let single = sum::sum(&terms[..1], &[]).unwrap();
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
    let minus = sum::sum(&[one], &[]).unwrap();
    let narrow =
        sum::sum_by_windows_of::<4, { sum::buckets_of(4) }>(&long_terms, &short_terms).unwrap();
    let wide =
        sum::sum_by_windows_of::<8, { sum::buckets_of(8) }>(&long_terms, &short_terms).unwrap();
    for sum in [narrow, wide] {
        assert_eq!(sum.plus(&minus).identities() & 1, 1);
        assert_eq!(difference(&sum, &minus.neg()).identities() & 1, 1);
        assert_eq!(is_of_small_order(&sum), expected.mul_by_cofactor().is_identity());
    }
}

#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn check_memory() {
    // In lane l, limb i of the point is 100 l + i.
    let row = |lane: i64, part: i64| {
        let of = |i: i64| 100 * lane + 8 * part + i;
        std::arch::x86_64::_mm512_set_epi64(of(7), of(6), of(5), of(4), of(3), of(2), of(1), of(0))
    };
    let rows: [point::Row; LANES] =
        std::array::from_fn(|lane| std::array::from_fn(|part| row(lane as i64, part as i64)));
    let points = Points::load(&rows);
    for (at, field) in points.fields().iter().enumerate() {
        for (i, limb) in field.0.iter().enumerate() {
            let expected = std::array::from_fn(|lane| (100 * lane + LIMBS * at + i) as i64);
            assert_eq!(lanes_of(*limb), expected);
        }
    }
    for (row, stored) in rows.iter().zip(points.store()) {
        let limbs = |row: &point::Row| row.map(lanes_of).concat();
        assert_eq!(limbs(row)[..20], limbs(&stored)[..20]);
    }
    assert_eq!(Points::identity().plus(&Points::identity()).identities(), 0xff);
}

/// Checks that digits are small and add up to the scalar.
fn check_digits<const BITS: usize>(scalar: &[u8; 32], bits: usize) {
    let digits = Digits::of::<BITS>(scalar, bits).unwrap();
    let mut sum = [0_i64; 33];
    for (at, magnitude) in digits.magnitudes.iter().enumerate().take(256 / BITS) {
        assert!(usize::from(*magnitude) <= 1 << (BITS - 1));
        let sign = if digits.negative >> at & 1 == 1 { -1 } else { 1 };
        sum[at * BITS / 8] += (sign * i64::from(*magnitude)) << (at * BITS % 8);
    }
    let mut carry = 0;
    for (place, expected) in sum.iter().zip(scalar.iter().chain([&0])) {
        carry += place;
        assert_eq!(carry.rem_euclid(256), i64::from(*expected));
        carry = carry.div_euclid(256);
    }
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
    fn computes_as_schoolbook_arithmetic_does(
        a in prop::array::uniform8(loose()),
        b in prop::array::uniform8(loose()),
        mask: u8,
    ) {
        if are_available() {
            // SAFETY: the machine has the instructions.
            unsafe { check_field(&a, &b, mask) }
        }
    }

    #[test]
    fn digits_make_up_their_scalar(mut scalar: [u8; 32], short: bool, edge in 0_usize..8) {
        let edges = [0x80, 0x88, 0xff, 0x7f, 0x81, 0x08, 0x00];
        if let Some(edge) = edges.get(edge) {
            scalar = [*edge; 32];
        }
        let bits = if short { 128 } else { 256 };
        scalar[bits / 8..].fill(0);
        scalar[bits / 8 - 1] &= 0x7f;
        check_digits::<4>(&scalar, bits);
        check_digits::<8>(&scalar, bits);
        // Two bits more than there may be: the last digit has no room.
        scalar[bits / 8 - 1] |= 0x81;
        prop_assert!(Digits::of::<4>(&scalar, bits).is_none_or(|_| scalar[bits / 8 - 1] < 0x88));
        prop_assert!(Digits::of::<8>(&scalar, bits).is_none());
        if short {
            scalar[bits / 8 - 1] = 0;
            scalar[31] = 1;
            prop_assert!(Digits::of::<8>(&scalar, bits).is_none());
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
