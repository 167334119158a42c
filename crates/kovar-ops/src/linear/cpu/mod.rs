//! The products on the CPU.

mod dense;
mod mat;
mod mat_fast;
mod round;
mod rows;
mod vec;

use std::cell::{RefCell, RefMut};
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use kovar::{CpuDispatch, CpuKernel, Specialization};

use self::mat::{DensePanel, PanelMat};
use self::mat_fast::{PanelFast, Piece, RoundRows, WIDTH};
use self::rows::{Rows, Shape};
use self::vec::{ExactVec, FastVec, SpreadVec};
use super::Params;
use super::weights::{Affine, Float};
use crate::simd::{Bf16, F16, F32, LANES, Level, Stored};

/// Bytes of the matrix that a task of one row of x reads: about a microsecond, so that all threads end together.
const TASK_BYTES: usize = 16 << 10;
/// Rows of a quantised matrix that a task takes at least.
const TASK_ROWS: usize = 16;
/// Rows of x that a task of many takes at most.
const TASK_X: usize = 128;
/// Rows of x that a task rounds.
const ROUND_X: usize = 4;

/// A kernel for the type that scales and biases, or dense weights, are stored in.
macro_rules! for_float {
    ($float:expr, $stored:ident => $kernel:expr) => {
        Ok(match $float {
            Float::F32 => {
                type $stored = F32;
                Arc::new($kernel)
            }
            Float::F16 => {
                type $stored = F16;
                Arc::new($kernel)
            }
            Float::BF16 => {
                type $stored = Bf16;
                Arc::new($kernel)
            }
        })
    };
}

// Below the macro that it uses.
pub(super) mod fast;

type Made = Result<Arc<dyn CpuKernel>, String>;

/// The instructions to use: the best are 0.
fn level<const LEVEL: usize>() -> Result<Level, String> {
    Level::available().get(LEVEL).copied().ok_or_else(|| format!("this processor has no instruction set {LEVEL}"))
}

pub(super) fn affine_vec<const LEVEL: usize>(constants: Specialization<'_>) -> Made {
    let (level, form) = (level::<LEVEL>()?, Affine::new(constants)?);
    for_float!(form.float, T => AffineVec::<T> { level, form, stored: PhantomData })
}

pub(super) fn affine_mat<const LEVEL: usize>(constants: Specialization<'_>) -> Made {
    let (level, form) = (level::<LEVEL>()?, Affine::new(constants)?);
    for_float!(form.float, T => AffineMat::<T> { level, form, stored: PhantomData })
}

pub(super) fn affine_mat_fast<const LEVEL: usize>(constants: Specialization<'_>) -> Made {
    let (level, form) = (level::<LEVEL>()?, Affine::new(constants)?);
    for_float!(form.float, T => AffineMatFast::<T> { level, form, stored: PhantomData })
}

pub(super) fn round<const LEVEL: usize>(constants: Specialization<'_>) -> Made {
    let bits = super::weights::constant(constants, "BITS")? as usize;
    let group = super::weights::constant(constants, "GROUP")? as usize;
    Ok(Arc::new(Round { level: level::<LEVEL>()?, bits, group }))
}

pub(super) fn dense_vec<const LEVEL: usize>(constants: Specialization<'_>) -> Made {
    let level = level::<LEVEL>()?;
    for_float!(Float::of(constants)?, T => DenseVec::<T> { level, stored: PhantomData })
}

pub(super) fn dense_mat<const LEVEL: usize>(constants: Specialization<'_>) -> Made {
    let level = level::<LEVEL>()?;
    for_float!(Float::of(constants)?, T => DenseMat::<T> { level, stored: PhantomData })
}

struct AffineVec<T> {
    level: Level,
    form: Affine,
    stored: PhantomData<T>,
}

struct AffineMat<T> {
    level: Level,
    form: Affine,
    stored: PhantomData<T>,
}

struct AffineMatFast<T> {
    level: Level,
    form: Affine,
    stored: PhantomData<T>,
}

struct Round {
    level: Level,
    bits: usize,
    group: usize,
}

struct DenseVec<T> {
    level: Level,
    stored: PhantomData<T>,
}

struct DenseMat<T> {
    level: Level,
    stored: PhantomData<T>,
}

impl Affine {
    fn shape(&self, params: &Params) -> Shape {
        Shape { n: params.n as usize, k: params.k as usize, bits: self.bits, group: self.group }
    }
}

fn rows_of<'a, T: Stored>(dispatch: &CpuDispatch<'a>, shape: Shape, range: Range<usize>) -> Rows<'a, T> {
    Rows::new(shape, range, dispatch.slice(2), dispatch.slice(3), dispatch.slice(4))
}

/// Tasks of one row of x each: the row, and what rows of the matrix.
struct VecCut {
    n: usize,
    rows: usize,
}

impl VecCut {
    fn new(n: usize, row_bytes: usize, least: usize) -> VecCut {
        VecCut { n, rows: (TASK_BYTES / row_bytes).max(least).next_multiple_of(4) }
    }

    fn per_x(&self) -> usize {
        self.n.div_ceil(self.rows)
    }

    /// Calls `run` with a row of x and consecutive rows of the matrix, as many at a time as the tasks allow.
    fn each(&self, tasks: Range<u32>, mut run: impl FnMut(usize, Range<usize>)) {
        let (mut task, end) = (tasks.start as usize, tasks.end as usize);
        while task < end {
            let (x, first) = (task / self.per_x(), task % self.per_x());
            let count = (end - task).min(self.per_x() - first);
            run(x, first * self.rows..((first + count) * self.rows).min(self.n));
            task += count;
        }
    }
}

/// Row `i` of x as a thread prepares it for all tasks that need it.
fn prepared_row<'a, T: 'static>(dispatch: &CpuDispatch<'a>, i: usize, make: impl FnOnce() -> T) -> RefMut<'a, T> {
    let kept = dispatch.prepared(RefCell::<Option<(usize, T)>>::default).borrow_mut();
    RefMut::map(kept, |kept| {
        let row = match kept.take() {
            Some(row) if row.0 == i => row,
            _ => (i, make()),
        };
        &mut kept.insert(row).1
    })
}

impl<T: Stored> AffineVec<T> {
    fn cut(&self, params: &Params) -> VecCut {
        let shape = self.form.shape(params);
        VecCut::new(shape.n, shape.row_bytes() + 2 * shape.groups() * size_of::<T>(), TASK_ROWS)
    }
}

impl<T: Stored> CpuKernel for AffineVec<T> {
    fn tasks(&self, dispatch: &CpuDispatch<'_>) -> u32 {
        let params = dispatch.constants::<Params>();
        self.cut(&params).per_x() as u32 * params.m
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, tasks: Range<u32>) {
        let params = dispatch.constants::<Params>();
        let shape = self.form.shape(&params);
        let all_x = dispatch.slice::<f32>(0);
        self.cut(&params).each(tasks, |i, range| {
            let x = &all_x[i * shape.k..][..shape.k];
            let rows = &rows_of::<T>(dispatch, shape, range.clone());
            // SAFETY: these elements of row i belong to the tasks that are run here.
            let y = unsafe { dispatch.slice_mut::<f32>(1, i * shape.n + range.start..i * shape.n + range.end) };
            let x = &prepared_row(dispatch, i, || {
                let mut spread = vec::Spread::default();
                self.level.run(SpreadVec { shape, x, to: &mut spread });
                spread
            });
            self.level.run(ExactVec { rows, range, x, y });
        });
    }
}

impl<T: Stored> CpuKernel for DenseVec<T> {
    fn tasks(&self, dispatch: &CpuDispatch<'_>) -> u32 {
        let Params { m, n, k } = dispatch.constants();
        VecCut::new(n as usize, k as usize * size_of::<T>(), 4).per_x() as u32 * m
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, tasks: Range<u32>) {
        let Params { n, k, .. } = dispatch.constants();
        let (n, k) = (n as usize, k as usize);
        let all_x = dispatch.slice::<f32>(0);
        VecCut::new(n, k * size_of::<T>(), 4).each(tasks, |i, range| {
            let x = &all_x[i * k..][..k];
            // SAFETY: these elements of row i belong to the tasks that are run here.
            let y = unsafe { dispatch.slice_mut::<f32>(1, i * n + range.start..i * n + range.end) };
            self.level.run(dense::DenseVec { weights: dispatch.slice::<T>(2), range, x, y });
        });
    }
}

/// Tasks of `WIDTH` rows of a matrix and some rows of x.
struct MatCut<const WIDTH: usize> {
    m: usize,
    n: usize,
}

impl<const WIDTH: usize> MatCut<WIDTH> {
    fn new(params: &Params) -> MatCut<WIDTH> {
        MatCut { m: params.m as usize, n: params.n as usize }
    }

    fn panels(&self) -> usize {
        self.n.div_ceil(WIDTH)
    }

    fn tasks(&self) -> u32 {
        (self.panels() * self.m.div_ceil(TASK_X)) as u32
    }

    /// Calls `run` for each task with its first row of the matrix, its rows of x, and room for `WIDTH` elements of each
    /// of their rows of y; what it leaves there is then put into slot 1.
    fn each(
        &self,
        dispatch: &CpuDispatch<'_>,
        tasks: Range<u32>,
        mut run: impl FnMut(usize, Range<usize>, &mut [[f32; WIDTH]]),
    ) {
        let mut room = [[0.0; WIDTH]; TASK_X];
        for task in tasks.start as usize..tasks.end as usize {
            let first = task % self.panels() * WIDTH;
            let x = task / self.panels() * TASK_X;
            let x = x..(x + TASK_X).min(self.m);
            let y = &mut room[..x.len()];
            run(first, x.clone(), y);
            let width = WIDTH.min(self.n - first);
            for (i, from) in x.zip(y) {
                let at = i * self.n + first;
                // SAFETY: these columns of these rows belong to this task alone.
                let to = unsafe { dispatch.slice_mut::<f32>(1, at..at + width) };
                match to.first_chunk_mut() {
                    Some(whole) => *whole = *from,
                    None => to.copy_from_slice(&from[..width]),
                }
            }
        }
    }
}

impl<T: Stored> CpuKernel for AffineMat<T> {
    fn tasks(&self, dispatch: &CpuDispatch<'_>) -> u32 {
        MatCut::<LANES>::new(&dispatch.constants()).tasks()
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, tasks: Range<u32>) {
        let params = dispatch.constants::<Params>();
        let shape = self.form.shape(&params);
        let k = shape.k;
        let x = dispatch.slice::<f32>(0);
        let panel = &rows_of::<T>(dispatch, shape, 0..shape.n);
        let columns = &mut dispatch.prepared(|| RefCell::new(vec![[0.0; LANES]; mat::PIECE])).borrow_mut();
        MatCut::new(&params).each(dispatch, tasks, |first, rows, y| {
            let x = &x[rows.start * k..rows.end * k];
            self.level.run(PanelMat { panel, first, x, k, columns, y });
        });
    }
}

impl<T: Stored> CpuKernel for DenseMat<T> {
    fn tasks(&self, dispatch: &CpuDispatch<'_>) -> u32 {
        MatCut::<LANES>::new(&dispatch.constants()).tasks()
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, tasks: Range<u32>) {
        let params = dispatch.constants::<Params>();
        let k = params.k as usize;
        let x = dispatch.slice::<f32>(0);
        let panel = &DensePanel { weights: dispatch.slice::<T>(2), n: params.n as usize, k };
        let columns = &mut dispatch.prepared(|| RefCell::new(vec![[0.0; LANES]; mat::PIECE])).borrow_mut();
        MatCut::new(&params).each(dispatch, tasks, |first, rows, y| {
            let x = &x[rows.start * k..rows.end * k];
            self.level.run(PanelMat { panel, first, x, k, columns, y });
        });
    }
}

impl CpuKernel for Round {
    fn tasks(&self, dispatch: &CpuDispatch<'_>) -> u32 {
        dispatch.constants::<Params>().m.div_ceil(ROUND_X as u32)
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, tasks: Range<u32>) {
        let Params { m, n, k } = dispatch.constants();
        let shape = Shape { n: n as usize, k: k as usize, bits: self.bits, group: self.group };
        let rows = tasks.start as usize * ROUND_X..(tasks.end as usize * ROUND_X).min(m as usize);
        let x = &dispatch.slice::<f32>(0)[rows.start * shape.k..rows.end * shape.k];
        let words = shape.record();
        // SAFETY: these records belong to the tasks that are run here.
        let to = unsafe { dispatch.slice_mut::<u32>(1, rows.start * words..rows.end * words) };
        self.level.run(RoundRows { shape, x, to });
    }
}

impl<T: Stored> CpuKernel for AffineMatFast<T> {
    fn tasks(&self, dispatch: &CpuDispatch<'_>) -> u32 {
        MatCut::<WIDTH>::new(&dispatch.constants()).tasks()
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, tasks: Range<u32>) {
        let params = dispatch.constants::<Params>();
        let shape = self.form.shape(&params);
        let words = shape.record();
        let records = dispatch.slice::<u32>(0);
        let rows = &rows_of::<T>(dispatch, shape, 0..shape.n);
        let piece = &mut dispatch.prepared(|| RefCell::new(Piece::new(&shape))).borrow_mut();
        MatCut::new(&params).each(dispatch, tasks, |first, x, y| {
            let records = &records[x.start * words..x.end * words];
            self.level.run(PanelFast { rows, first, records, piece, y });
        });
    }
}
