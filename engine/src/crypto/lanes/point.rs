//! Points of the curve, eight at a time.
//!
//! Formulas: Hisil, Wong, Carter and Dawson, "Twisted Edwards Curves Revisited", 2008. The addition
//! is complete for a = -1: it holds for every two points, equal or of small order or not.

use std::arch::x86_64::{
    __m512i, __mmask8, _mm512_permutexvar_epi64, _mm512_setzero_si512, _mm512_shuffle_i64x2,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi64,
};

use super::field::{D, Field, LANES, LIMBS, SQRT_MINUS_ONE};

/// One point as it lies in memory: x, y, z, t, limb after limb.
pub(super) type Row = [__m512i; 3];

/// Eight points in extended coordinates: x / z, y / z, and t = x y / z.
#[derive(Clone, Copy)]
pub(in crate::crypto) struct Points {
    x: Field,
    y: Field,
    z: Field,
    t: Field,
}

/// What of an affine point an addition needs.
#[derive(Clone, Copy)]
pub(super) struct Addends {
    pub(super) y_plus_x: Field,
    pub(super) y_minus_x: Field,
    /// 2 d x y.
    pub(super) xy2d: Field,
}

impl Addends {
    /// Reads eight encodings as ZIP-215 does: any y, and either sign where x is 0. Gives the lanes
    /// that are points; the others hold no point.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn decompress(encodings: &[[u8; 32]; LANES]) -> (Self, __mmask8) {
        let y = Field::read(encodings);
        let mut signs: __mmask8 = 0;
        for (lane, encoding) in encodings.iter().enumerate() {
            signs |= (encoding[31] >> 7) << lane;
        }
        // x^2 = u / v; its root is u v^3 (u v^7)^((p - 5) / 8), or that times the root of -1.
        let yy = y.square();
        let u = yy.sub(&Field::one());
        let v = yy.mul(&Field::splat(D)).add(&Field::one());
        let v3 = v.square().mul(&v);
        let uv3 = u.mul(&v3);
        let power = uv3.mul(&v3.mul(&v)).raised_to_p58();
        let root = uv3.mul(&power);
        let vxx = root.square().mul(&v);
        let right = vxx.equal(&u);
        let turned = vxx.equal(&u.neg());
        let x = root.or_in(turned, &root.mul(&Field::splat(SQRT_MINUS_ONE)));
        let x = x.or_in(x.negatives() ^ signs, &x.neg());
        let xyd = x.mul(&y).mul(&Field::splat(D));
        let addends = Self { y_plus_x: y.add(&x), y_minus_x: y.sub(&x), xy2d: xyd.add(&xyd) };
        (addends, right | turned)
    }

    /// The points' negatives in the lanes of the mask.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn negated_in(&self, mask: __mmask8, minus_xy2d: &Field) -> Self {
        Self {
            y_plus_x: self.y_plus_x.or_in(mask, &self.y_minus_x),
            y_minus_x: self.y_minus_x.or_in(mask, &self.y_plus_x),
            xy2d: self.xy2d.or_in(mask, minus_xy2d),
        }
    }
}

impl Points {
    #[cfg(test)]
    pub(super) const fn fields(&self) -> [&Field; 4] {
        [&self.x, &self.y, &self.z, &self.t]
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn identity() -> Self {
        Self { x: Field::zero(), y: Field::one(), z: Field::one(), t: Field::zero() }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn plus_affine(&self, other: &Addends) -> Self {
        let a = self.y.sub(&self.x).mul(&other.y_minus_x);
        let b = self.y.add(&self.x).mul(&other.y_plus_x);
        let c = self.t.mul(&other.xy2d);
        let d = self.z.add(&self.z);
        Self::completed(&b.sub(&a), &d.sub(&c), &d.add(&c), &b.add(&a))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn plus(&self, other: &Self) -> Self {
        let a = self.y.sub(&self.x).mul(&other.y.sub(&other.x));
        let b = self.y.add(&self.x).mul(&other.y.add(&other.x));
        let td = self.t.mul(&other.t).mul(&Field::splat(D));
        let c = td.add(&td);
        let zz = self.z.mul(&other.z);
        let d = zz.add(&zz);
        Self::completed(&b.sub(&a), &d.sub(&c), &d.add(&c), &b.add(&a))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn neg(&self) -> Self {
        Self { x: self.x.neg(), y: self.y, z: self.z, t: self.t.neg() }
    }

    /// 2^`count` times each point.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn doubled(&self, count: usize) -> Self {
        let mut points = *self;
        for _ in 0..count {
            let (a, b, zz) = (points.x.square(), points.y.square(), points.z.square());
            let c = zz.add(&zz);
            let h = a.add(&b);
            let e = h.sub(&points.x.add(&points.y).square());
            let g = a.sub(&b);
            points = Self::completed(&e, &c.add(&g), &g, &h);
        }
        points
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    fn completed(e: &Field, f: &Field, g: &Field, h: &Field) -> Self {
        Self { x: e.mul(f), y: g.mul(h), z: f.mul(g), t: e.mul(h) }
    }

    /// The lanes that are the identity. No lane of a point has z = 0; if one had, it would not count.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn identities(&self) -> __mmask8 {
        self.x.zeros() & self.y.equal(&self.z) & !self.z.zeros()
    }

    /// The points with each lane holding what is in the lane that `lanes` names.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn rearranged(&self, lanes: __m512i) -> Self {
        let mut out = *self;
        for field in [&mut out.x, &mut out.y, &mut out.z, &mut out.t] {
            for limb in &mut field.0 {
                *limb = _mm512_permutexvar_epi64(lanes, *limb);
            }
        }
        out
    }

    /// Eight points from memory.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn load(rows: &[Row; LANES]) -> Self {
        let mut limbs = [_mm512_setzero_si512(); 3 * LANES];
        for part in 0..3 {
            let mut square = [_mm512_setzero_si512(); LANES];
            for lane in 0..LANES {
                square[lane] = rows[lane][part];
            }
            let square = transposed(&square);
            for i in 0..LANES {
                limbs[part * LANES + i] = square[i];
            }
        }
        let mut fields = [Field::zero(); 4];
        for (at, field) in fields.iter_mut().enumerate() {
            for i in 0..LIMBS {
                field.0[i] = limbs[at * LIMBS + i];
            }
        }
        let [x, y, z, t] = fields;
        Self { x, y, z, t }
    }

    /// Eight points as they lie in memory.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
    pub(super) fn store(&self) -> [Row; LANES] {
        let mut limbs = [_mm512_setzero_si512(); 3 * LANES];
        for (at, field) in [&self.x, &self.y, &self.z, &self.t].into_iter().enumerate() {
            for i in 0..LIMBS {
                limbs[at * LIMBS + i] = field.0[i];
            }
        }
        let mut rows = [[_mm512_setzero_si512(); 3]; LANES];
        for part in 0..3 {
            let mut square = [_mm512_setzero_si512(); LANES];
            for i in 0..LANES {
                square[i] = limbs[part * LANES + i];
            }
            let square = transposed(&square);
            for lane in 0..LANES {
                rows[lane][part] = square[lane];
            }
        }
        rows
    }
}

/// Eight vectors of eight numbers, rows and columns changed.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn transposed(rows: &[__m512i; LANES]) -> [__m512i; LANES] {
    let [a, b, c, d, e, f, g, h] = *rows;
    let [even_0, even_2, even_4, even_6] = transposed_pairs([
        _mm512_unpacklo_epi64(a, b),
        _mm512_unpacklo_epi64(c, d),
        _mm512_unpacklo_epi64(e, f),
        _mm512_unpacklo_epi64(g, h),
    ]);
    let [odd_1, odd_3, odd_5, odd_7] = transposed_pairs([
        _mm512_unpackhi_epi64(a, b),
        _mm512_unpackhi_epi64(c, d),
        _mm512_unpackhi_epi64(e, f),
        _mm512_unpackhi_epi64(g, h),
    ]);
    [even_0, odd_1, even_2, odd_3, even_4, odd_5, even_6, odd_7]
}

/// Four vectors of four pairs, rows and columns changed.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn transposed_pairs([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    // The pairs 0 and 2 of each, or 1 and 3.
    const EVEN: i32 = 0b10_00_10_00;
    const ODD: i32 = 0b11_01_11_01;
    let ab_even = _mm512_shuffle_i64x2::<EVEN>(a, b);
    let ab_odd = _mm512_shuffle_i64x2::<ODD>(a, b);
    let cd_even = _mm512_shuffle_i64x2::<EVEN>(c, d);
    let cd_odd = _mm512_shuffle_i64x2::<ODD>(c, d);
    [
        _mm512_shuffle_i64x2::<EVEN>(ab_even, cd_even),
        _mm512_shuffle_i64x2::<EVEN>(ab_odd, cd_odd),
        _mm512_shuffle_i64x2::<ODD>(ab_even, cd_even),
        _mm512_shuffle_i64x2::<ODD>(ab_odd, cd_odd),
    ]
}
