//! The typed host functions.

use kovar::{Buffer, CommandEncoder, DType, Dispatch, Error, OpKind, Result};

use super::{FastParams, Geometry, Shape, Stored, fits, form, source};
use crate::attention::{combine_form, parts_of};
use crate::check::{Check, float_code};
use crate::linear::{Params, check, small_enough};
use crate::{AffineMatrix, Matrix};

/// A root-mean-square norm before a product.
#[derive(Debug, Clone, Copy)]
pub struct Normed<'a> {
    /// f32, f16 or bf16 `[k]`.
    pub weight: &'a Buffer,
    /// Added to the mean square.
    pub eps: f32,
}

fn wrong(message: String) -> Error {
    Error::Op { op: "fused linear", message }
}

/// `y = other + x Wᵀ` with x rounded to 8 bits in blocks of 32: [`linear`](super::super::linear) of
/// [`Precision::Fast`](crate::Precision::Fast) and [`add`](crate::elementwise::add) in one command.
///
/// `x` is f32 [m, k] with m up to 4, `other` and `y` f32 [m, n], the matrix quantised.
///
/// # Errors
/// [`Error::Op`] naming the argument that does not fit, or a row too long for the device; errors of the encoder.
pub fn add_linear(
    encoder: &mut CommandEncoder,
    w: &AffineMatrix,
    x: &Buffer,
    other: &Buffer,
    y: &Buffer,
) -> Result<()> {
    let matrices = [w];
    let call = Call::new(encoder, &matrices, x, &[y], None)?;
    check_other(other, y)?;
    call.record(encoder, Shape::Add, &[other])
}

/// `y = other + combine(parts) Wᵀ` with the attention rounded to 8 bits in blocks of 32:
/// [`combine`](crate::attention::combine) and [`add_linear`] in one command.
///
/// `parts` is f32 [m, h, parts, hd + 4] with m up to 4, as [`attention_parts`](crate::attention::attention_parts) gives
/// them; `other` and `y` are f32 [m, n], the matrix [n, h · hd] is quantised.
///
/// # Errors
/// [`Error::Op`] naming the argument that does not fit, or a row too long for the device; errors of the encoder.
pub fn attended_linear(
    encoder: &mut CommandEncoder,
    w: &AffineMatrix,
    parts: &Buffer,
    other: &Buffer,
    y: &Buffer,
) -> Result<()> {
    let &[m, heads, splits, width] = parts.shape() else {
        return Err(wrong(format!("parts are {:?}, not [m, h, parts, hd + 4]", parts.shape())));
    };
    let size = width.saturating_sub(4);
    // What the parts become, in shape: there is no such buffer.
    let x = parts.view(0..m * heads * size)?.reshape(&[m, heads, size])?;
    parts_of(Check("fused linear"), &x, parts)?;
    let matrices = [w];
    let mut call = Call::new(encoder, &matrices, &x, &[y], None)?;
    check_other(other, y)?;
    call.x = parts;
    call.more.extend(combine_form(size, splits));
    call.record(encoder, Shape::Attended, &[other])
}

fn check_other(other: &Buffer, y: &Buffer) -> Result<()> {
    if other.dtype() != DType::F32 || other.len() != y.len() {
        return Err(wrong(format!("other is {:?} {}, not the {:?} f32 of y", other.shape(), other.dtype(), y.shape())));
    }
    Ok(())
}

/// `y = rms_norm(x) Wᵀ` for one matrix or three, with the norm rounded to 8 bits in blocks of 32:
/// [`rms_norm`](crate::norm::rms_norm) and [`linear`](super::super::linear) of
/// [`Precision::Fast`](crate::Precision::Fast) in one command.
///
/// `x` is f32 [m, k] with m up to 4, each of `ys` f32 [m, n] of its matrix; the matrices are quantised alike.
///
/// # Errors
/// [`Error::Op`] naming the argument that does not fit, matrices that are not alike or neither one nor three, or a row too
/// long for the device; errors of the encoder.
pub fn norm_linear(
    encoder: &mut CommandEncoder,
    norm: Normed<'_>,
    matrices: &[&AffineMatrix],
    x: &Buffer,
    ys: &[&Buffer],
) -> Result<()> {
    let call = Call::new(encoder, matrices, x, ys, Some(norm))?;
    match *ys {
        [_] => call.record(encoder, Shape::Norm, &[norm.weight]),
        [_, second, third] => call.record(encoder, Shape::Three, &[second, third, norm.weight]),
        _ => Err(wrong(format!("takes one matrix or three, not {}", ys.len()))),
    }
}

/// `y = silu(rms_norm(x) Gᵀ) · rms_norm(x) Uᵀ`, with the norm rounded to 8 bits in blocks of 32: the first half of a
/// gated feed-forward in one command.
///
/// `x` is f32 [m, k] with m up to 4, `y` f32 [m, n]; `[gate, up]` are quantised alike.
///
/// # Errors
/// [`Error::Op`] naming the argument that does not fit, or a row too long for the device; errors of the encoder.
pub fn gated_linear(
    encoder: &mut CommandEncoder,
    norm: Normed<'_>,
    [gate, up]: [&AffineMatrix; 2],
    x: &Buffer,
    y: &Buffer,
) -> Result<()> {
    Call::new(encoder, &[gate, up], x, &[y, y], Some(norm))?.record(encoder, Shape::Gated, &[norm.weight])
}

struct Call<'a> {
    matrices: &'a [&'a AffineMatrix],
    x: &'a Buffer,
    y: &'a Buffer,
    params: FastParams,
    dtype: Option<f64>,
    /// Further constants of the kernel.
    more: Vec<(&'static str, f64)>,
}

impl<'a> Call<'a> {
    fn new(
        encoder: &CommandEncoder,
        matrices: &'a [&'a AffineMatrix],
        x: &'a Buffer,
        ys: &[&'a Buffer],
        norm: Option<Normed<'_>>,
    ) -> Result<Call<'a>> {
        let (Some(first), Some(y)) = (matrices.first(), ys.first()) else {
            return Err(wrong("takes a matrix and a result at least".into()));
        };
        if matrices.len() != ys.len() {
            return Err(wrong(format!("{} matrices with {} results", matrices.len(), ys.len())));
        }
        let mut sizes = Vec::new();
        for (w, y) in matrices.iter().zip(ys) {
            if Stored::of(w) != Stored::of(first) {
                return Err(wrong(format!(
                    "{:?} and {:?} are not quantised alike",
                    w.codes().label(),
                    first.codes().label()
                )));
            }
            sizes.push(check(&Matrix::Affine((*w).clone()), x, y)?);
        }
        let params = sizes[0];
        if params.m > small_enough() {
            return Err(wrong(format!("x is {:?}: {} rows, at most {}", x.shape(), params.m, small_enough())));
        }
        if !fits(encoder.device(), params.k) {
            return Err(wrong(format!("rows of {} do not fit the workgroup memory of this device", params.k)));
        }
        let mut dtype = None;
        if let Some(Normed { weight, .. }) = norm {
            dtype = float_code(weight.dtype()).filter(|_| weight.len() == params.k as usize);
            if dtype.is_none() {
                let (shape, given) = (weight.shape(), weight.dtype());
                return Err(wrong(format!("the norm's weight is {shape:?} {given}, not [{}] of floats", params.k)));
            }
        }
        let n = |at: usize| sizes.get(at).map_or(0, |params| params.n);
        let eps = norm.map_or(0.0, |norm| norm.eps);
        let params = FastParams { n1: n(1), n2: n(2), eps, ..FastParams::plain(params) };
        Ok(Call { matrices, x, y, params, dtype, more: Vec::new() })
    }

    fn record(&self, encoder: &mut CommandEncoder, shape: Shape, more: &[&Buffer]) -> Result<()> {
        let FastParams { m, n, k, n1, n2, .. } = self.params;
        let geometry = Geometry::new(encoder.device(), shape, &self.params);
        let mut form = form(Stored::of(self.matrices[0]), k, geometry, self.dtype);
        form.extend(&self.more);
        let kernel = encoder.device().kernel(source(shape), &form)?;
        let mut dispatch = Dispatch::new(&kernel).bind(0, self.x).bind(1, self.y).constants(&self.params);
        let weights = self.matrices.iter().flat_map(|w| [w.codes(), w.scales(), w.biases()]);
        for (slot, buffer) in (2..).zip(weights.chain(more.iter().copied())) {
            dispatch = dispatch.bind(slot, buffer);
        }
        let cost = Params { m, n: n + n1 + n2, k }.cost();
        encoder.dispatch(dispatch.groups([geometry.groups, 1, m]).kind(OpKind::MatVec).cost(&cost))
    }
}
