//! Products with rounded rows, and what stands around them, on the CPU.

use super::round::{RoundVec, Rounded};
use super::*;
use crate::activation::cpu::Chunk;
use crate::attention::combine_cpu::Combine;
use crate::linear::fast::{FastParams, Shape as Kind};
use crate::norm::cpu::Norm;

/// One kernel for all shapes: a task takes some rows, for which its thread has prepared x.
struct Fast<T> {
    level: Level,
    form: Affine,
    kind: Kind,
    norm: Option<Norm>,
    parts: Option<Combine>,
    stored: PhantomData<T>,
}

fn made<const LEVEL: usize>(constants: Specialization<'_>, kind: Kind) -> Made {
    let (level, form) = (level::<LEVEL>()?, Affine::new(constants)?);
    let norm = match kind {
        Kind::Plain | Kind::Add | Kind::Attended => None,
        Kind::Norm | Kind::Gated | Kind::Three => Some(Norm::of(constants)?),
    };
    let parts = if kind == Kind::Attended { Some(Combine::of(constants)?) } else { None };
    for_float!(form.float, T => Fast::<T> { level, form, kind, norm, parts, stored: PhantomData })
}

pub(in crate::linear) fn plain<const LEVEL: usize>(constants: Specialization<'_>) -> Made {
    made::<LEVEL>(constants, Kind::Plain)
}

pub(in crate::linear) fn add<const LEVEL: usize>(constants: Specialization<'_>) -> Made {
    made::<LEVEL>(constants, Kind::Add)
}

pub(in crate::linear) fn attended<const LEVEL: usize>(constants: Specialization<'_>) -> Made {
    made::<LEVEL>(constants, Kind::Attended)
}

pub(in crate::linear) fn norm<const LEVEL: usize>(constants: Specialization<'_>) -> Made {
    made::<LEVEL>(constants, Kind::Norm)
}

pub(in crate::linear) fn gated<const LEVEL: usize>(constants: Specialization<'_>) -> Made {
    made::<LEVEL>(constants, Kind::Gated)
}

pub(in crate::linear) fn three<const LEVEL: usize>(constants: Specialization<'_>) -> Made {
    made::<LEVEL>(constants, Kind::Three)
}

impl<T: Stored> Fast<T> {
    fn shape(&self, params: &FastParams, n: u32) -> Shape {
        Shape { n: n as usize, k: params.k as usize, bits: self.form.bits, group: self.form.group }
    }

    /// Rows of y that tasks divide among themselves: those of the matrices one after the other, of a gated pair together.
    fn cut(&self, params: &FastParams) -> VecCut {
        let more = if self.kind == Kind::Three { params.n1 + params.n2 } else { 0 };
        let shape = self.shape(params, params.n + more);
        VecCut::new(shape.n, shape.row_bytes() + 2 * shape.groups() * size_of::<T>(), TASK_ROWS)
    }

    /// The row of x, combined or normed if that is asked for, rounded.
    fn round(&self, dispatch: &CpuDispatch<'_>, params: &FastParams, row: usize) -> Rounded {
        let shape = self.shape(params, params.n);
        let mut rounded = Rounded::default();
        if let Some(parts) = self.parts {
            let width = shape.k / parts.size * parts.width();
            let mut x = vec![0.0; shape.k];
            parts.heads(&dispatch.slice::<f32>(0)[row * width..][..width], &mut x);
            self.level.run(RoundVec { shape, x: &x, to: &mut rounded });
            return rounded;
        }
        let x = &dispatch.slice::<f32>(0)[row * shape.k..][..shape.k];
        match self.norm {
            None => self.level.run(RoundVec { shape, x, to: &mut rounded }),
            Some(norm) => {
                let slot = match self.kind {
                    Kind::Gated => 8,
                    Kind::Three => 13,
                    _ => 5,
                };
                let mut normed = vec![0.0; shape.k];
                norm.rows((dispatch, slot), x, &mut normed, shape.k, params.eps);
                self.level.run(RoundVec { shape, x: &normed, to: &mut rounded });
            }
        }
        rounded
    }

    /// Products with rows of the matrix whose codes are in a slot.
    fn product(
        &self,
        (dispatch, slot): (&CpuDispatch<'_>, usize),
        shape: Shape,
        range: Range<usize>,
        x: &Rounded,
        y: &mut [f32],
    ) {
        let [codes, scales, biases] = [slot, slot + 1, slot + 2];
        let (codes, scales, biases) = (dispatch.slice(codes), dispatch.slice(scales), dispatch.slice(biases));
        let rows = &Rows::<T>::new(shape, range.clone(), codes, scales, biases);
        self.level.run(FastVec { rows, range, x, y });
    }
}

impl<T: Stored> CpuKernel for Fast<T> {
    fn tasks(&self, dispatch: &CpuDispatch<'_>) -> u32 {
        let params = dispatch.constants::<FastParams>();
        self.cut(&params).per_x() as u32 * params.m
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, tasks: Range<u32>) {
        let params = dispatch.constants::<FastParams>();
        let shape = self.shape(&params, params.n);
        self.cut(&params).each(tasks, |i, range| {
            let x = &prepared_row(dispatch, i, || self.round(dispatch, &params, i));
            if self.kind == Kind::Three {
                let mut first = 0;
                for (n, y, slot) in [(params.n, 1, 2), (params.n1, 11, 5), (params.n2, 12, 8)] {
                    let n = n as usize;
                    let part = range.start.max(first)..range.end.min(first + n);
                    if part.start < part.end {
                        let part = part.start - first..part.end - first;
                        // SAFETY: these elements of row i belong to the tasks that are run here.
                        let y = unsafe { dispatch.slice_mut::<f32>(y, i * n + part.start..i * n + part.end) };
                        self.product((dispatch, slot), Shape { n, ..shape }, part, x, y);
                    }
                    first += n;
                }
                return;
            }
            let at = i * shape.n + range.start..i * shape.n + range.end;
            // SAFETY: as above.
            let y = unsafe { dispatch.slice_mut::<f32>(1, at.clone()) };
            self.product((dispatch, 2), shape, range.clone(), x, y);
            match self.kind {
                Kind::Add | Kind::Attended => {
                    y.iter_mut().zip(&dispatch.slice::<f32>(5)[at]).for_each(|(y, other)| *y += other)
                }
                Kind::Gated => {
                    let gate = y.to_vec();
                    let mut up = vec![0.0; y.len()];
                    self.product((dispatch, 5), shape, range, x, &mut up);
                    self.level.run(Chunk { gate: &gate, up: &up, y });
                }
                _ => {}
            }
        });
    }
}
