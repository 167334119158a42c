use std::ops::Range;
use std::sync::Arc;

use kovar::{CpuDispatch, CpuKernel, Specialization};

use super::{CHAINS, Rounds};
use crate::check::Length;
use crate::cpu::{chunk, chunks};
use crate::simd::{Job, LANES, Level, Simd, load_some};

type Made = Result<Arc<dyn CpuKernel>, String>;

/// Elements of y of a task.
const TASK: usize = 256;
/// Bytes of the factors, the same in every lane.
const FACTORS: [u8; 4] = 0x0102_0301u32.to_le_bytes();
/// Bytes ahead of those being added that are asked for.
const AHEAD: usize = 4096;
/// Chains that fit the registers of a level at a time, next to what they are multiplied with.
const NARROW: usize = 4;

struct Read(Level);
struct Fma(Level);
struct Dot(Level);

pub(super) fn read(_: Specialization<'_>) -> Made {
    Ok(Arc::new(Read(Level::best())))
}

pub(super) fn fma(_: Specialization<'_>) -> Made {
    Ok(Arc::new(Fma(Level::best())))
}

pub(super) fn dot(_: Specialization<'_>) -> Made {
    Ok(Arc::new(Dot(Level::best())))
}

impl CpuKernel for Read {
    fn tasks(&self, dispatch: &CpuDispatch<'_>) -> u32 {
        dispatch.groups()[0] * TASK as u32
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, tasks: Range<u32>) {
        let Length { n } = dispatch.constants();
        let (n, parts) = (n as usize * 4, self.tasks(dispatch) as usize);
        let each = n.div_ceil(parts);
        for task in tasks.start as usize..tasks.end as usize {
            let part = &dispatch.slice_range::<f32>(0, (task * each).min(n)..((task + 1) * each).min(n));
            // SAFETY: each task has an element of its own.
            let y = unsafe { dispatch.slice_mut::<f32>(1, task..task + 1) };
            self.0.run(Sum { part, y });
        }
    }
}

struct Sum<'a> {
    part: &'a [f32],
    y: &'a mut [f32],
}

impl Job for Sum<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let mut sums = [simd.splat(0.0); NARROW];
        let (blocks, rest) = self.part.as_chunks::<{ NARROW * LANES }>();
        for block in blocks {
            for (sum, lanes) in sums.iter_mut().zip(block.as_chunks::<LANES>().0) {
                simd.prefetch(lanes.as_ptr().cast::<u8>().wrapping_add(AHEAD));
                *sum = simd.add(*sum, simd.load(lanes));
            }
        }
        for lanes in rest.chunks(LANES) {
            sums[0] = simd.add(sums[0], load_some(simd, lanes));
        }
        self.y[0] = simd.sum(simd.add(simd.add(sums[0], sums[1]), simd.add(sums[2], sums[3])));
    }
}

impl CpuKernel for Fma {
    fn tasks(&self, dispatch: &CpuDispatch<'_>) -> u32 {
        chunks(dispatch.byte_len(0) / 4, TASK)
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, tasks: Range<u32>) {
        let range = chunk(tasks, TASK, dispatch.byte_len(0) / 4);
        let first = range.start;
        // SAFETY: tasks write the chunks that their numbers name, which do not overlap.
        let y = unsafe { dispatch.slice_mut::<f32>(0, range) };
        self.0.run(Chains { constants: dispatch.constants(), first, y });
    }
}

struct Chains<'a> {
    constants: Rounds,
    first: usize,
    y: &'a mut [f32],
}

impl Job for Chains<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Rounds { rounds, factor, summand } = self.constants;
        let (factor, summand) = (simd.splat(factor), simd.splat(summand));
        for (lanes, first) in self.y.as_chunks_mut::<LANES>().0.iter_mut().zip((self.first..).step_by(LANES)) {
            let start =
                |chain: usize| simd.load(&std::array::from_fn(|i| ((first + i) % 97) as f32 / 97.0 + chain as f32));
            let mut a: [S::F; CHAINS as usize] = std::array::from_fn(start);
            if S::WIDE {
                for _ in 0..rounds {
                    a.iter_mut().for_each(|a| *a = simd.fma(*a, factor, summand));
                }
            } else {
                for half in a.as_chunks_mut::<NARROW>().0 {
                    for _ in 0..rounds {
                        half.iter_mut().for_each(|a| *a = simd.fma(*a, factor, summand));
                    }
                }
            }
            let [a, b, c, d, e, f, g, h] = a;
            let left = simd.add(simd.add(a, b), simd.add(c, d));
            simd.store(simd.add(left, simd.add(simd.add(e, f), simd.add(g, h))), lanes);
        }
    }
}

impl CpuKernel for Dot {
    fn tasks(&self, dispatch: &CpuDispatch<'_>) -> u32 {
        chunks(dispatch.byte_len(0) / 4, TASK)
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, tasks: Range<u32>) {
        let range = chunk(tasks, TASK, dispatch.byte_len(0) / 4);
        let first = range.start;
        // SAFETY: tasks write the chunks that their numbers name, which do not overlap.
        let y = unsafe { dispatch.slice_mut::<u32>(0, range) };
        self.0.run(Bytes { rounds: dispatch.constants(), first, y });
    }
}

struct Bytes<'a> {
    rounds: u32,
    first: usize,
    y: &'a mut [u32],
}

impl Job for Bytes<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let factors = simd.splat_word(FACTORS);
        for (lanes, first) in self.y.as_chunks_mut::<LANES>().0.iter_mut().zip((self.first..).step_by(LANES)) {
            let word =
                |i: usize, chain: usize| ((first + i) as u32).wrapping_mul(0x9e37_79b9).wrapping_add(chain as u32);
            let start = |chain| -> [u32; LANES] { std::array::from_fn(|i| word(i, chain)) };
            let mut sums: [S::Sums; CHAINS as usize] =
                std::array::from_fn(|chain| simd.of_words(simd.bytes(&bytemuck::cast(start(chain)))));
            for _ in 0..self.rounds {
                let old = sums;
                for (chain, sum) in sums.iter_mut().enumerate() {
                    *sum = simd.dot8(*sum, factors, simd.words(old[(chain + 1) % CHAINS as usize]));
                }
            }
            *lanes = [0; LANES];
            for sum in sums {
                let mut bytes = [0u8; 4 * LANES];
                simd.store_bytes(simd.words(sum), &mut bytes);
                let words: [u32; LANES] = bytemuck::cast(bytes);
                lanes.iter_mut().zip(words).for_each(|(y, word)| *y ^= word);
            }
        }
    }
}
