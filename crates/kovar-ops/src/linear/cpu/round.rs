//! Activations rounded to 8 bits in blocks of 32.
use super::rows::{CHUNK, Lanes, Line, Shape};
use crate::simd::{Job, LANES, Simd};

/// Elements that share a scale.
pub(super) const BLOCK: usize = 32;
/// Largest magnitude of a code.
const LARGEST: f32 = 127.0;
/// Added to a number below 2^22, it leaves the nearest integer, halves to even, in the lowest bits.
const ROUND: f32 = 12_582_912.0;

/// A block: codes, the scale, and the sum of what the codes stand for.
#[derive(Clone, Copy)]
pub(super) struct Block {
    /// Each plus [`ROUND`]: the code is the lowest byte.
    codes: [f32; BLOCK],
    pub(super) scale: f32,
    pub(super) sum: f32,
}

impl Block {
    /// Rounds a block. What is not finite makes the scale not finite, and so all that comes of the block.
    #[inline(always)]
    pub(super) fn of<S: Simd>(simd: S, x: &[f32; BLOCK]) -> Block {
        let mut largest = 0u32;
        for x in x {
            // As integers, magnitudes are in the same order, and NaN is the largest.
            largest = largest.max(x.to_bits() & 0x7fff_ffff);
        }
        let largest = f32::from_bits(largest);
        // A block of the smallest subnormals has a quotient beyond f32: it is as good as zero.
        let inverse = if largest > 1e-36 { LARGEST / largest } else { 0.0 };
        let scale = largest / LARGEST;
        let mut codes = [0.0; BLOCK];
        // Sums of integers: exact in f32, in any order.
        let mut sum = simd.splat(0.0);
        for (codes, x) in codes.as_chunks_mut().0.iter_mut().zip(x.as_chunks().0) {
            let code = simd.add(simd.mul(simd.load(x), simd.splat(inverse)), simd.splat(ROUND));
            simd.store(code, codes);
            sum = simd.add(sum, simd.add(code, simd.splat(-ROUND)));
        }
        Block { codes, scale, sum: scale * simd.sum(sum) }
    }

    #[inline(always)]
    pub(super) fn codes(&self) -> [u8; BLOCK] {
        self.codes.map(|code| code.to_bits() as u8)
    }

    /// The codes of even index, then those of odd.
    #[inline(always)]
    pub(super) fn split(&self) -> [[u8; BLOCK / 2]; 2] {
        let (mut even, mut odd) = ([0; BLOCK / 2], [0; BLOCK / 2]);
        for (i, pair) in self.codes.as_chunks().0.iter().enumerate() {
            // Both in a word of 64 bits, which processors shorten to bytes by the vector.
            let [low, high] = pair.map(|code: f32| u64::from(code.to_bits()));
            let pair = low | high << 32;
            (even[i], odd[i]) = (pair as u8, (pair >> 32) as u8);
        }
        [even, odd]
    }
}

/// A row for products with the chunks of a matrix: what is multiplied with one lies as its codes do.
#[derive(Default)]
pub(super) struct Rounded {
    /// For each chunk the elements at its lower halves of bytes, then those at its upper halves; of 8 bits, the elements.
    /// Then the bits of the scale of each lane.
    pub(super) lines: Vec<Line>,
    /// The sum of each group.
    pub(super) sums: Vec<Lanes>,
}

/// Fills a `Rounded`.
pub(super) struct RoundVec<'a> {
    pub(super) shape: Shape,
    pub(super) x: &'a [f32],
    pub(super) to: &'a mut Rounded,
}

impl Job for RoundVec<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let RoundVec { shape, x, to } = self;
        let lines = 1 + 8 / shape.bits;
        to.lines.resize(shape.chunks() * lines, Line([0; CHUNK]));
        to.sums.resize(shape.scale_vectors(), Lanes([0.0; LANES]));
        let blocks = shape.per_chunk() / BLOCK;
        let bytes = CHUNK / blocks;
        // Powers of two: a shift in place of a division for each block.
        let per_group = (shape.group / BLOCK).trailing_zeros();
        for (chunk, (x, lines)) in x.chunks(shape.per_chunk()).zip(to.lines.chunks_exact_mut(lines)).enumerate() {
            for (b, x) in x.as_chunks::<BLOCK>().0.iter().enumerate() {
                let block = Block::of(simd, x);
                if shape.bits == 4 {
                    for (line, half) in lines.iter_mut().zip(block.split()) {
                        line.0[bytes * b..][..BLOCK / 2].copy_from_slice(&half);
                    }
                } else {
                    lines[0].0[bytes * b..][..BLOCK].copy_from_slice(&block.codes());
                }
                let scales = &mut lines[8 / shape.bits].0[bytes * b..][..bytes];
                scales.as_chunks_mut().0.fill(block.scale.to_le_bytes());
                let group = (chunk * blocks + b) >> per_group;
                to.sums[group / LANES].0[group % LANES] += block.sum;
            }
        }
    }
}
