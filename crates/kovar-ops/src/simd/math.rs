//! Scalar functions for plain loops, which the compiler turns into vector code of the level they are inlined into.

use super::{LANES, Simd};

/// `a · b + c`, in one rounding where that is one instruction.
#[inline(always)]
pub(crate) fn fma<S: Simd>(a: f32, b: f32, c: f32) -> f32 {
    if S::FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// The largest of all lanes.
#[inline(always)]
pub(crate) fn largest<S: Simd>(simd: S, a: S::F) -> f32 {
    let mut lanes = [0.0; LANES];
    simd.store(a, &mut lanes);
    let greater = |a: f32, b: f32| if a > b { a } else { b };
    let a: [f32; 8] = std::array::from_fn(|i| greater(lanes[i], lanes[i + 8]));
    let a: [f32; 4] = std::array::from_fn(|i| greater(a[i], a[i + 4]));
    greater(greater(a[0], a[2]), greater(a[1], a[3]))
}

/// Adding 1.5 · 2^23 rounds to an integer, which then stands in the low bits.
const ROUND: f32 = 12_582_912.0;

/// `e^r · 2^n` for |r| ≤ ln 2 / 2 and `rounded` = n + [`ROUND`]. Taylor's series to the 7th power leaves less than 6e-9.
#[inline(always)]
fn exp_parts<S: Simd>(r: f32, rounded: f32) -> f32 {
    let mut p = 1.0 / 5040.0;
    p = fma::<S>(p, r, 1.0 / 720.0);
    p = fma::<S>(p, r, 1.0 / 120.0);
    p = fma::<S>(p, r, 1.0 / 24.0);
    p = fma::<S>(p, r, 1.0 / 6.0);
    p = fma::<S>(p, r, 0.5);
    p = fma::<S>(p, r * r, r);
    let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(1.0f32.to_bits()));
    fma::<S>(p, power, power)
}

/// `eˣ` to 2 units in the last place between -87 and 88; beyond, the value at the nearer end. NaN stays NaN.
#[inline(always)]
pub(crate) fn exp<S: Simd>(x: f32) -> f32 {
    // ln 2 in two parts; the first has 9 significant bits, so that its products with n are exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let rounded = fma::<S>(x, std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    exp_parts::<S>(fma::<S>(n, -LN2_LOW, fma::<S>(n, -LN2_HIGH, x)), rounded)
}

/// `2ˣ` to 2 units in the last place between -126 and 127; below, 2^-126. Not for more.
#[inline(always)]
pub(crate) fn exp2<S: Simd>(x: f32) -> f32 {
    let x = if x < -126.0 { -126.0 } else { x };
    let rounded = x + ROUND;
    exp_parts::<S>((x - (rounded - ROUND)) * std::f32::consts::LN_2, rounded)
}

/// Sine and cosine to 1e-7 of an angle below 2^30.
///
/// The angle is taken modulo π/2 in f64, where π/2 has 53 bits; the series go to the 9th and 10th power.
#[inline(always)]
pub(crate) fn sin_cos<S: Simd>(angle: f32) -> (f32, f32) {
    const ROUND: f64 = 6_755_399_441_055_744.0; // 1.5 · 2^52
    let wide = f64::from(angle);
    let rounded = wide * std::f64::consts::FRAC_2_PI + ROUND;
    let r = (wide - (rounded - ROUND) * std::f64::consts::FRAC_PI_2) as f32;
    let quadrant = rounded.to_bits() as u32;
    let r2 = r * r;
    let mut s = 1.0 / 362_880.0;
    s = fma::<S>(s, r2, -1.0 / 5040.0);
    s = fma::<S>(s, r2, 1.0 / 120.0);
    s = fma::<S>(s, r2, -1.0 / 6.0);
    s = fma::<S>(s * r2, r, r);
    let mut c = -1.0 / 3_628_800.0;
    c = fma::<S>(c, r2, 1.0 / 40_320.0);
    c = fma::<S>(c, r2, -1.0 / 720.0);
    c = fma::<S>(c, r2, 1.0 / 24.0);
    c = fma::<S>(c, r2, -0.5);
    c = fma::<S>(c, r2, 1.0);
    let swap = quadrant & 1 == 1;
    let (sine, cosine) = if swap { (c, s) } else { (s, c) };
    let sine_sign = (quadrant & 2) << 30;
    let cosine_sign = (quadrant.wrapping_add(1) & 2) << 30;
    (f32::from_bits(sine.to_bits() ^ sine_sign), f32::from_bits(cosine.to_bits() ^ cosine_sign))
}

/// The value of a bf16 given by its bits.
#[inline(always)]
pub(crate) fn bf16_bits(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The value of an f16 given by its bits; exact, NaN stays NaN.
#[inline(always)]
pub(crate) fn f16_bits(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let rest = u32::from(bits & 0x7fff) << 13;
    // The exponents differ by 112; a product, unlike an addition to the exponent, is right for subnormals too.
    let finite = (f32::from_bits(rest) * f32::from_bits((127 + 112) << 23)).to_bits();
    let special = rest | 0x7f80_0000;
    f32::from_bits(sign | if bits & 0x7c00 == 0x7c00 { special } else { finite })
}

#[cfg(test)]
mod tests {
    use super::super::{Job, Level};
    use super::*;

    /// A function applied to many values.
    struct Map<'a> {
        x: &'a [f32],
        y: &'a mut [[f32; 2]],
        function: Function,
    }

    #[derive(Clone, Copy)]
    enum Function {
        Exp,
        Exp2,
        SinCos,
    }

    impl Job for Map<'_> {
        #[inline(always)]
        fn run<S: Simd>(self, _: S) {
            for (y, x) in self.y.iter_mut().zip(self.x) {
                *y = match self.function {
                    Function::Exp => [exp::<S>(*x); 2],
                    Function::Exp2 => [exp2::<S>(*x); 2],
                    Function::SinCos => sin_cos::<S>(*x).into(),
                }
            }
        }
    }

    /// Every level has an absolute or, for the exponentials, relative error below `most`.
    fn is_right(function: Function, x: &[f32], most: f64) {
        for level in Level::available() {
            let mut y = vec![[0.0; 2]; x.len()];
            level.run(Map { x, y: &mut y, function });
            for (x, y) in x.iter().zip(y) {
                let (exact, scale) = match function {
                    Function::Exp => ([f64::from(*x).exp(); 2], f64::from(*x).exp()),
                    Function::Exp2 => ([f64::from(*x).exp2(); 2], f64::from(*x).exp2()),
                    Function::SinCos => (f64::from(*x).sin_cos().into(), 1.0),
                };
                let error = (0..2).map(|i| (f64::from(y[i]) - exact[i]).abs() / scale).fold(0.0, f64::max);
                assert!(error < most, "of {x}: {y:?}, not {exact:?}");
            }
        }
    }

    #[test]
    fn exponentials_are_right_to_two_units() {
        let x: Vec<f32> = (-870_000..880_000).map(|i| i as f32 * 1e-4).collect();
        is_right(Function::Exp, &x, 2.4e-7);
        let x: Vec<f32> = (-1_260_000..1_270_000).map(|i| i as f32 * 1e-4).collect();
        is_right(Function::Exp2, &x, 2.4e-7);
    }

    #[test]
    fn exponentials_have_ends() {
        type Plain = super::super::plain::Plain;
        assert!(exp::<Plain>(f32::NAN).is_nan());
        assert!(exp::<Plain>(f32::NEG_INFINITY) < 2e-38 && exp::<Plain>(f32::INFINITY) > 1e38);
        assert_eq!(exp2::<Plain>(-1e30), f32::MIN_POSITIVE);
    }

    #[test]
    fn sine_and_cosine_are_right_for_large_angles() {
        let x: Vec<f32> = (0..400_000u32).map(|i| (f64::from(i) * 0.7).powf(1.5) as f32).collect();
        is_right(Function::SinCos, &x, 1.2e-7);
        let x: Vec<f32> = x.iter().map(|x| -x).collect();
        is_right(Function::SinCos, &x, 1.2e-7);
    }

    #[test]
    fn every_half_is_widened_exactly() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (f16_bits(bits), half::f16::from_bits(bits).to_f32());
            assert!(ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan()), "{bits:#06x}");
            let (ours, theirs) = (bf16_bits(bits), half::bf16::from_bits(bits).to_f32());
            assert!(ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan()), "{bits:#06x}");
        }
    }
}
