//! Attention of one row, cut into parts of the keys, so that more of a device takes part.

use kovar::{Buffer, CommandEncoder, DType, Device, Dispatch, KernelSource, OpKind, Result};

use super::{Machine, Sizes, check_inputs, combine_cpu, parts_cpu};
use crate::check::{Check, Length, float_code};
use crate::tuning::Tuning;
use crate::{KernelForm, grid};

static PARTS: KernelSource =
    source!("attention_parts", "decode_head.wgsl", "decode_input.wgsl", "decode.wgsl").with_cpu(parts_cpu::parts);
static TURNED: KernelSource =
    source!("attention_turned", "decode_head.wgsl", "../rotary/angle.wgsl", "turned_input.wgsl", "decode.wgsl")
        .with_cpu(parts_cpu::turned)
        .unaligned(&[8, 9]);
static COMBINE: KernelSource =
    source!("attention_combine", "combined.wgsl", "combine.wgsl").with_cpu(combine_cpu::combine);

/// Name of the kernel that takes parts, in patterns.
pub(super) const NAME: &str = "attention_parts";
/// Of the one that makes one of them.
pub(crate) const COMBINE_NAME: &str = "attention_combine";

/// Parts of a head, at most.
const MOST_SPLITS: usize = 16;
/// Parts that are chosen, at most: no more than a cache with room for 256 has, so that its growth changes no result.
const MOST_CHOSEN: usize = 8;
/// Keys that are worth a part.
const KEYS: usize = 32;
/// Threads of a workgroup that combines.
const WIDTH: usize = 64;

/// Parts that keys are cut into, for so many heads and a cache with room for so many keys.
pub(super) fn splits(device: &Device, heads: usize, capacity: usize) -> usize {
    (Tuning::of(device).attention_groups as usize / heads).clamp(1, MOST_CHOSEN).min(capacity.div_ceil(KEYS)).max(1)
}

/// The shape of the parts of attention of `q`: for each head so many of them, each a sum over its values and, in the last
/// four elements, its maximum and the sum of its weights.
pub(super) fn shape_of(q: &Buffer, splits: usize) -> Vec<usize> {
    let mut shape = q.shape().to_vec();
    let size = shape.pop().unwrap_or(0);
    shape.extend([splits, size + 4]);
    shape
}

/// The constants of a kernel that takes parts.
pub(super) fn form(device: &Device, size: usize, splits: usize) -> Vec<(&'static str, f64)> {
    form_on(Machine::of(device), Tuning::of(device), size, splits)
}

fn form_on(machine: Machine, tuning: Tuning, size: usize, splits: usize) -> Vec<(&'static str, f64)> {
    let mut form = machine.decode(size, tuning.attention_subgroups).to_vec();
    form.extend([("SPLITS", splits as f64), ("PARTS", 1.0)]);
    form
}

/// The kernel that also turns heads, for norms whose weights have this code, or none.
pub(super) fn turned(device: &Device, mut form: Vec<(&'static str, f64)>, norm: Option<f64>) -> Result<kovar::Kernel> {
    form.extend([("NORMED", f64::from(u8::from(norm.is_some()))), ("DTYPE", norm.unwrap_or(0.0))]);
    device.kernel(&TURNED, &form)
}

/// Attention of one row, in parts of the keys: [`combine`] makes one of them. The arguments are those of
/// [`attention`](super::attention) with `q` f32 [1, h, hd]; `parts` is f32 [1, h, parts, hd + 4] for 1 to 16 parts. They are
/// equally long and follow each other; the cut depends on the position, and is made on the device.
///
/// # Errors
/// [`kovar::Error::Op`] if types or shapes do not fit, device errors.
pub fn attention_parts(
    enc: &mut CommandEncoder,
    q: &Buffer,
    keys: &Buffer,
    values: &Buffer,
    position: &Buffer,
    parts: &Buffer,
    scale: f32,
) -> Result<()> {
    let sizes = check_inputs(q, [keys, values], position)?;
    let splits = check_parts(q, &sizes, parts)?;
    let kernel = enc.device().kernel(&PARTS, &form(enc.device(), sizes.size, splits))?;
    let dispatch = Dispatch::new(&kernel).bind(0, q).bind(1, keys).bind(2, values).bind(3, position).bind(4, parts);
    let cost = kovar::profile::Cost { written: Some(parts.byte_len()), ..sizes.cost() };
    let groups = [sizes.heads as u32, 1, splits as u32];
    enc.dispatch(dispatch.constants(&sizes.constants(scale)).groups(groups).kind(OpKind::Attention).cost(&cost))
}

/// What one row gives to attention, as it comes from the products.
#[derive(Debug, Clone, Copy)]
pub struct NewRow<'a> {
    /// f32 [1, h, hd].
    pub queries: &'a Buffer,
    /// f32 [1, kvh, hd].
    pub keys: &'a Buffer,
    /// f32 [1, kvh, hd].
    pub values: &'a Buffer,
    /// Norms of the heads before they are turned.
    pub norms: Option<HeadNorms<'a>>,
    /// Inverse frequencies, f32 [hd/2].
    pub freqs: &'a Buffer,
}

/// Norms of query and key heads, with weights of one type: f32, f16 or bf16 `[hd]`.
#[derive(Debug, Clone, Copy)]
pub struct HeadNorms<'a> {
    /// Of queries.
    pub queries: &'a Buffer,
    /// Of keys.
    pub keys: &'a Buffer,
    /// Added to the mean square.
    pub eps: f32,
}

/// [`attention_parts`] of one row whose heads are not yet normed and turned, and not yet in the cache: in one command what
/// [`norm_rotary`](crate::norm_rotary::norm_rotary) of queries and keys, [`cache::write`](crate::cache::write) of the values
/// and [`attention_parts`] do. A row that the cache `[keys, values]` has no room for is dropped.
///
/// # Errors
/// [`kovar::Error::Op`] if types or shapes do not fit, device errors.
pub fn turned_parts(
    enc: &mut CommandEncoder,
    row: &NewRow<'_>,
    [keys, values]: [&Buffer; 2],
    position: &Buffer,
    parts: &Buffer,
    scale: f32,
) -> Result<()> {
    let check = Check("turned attention");
    let NewRow { queries, keys: new_keys, values: new_values, norms, freqs } = *row;
    let sizes = check_inputs(queries, [keys, values], position)?;
    let splits = check_parts(queries, &sizes, parts)?;
    for (role, new) in [("new keys", new_keys), ("new values", new_values)] {
        if new.dtype() != DType::F32 || *new.shape() != [1, sizes.kv_heads, sizes.size] {
            return Err(check.unfit(role, new, &format!("[1, {}, {}] f32", sizes.kv_heads, sizes.size)));
        }
    }
    if freqs.dtype() != DType::F32 || freqs.len() * 2 != sizes.size {
        return Err(check.unfit("freqs", freqs, &format!("f32 [{} / 2], half the head size", sizes.size)));
    }
    let mut code = None;
    if let Some(HeadNorms { queries, keys, .. }) = norms {
        code = float_code(queries.dtype()).filter(|_| queries.len() == sizes.size);
        if code.is_none() || keys.dtype() != queries.dtype() || keys.len() != sizes.size {
            let wanted = format!("[{}] of f32, f16 or bf16, as that of queries {:?}", sizes.size, queries.shape());
            return Err(check.unfit("weight of keys", keys, &wanted));
        }
    }
    let kernel = turned(enc.device(), form(enc.device(), sizes.size, splits), code)?;
    let (q_weight, k_weight) = norms.map_or((freqs, freqs), |norms| (norms.queries, norms.keys));
    let dispatch = Dispatch::new(&kernel).bind(0, queries).bind(1, keys).bind(2, values).bind(3, position);
    let dispatch = dispatch.bind(4, parts).bind(5, new_keys).bind(6, new_values).bind(7, freqs);
    let dispatch = dispatch.bind(8, q_weight).bind(9, k_weight);
    let constants = super::Constants { eps: norms.map_or(0.0, |norms| norms.eps), ..sizes.constants(scale) };
    let cost = kovar::profile::Cost { written: Some(parts.byte_len()), ..sizes.cost() };
    let groups = [sizes.heads as u32, 1, splits as u32];
    enc.dispatch(dispatch.constants(&constants).groups(groups).kind(OpKind::Attention).cost(&cost))
}

/// Makes attention of its parts, [t, h, parts, hd + 4] as [`attention_parts`] gives them: `y` is f32 [t, h, hd].
///
/// # Errors
/// [`kovar::Error::Op`] if types or shapes do not fit, device errors.
pub fn combine(enc: &mut CommandEncoder, parts: &Buffer, y: &Buffer) -> Result<()> {
    let check = Check("attention::combine");
    let [_, _, size] = check.axes3("y", y, "[t, h, hd] f32")?;
    let splits = parts_of(check, y, parts)?;
    let n = check.len32("parts", parts).and(check.len32("y", y))? / 4;
    let constants = Length { n };
    let kernel = enc.device().kernel(&COMBINE, &combine_form(size, splits))?;
    let dispatch = Dispatch::new(&kernel).bind(0, parts).bind(1, y).constants(&constants);
    let groups = (n as usize).div_ceil(WIDTH).min(grid::MOST_GROUPS as usize) as u32;
    enc.dispatch(dispatch.groups([groups, 1, 1]).kind(OpKind::Attention))
}

/// The constants of what combines.
pub(crate) fn combine_form(size: usize, splits: usize) -> [(&'static str, f64); 2] {
    [("HD", size as f64), ("SPLITS", splits as f64)]
}

fn check_parts(q: &Buffer, sizes: &Sizes, parts: &Buffer) -> Result<usize> {
    let check = Check("attention in parts");
    if sizes.rows != 1 {
        return Err(check.unfit("q", q, "one row"));
    }
    parts_of(check, q, parts)
}

/// How many parts of heads of this shape there are.
pub(crate) fn parts_of(check: Check, heads: &Buffer, parts: &Buffer) -> Result<usize> {
    let splits = parts.shape().get(2).copied().unwrap_or(0);
    let size = heads.shape().last().copied().unwrap_or(0);
    let fits = parts.dtype() == DType::F32 && parts.shape() == shape_of(heads, splits);
    if !fits || !(1..=MOST_SPLITS).contains(&splits) || !size.is_multiple_of(4) {
        let wanted = format!("f32 {:?} for 1 to {MOST_SPLITS} parts", shape_of(heads, splits.max(1)));
        return Err(check.unfit("parts", parts, &wanted));
    }
    Ok(splits)
}

/// The kernels of this module.
pub(super) fn kernels(machine: Machine) -> Vec<KernelForm> {
    let mut all = Vec::new();
    for size in [64, 128] {
        let form = form_on(machine, Tuning::default(), size, 8);
        all.push(KernelForm { source: &PARTS, constants: form.clone() });
        for (normed, code) in [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (1.0, 2.0)] {
            let norm = [("NORMED", normed), ("DTYPE", code)];
            all.push(KernelForm { source: &TURNED, constants: form.iter().copied().chain(norm).collect() });
        }
        all.push(KernelForm { source: &COMBINE, constants: combine_form(size, 8).to_vec() });
    }
    all
}
