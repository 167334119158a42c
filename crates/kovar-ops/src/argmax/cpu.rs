use std::ops::Range;
use std::sync::Arc;

use kovar::{CpuDispatch, CpuKernel, Specialization};

use super::Constants;
use crate::simd::{Job, LANES, Level, Simd, largest};

/// Elements looked at together when searching for the place.
const BLOCK: usize = 4 * LANES;

struct Argmax(Level);

pub(super) fn argmax(_: Specialization<'_>) -> Result<Arc<dyn CpuKernel>, String> {
    Ok(Arc::new(Argmax(Level::best())))
}

pub(super) fn parts(_: Specialization<'_>) -> Result<Arc<dyn CpuKernel>, String> {
    Ok(Arc::new(Parts(Level::best())))
}

pub(super) fn choose(_: Specialization<'_>) -> Result<Arc<dyn CpuKernel>, String> {
    Ok(Arc::new(Choose))
}

struct Row<'a> {
    x: &'a [f32],
    place: &'a mut u32,
}

impl Job for Row<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (blocks, tail) = self.x.as_chunks::<BLOCK>();
        let mut most = [simd.splat(f32::NEG_INFINITY); BLOCK / LANES];
        for block in blocks {
            for (most, part) in most.iter_mut().zip(block.as_chunks().0) {
                *most = simd.max(simd.load(part), *most);
            }
        }
        let most = simd.max(simd.max(most[0], most[1]), simd.max(most[2], most[3]));
        let top = tail.iter().fold(largest(simd, most), |top, v| if *v > top { *v } else { top });
        let mut at = 0;
        for block in blocks {
            let mut found = false;
            for v in block {
                found |= *v == top;
            }
            if found {
                break;
            }
            at += BLOCK;
        }
        // Nothing equals the top if all is NaN.
        *self.place = self.x[at..].iter().position(|v| *v == top).map_or(0, |i| (at + i) as u32);
    }
}

impl CpuKernel for Argmax {
    fn tasks(&self, dispatch: &CpuDispatch<'_>) -> u32 {
        dispatch.constants::<Constants>().rows
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, tasks: Range<u32>) {
        let width = dispatch.constants::<Constants>().width as usize;
        let rows = tasks.start as usize..tasks.end as usize;
        let x = &dispatch.slice::<f32>(0)[rows.start * width..rows.end * width];
        // SAFETY: tasks write the rows that their numbers name, which do not overlap.
        let y = unsafe { dispatch.slice_mut::<u32>(1, rows) };
        y.iter_mut().zip(x.chunks_exact(width)).for_each(|(place, x)| self.0.run(Row { x, place }));
    }
}

struct Parts(Level);

/// Of the elements in the order of floats, where NaN is least of all and the zeros are equal.
fn key_of(x: f32) -> u32 {
    let bits = x.to_bits();
    let size = bits & 0x7fff_ffff;
    match x {
        x if x.is_nan() => 0,
        _ if bits > 0x8000_0000 => 0x8000_0000 - size,
        _ => 0x8000_0000 + size,
    }
}

impl CpuKernel for Parts {
    fn tasks(&self, dispatch: &CpuDispatch<'_>) -> u32 {
        let c = dispatch.constants::<Constants>();
        c.rows * c.parts
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, tasks: Range<u32>) {
        let Constants { width, parts, .. } = dispatch.constants();
        let each = width.div_ceil(parts);
        // SAFETY: tasks write the pairs that their numbers name, which do not overlap.
        let y = unsafe { dispatch.slice_mut::<u32>(1, tasks.start as usize * 2..tasks.end as usize * 2) };
        for (task, pair) in tasks.zip(y.as_chunks_mut::<2>().0) {
            let begin = (task % parts * each).min(width);
            let row = (task / parts * width) as usize;
            let x = &dispatch.slice::<f32>(0)[row..][begin as usize..(begin + each).min(width) as usize];
            let mut place = 0;
            self.0.run(Row { x, place: &mut place });
            // A part of nothing, or of nothing but NaN, has no best.
            let key = x.get(place as usize).map_or(0, |x| key_of(*x));
            *pair = [key, if key == 0 { u32::MAX } else { begin + place }];
        }
    }
}

struct Choose;

impl CpuKernel for Choose {
    fn tasks(&self, dispatch: &CpuDispatch<'_>) -> u32 {
        dispatch.constants::<Constants>().rows
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, tasks: Range<u32>) {
        let parts = dispatch.constants::<Constants>().parts as usize;
        let rows = tasks.start as usize..tasks.end as usize;
        let pairs = dispatch.slice::<u32>(0).as_chunks::<2>().0;
        // SAFETY: tasks write the rows that their numbers name, which do not overlap.
        let y = unsafe { dispatch.slice_mut::<u32>(1, rows.clone()) };
        for (row, place) in rows.zip(y) {
            let best = pairs[row * parts..][..parts].iter().copied().min_by_key(|[key, place]| (!key, *place));
            *place = best.map_or(0, |[_, place]| if place == u32::MAX { 0 } else { place });
        }
    }
}
