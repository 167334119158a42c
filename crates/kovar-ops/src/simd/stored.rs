//! Floats as files have them: little-endian, and at any byte, as nothing pads what stands before them.

use bytemuck::{Pod, Zeroable};

use super::{LANES, Simd, bf16_bits, f16_bits};

/// A float type that rows are stored in.
pub(crate) trait Stored: Pod + Send + Sync {
    fn load<S: Simd>(simd: S, from: &[Self; LANES]) -> S::F;
}

/// What kernels compute with is where it belongs.
impl Stored for f32 {
    #[inline(always)]
    fn load<S: Simd>(simd: S, from: &[f32; LANES]) -> S::F {
        simd.load(from)
    }
}

/// A type of weights, scales and biases. Each is bytes alone: a reference to it may point anywhere.
pub(crate) trait Weight: Stored {
    fn widen(self) -> f32;
}

/// An f32 at any byte.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(transparent)]
pub(crate) struct F32([u8; 4]);

/// An f16 at any byte.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(transparent)]
pub(crate) struct F16([u8; 2]);

/// A bf16 at any byte.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(transparent)]
pub(crate) struct Bf16([u8; 2]);

impl Stored for F32 {
    #[inline(always)]
    fn load<S: Simd>(simd: S, from: &[F32; LANES]) -> S::F {
        simd.of_bits(simd.bytes(bytemuck::cast_ref(from)))
    }
}

impl Stored for F16 {
    #[inline(always)]
    fn load<S: Simd>(simd: S, from: &[F16; LANES]) -> S::F {
        simd.load_f16(from)
    }
}

impl Stored for Bf16 {
    #[inline(always)]
    fn load<S: Simd>(simd: S, from: &[Bf16; LANES]) -> S::F {
        simd.load_bf16(from)
    }
}

impl Weight for F32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_le_bytes(self.0)
    }
}

impl Weight for F16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f16_bits(u16::from_le_bytes(self.0))
    }
}

impl Weight for Bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        bf16_bits(u16::from_le_bytes(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Job, Level};
    use super::*;

    /// Sixteen numbers that begin at each byte of a line, widened.
    struct AtEach<'a, T> {
        bytes: &'a [u8],
        place: fn(&[u8]) -> &[T],
        all: &'a mut Vec<[f32; LANES]>,
    }

    impl<T: Weight> Job for AtEach<'_, T> {
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            for at in 0..64 {
                let mut wide = [0.0; LANES];
                let stored = (self.place)(&self.bytes[at..][..LANES * size_of::<T>()]);
                if let Some(stored) = stored.first_chunk() {
                    simd.store(T::load(simd, stored), &mut wide);
                    assert_eq!(wide.map(f32::to_bits), stored.map(|x| x.widen().to_bits()), "byte {at}");
                }
                self.all.push(wide);
            }
        }
    }

    fn agrees<T: Weight>(number: impl Fn([u8; 4]) -> f32) {
        assert_eq!(align_of::<T>(), 1);
        // No exponent of all ones: what is not a number need not keep its bits.
        let bytes: Vec<u8> = (0..192u32).map(|i| (i * 37 % 59) as u8).collect();
        let size = size_of::<T>();
        for level in Level::available() {
            let mut all = Vec::new();
            level.run(AtEach::<T> { bytes: &bytes, place: bytemuck::cast_slice, all: &mut all });
            for (at, wide) in all.iter().enumerate() {
                for (i, wide) in wide.iter().enumerate() {
                    let mut raw = [0; 4];
                    raw[4 - size..].copy_from_slice(&bytes[at + i * size..][..size]);
                    assert_eq!(*wide, number(raw), "byte {at}, number {i}");
                }
            }
        }
    }

    #[test]
    fn weights_are_read_at_any_byte_on_every_level() {
        agrees::<F32>(f32::from_le_bytes);
        agrees::<Bf16>(f32::from_le_bytes);
        agrees::<F16>(|[_, _, low, high]| half::f16::from_le_bytes([low, high]).to_f32());
    }
}
