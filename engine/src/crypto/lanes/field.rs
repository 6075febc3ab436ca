//! The field of 2^255 - 19, eight elements at a time.
//!
//! An element is five limbs of 51 bits. Every value of [`Field`] is *loose*: its limbs are below
//! 2^51 + 2^15, so that it may be a factor (the instructions multiply 52 bits by 52) and may be
//! taken from 2 p without a limb below zero. Each operation takes loose values and gives
//! loose ones; [`Field::frozen`] alone gives the one form below p that each residue has.
//!
//! Source of the multiplication: Gueron and Krasnov, "Software implementation of modular
//! exponentiation using AVX-512 IFMA", 2016; of the chain of squares: Bernstein, "Curve25519: new
//! Diffie-Hellman speed records", 2006.

use std::arch::x86_64::{
    __m512i, __mmask8, _mm512_add_epi64, _mm512_and_si512, _mm512_cmpeq_epi64_mask,
    _mm512_madd52hi_epu64, _mm512_madd52lo_epu64, _mm512_mask_blend_epi64, _mm512_mullo_epi64,
    _mm512_or_si512, _mm512_set_epi64, _mm512_set1_epi64, _mm512_setzero_si512, _mm512_srli_epi64,
    _mm512_sub_epi64, _mm512_test_epi64_mask,
};

/// Elements of a vector.
pub(super) const LANES: usize = 8;
/// Limbs of an element.
pub(super) const LIMBS: usize = 5;

const LIMB_BITS: u32 = 51;
const LIMB_MASK: i64 = (1 << LIMB_BITS) - 1;
/// Twice p, whose limbs are all above those of a loose element.
const TWO_P: [i64; LIMBS] =
    [(1 << 52) - 38, (1 << 52) - 2, (1 << 52) - 2, (1 << 52) - 2, (1 << 52) - 2];

/// d of the curve's equation, -121665 / 121666.
pub(super) const D: [i64; LIMBS] = [
    929_955_233_495_203,
    466_365_720_129_213,
    1_662_059_464_998_953,
    2_033_849_074_728_123,
    1_442_794_654_840_575,
];
/// The square root of -1 that is not negative.
pub(super) const SQRT_MINUS_ONE: [i64; LIMBS] = [
    1_718_705_420_411_056,
    234_908_883_556_509,
    2_233_514_472_574_048,
    2_117_202_627_021_982,
    765_476_049_583_133,
];

/// Eight elements, the same limb of all in a vector.
#[derive(Clone, Copy)]
pub(super) struct Field(pub(super) [__m512i; LIMBS]);

impl Field {
    /// The same element in each lane; limbs below 2^51.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn splat(limbs: [i64; LIMBS]) -> Self {
        let mut out = [_mm512_setzero_si512(); LIMBS];
        for i in 0..LIMBS {
            out[i] = _mm512_set1_epi64(limbs[i]);
        }
        Self(out)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn zero() -> Self {
        Self::splat([0; LIMBS])
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn one() -> Self {
        Self::splat([1, 0, 0, 0, 0])
    }

    /// The low 255 bits of each, as a number that may be p or more.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn read(encodings: &[[u8; 32]; LANES]) -> Self {
        let mut limbs = [[0; LANES]; LIMBS];
        for (lane, encoding) in encodings.iter().enumerate() {
            let (words, _) = encoding.as_chunks::<8>();
            let word = |i: usize| words.get(i).map_or(0, |w| u64::from_le_bytes(*w));
            let (a, b, c, d) = (word(0), word(1), word(2), word(3));
            let parts =
                [a, (a >> 51) | (b << 13), (b >> 38) | (c << 26), (c >> 25) | (d << 39), d >> 12];
            for i in 0..LIMBS {
                limbs[i][lane] = (parts[i] & LIMB_MASK.cast_unsigned()).cast_signed();
            }
        }
        let mut out = [_mm512_setzero_si512(); LIMBS];
        for i in 0..LIMBS {
            let [a, b, c, d, e, f, g, h] = limbs[i];
            out[i] = _mm512_set_epi64(h, g, f, e, d, c, b, a);
        }
        Self(out)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn add(&self, other: &Self) -> Self {
        let mut sum = self.0;
        for i in 0..LIMBS {
            sum[i] = _mm512_add_epi64(sum[i], other.0[i]);
        }
        Self::carried(sum)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn sub(&self, other: &Self) -> Self {
        let mut difference = self.0;
        for i in 0..LIMBS {
            let above = _mm512_add_epi64(difference[i], _mm512_set1_epi64(TWO_P[i]));
            difference[i] = _mm512_sub_epi64(above, other.0[i]);
        }
        Self::carried(difference)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn neg(&self) -> Self {
        Self::zero().sub(self)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn mul(&self, other: &Self) -> Self {
        let (a, b) = (&self.0, &other.0);
        // A product has 104 bits: the low 52 have the weight of the limbs' sum, the high ones
        // 2^52 times as much, which is twice that of the next limb.
        let mut low = [_mm512_setzero_si512(); 2 * LIMBS];
        let mut high = [_mm512_setzero_si512(); 2 * LIMBS];
        for i in 0..LIMBS {
            for j in 0..LIMBS {
                low[i + j] = _mm512_madd52lo_epu64(low[i + j], a[i], b[j]);
                high[i + j + 1] = _mm512_madd52hi_epu64(high[i + j + 1], a[i], b[j]);
            }
        }
        for i in 0..2 * LIMBS {
            low[i] = _mm512_add_epi64(low[i], double(high[i]));
        }
        Self::folded(low)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn square(&self) -> Self {
        let a = &self.0;
        // As in `mul`; products of two different limbs come twice.
        let mut once = [_mm512_setzero_si512(); 2 * LIMBS];
        let mut twice = [_mm512_setzero_si512(); 2 * LIMBS];
        let mut four_times = [_mm512_setzero_si512(); 2 * LIMBS];
        for i in 0..LIMBS {
            once[2 * i] = _mm512_madd52lo_epu64(once[2 * i], a[i], a[i]);
            twice[2 * i + 1] = _mm512_madd52hi_epu64(twice[2 * i + 1], a[i], a[i]);
            for j in i + 1..LIMBS {
                twice[i + j] = _mm512_madd52lo_epu64(twice[i + j], a[i], a[j]);
                four_times[i + j + 1] = _mm512_madd52hi_epu64(four_times[i + j + 1], a[i], a[j]);
            }
        }
        for i in 0..2 * LIMBS {
            let pairs = _mm512_add_epi64(twice[i], double(four_times[i]));
            once[i] = _mm512_add_epi64(once[i], double(pairs));
        }
        Self::folded(once)
    }

    /// The square of the square and so on, `count` times.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn squared(&self, count: usize) -> Self {
        let mut value = *self;
        for _ in 0..count {
            value = value.square();
        }
        value
    }

    /// Ten sums of products, each below 2^56, modulo p: 2^255 counts 19.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn folded(sums: [__m512i; 2 * LIMBS]) -> Self {
        let mut limbs = [_mm512_setzero_si512(); LIMBS];
        for i in 0..LIMBS {
            let above = _mm512_mullo_epi64(sums[i + LIMBS], _mm512_set1_epi64(19));
            limbs[i] = _mm512_add_epi64(sums[i], above);
        }
        Self::carried(limbs)
    }

    /// What is above 51 bits of each limb, added to the next one. From limbs below 2^61, so that
    /// at most 19 times 2^10 is added to a limb of 51 bits.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn carried(limbs: [__m512i; LIMBS]) -> Self {
        let mask = _mm512_set1_epi64(LIMB_MASK);
        let [a, b, c, d, e] = limbs;
        let over = |limb| _mm512_srli_epi64::<LIMB_BITS>(limb);
        let rest = |limb| _mm512_and_si512(limb, mask);
        Self([
            _mm512_madd52lo_epu64(rest(a), over(e), _mm512_set1_epi64(19)),
            _mm512_add_epi64(rest(b), over(a)),
            _mm512_add_epi64(rest(c), over(b)),
            _mm512_add_epi64(rest(d), over(c)),
            _mm512_add_epi64(rest(e), over(d)),
        ])
    }

    /// The limbs of the residue below p.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn frozen(&self) -> [__m512i; LIMBS] {
        let mask = _mm512_set1_epi64(LIMB_MASK);
        let nineteen = _mm512_set1_epi64(19);
        let mut limbs = self.0;
        // Twice: what is above the highest limb comes back at the lowest, which then may be above; the
        // highest can be above only once.
        for _ in 0..2 {
            for i in 0..LIMBS - 1 {
                let over = _mm512_srli_epi64::<LIMB_BITS>(limbs[i]);
                limbs[i + 1] = _mm512_add_epi64(limbs[i + 1], over);
                limbs[i] = _mm512_and_si512(limbs[i], mask);
            }
            let over = _mm512_srli_epi64::<LIMB_BITS>(limbs[LIMBS - 1]);
            limbs[LIMBS - 1] = _mm512_and_si512(limbs[LIMBS - 1], mask);
            limbs[0] = _mm512_madd52lo_epu64(limbs[0], over, nineteen);
        }
        // 1 if it is p or more: then 19 more do not fit into 255 bits.
        let mut over = nineteen;
        for limb in limbs {
            over = _mm512_srli_epi64::<LIMB_BITS>(_mm512_add_epi64(limb, over));
        }
        limbs[0] = _mm512_madd52lo_epu64(limbs[0], over, nineteen);
        for i in 0..LIMBS - 1 {
            let over = _mm512_srli_epi64::<LIMB_BITS>(limbs[i]);
            limbs[i + 1] = _mm512_add_epi64(limbs[i + 1], over);
            limbs[i] = _mm512_and_si512(limbs[i], mask);
        }
        limbs[LIMBS - 1] = _mm512_and_si512(limbs[LIMBS - 1], mask);
        limbs
    }

    /// The lanes that are zero modulo p.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn zeros(&self) -> __mmask8 {
        let [a, b, c, d, e] = self.frozen();
        let any = _mm512_or_si512(_mm512_or_si512(_mm512_or_si512(a, b), _mm512_or_si512(c, d)), e);
        _mm512_cmpeq_epi64_mask(any, _mm512_setzero_si512())
    }

    /// The lanes that are equal modulo p.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn equal(&self, other: &Self) -> __mmask8 {
        self.sub(other).zeros()
    }

    /// The lanes whose residue is odd, which is to say negative.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn negatives(&self) -> __mmask8 {
        let [lowest, ..] = self.frozen();
        _mm512_test_epi64_mask(lowest, _mm512_set1_epi64(1))
    }

    /// `other` in the lanes of the mask, else `self`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn or_in(&self, mask: __mmask8, other: &Self) -> Self {
        let mut out = self.0;
        for i in 0..LIMBS {
            out[i] = _mm512_mask_blend_epi64(mask, out[i], other.0[i]);
        }
        Self(out)
    }

    /// To the power of (p - 5) / 8 = 2^252 - 3.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn raised_to_p58(&self) -> Self {
        let two = self.square();
        let nine = two.squared(2).mul(self);
        let eleven = nine.mul(&two);
        // `ones_n` is the power of 2^n - 1.
        let ones_5 = eleven.square().mul(&nine);
        let ones_10 = ones_5.squared(5).mul(&ones_5);
        let ones_20 = ones_10.squared(10).mul(&ones_10);
        let ones_40 = ones_20.squared(20).mul(&ones_20);
        let ones_50 = ones_40.squared(10).mul(&ones_10);
        let ones_100 = ones_50.squared(50).mul(&ones_50);
        let ones_200 = ones_100.squared(100).mul(&ones_100);
        let ones_250 = ones_200.squared(50).mul(&ones_50);
        ones_250.squared(2).mul(self)
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn double(a: __m512i) -> __m512i {
    _mm512_add_epi64(a, a)
}
