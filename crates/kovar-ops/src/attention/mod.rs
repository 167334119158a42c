//! Attention over a cache of keys and values.

macro_rules! source {
    ($name:literal, $($file:literal),+) => { KernelSource::wgsl($name, concat!($(include_str!($file)),+)) };
}

pub(crate) mod combine_cpu;
mod cpu;
mod fuse;
mod parts;
mod parts_cpu;

use bytemuck::{Pod, Zeroable};
use kovar::profile::Cost;
use kovar::{Buffer, CommandEncoder, DType, Device, Dispatch, KernelSource, OpKind, Result};

use crate::KernelForm;
use crate::check::Check;
use crate::grid::MOST_GROUPS;

pub(crate) use fuse::{TURNED, TURNED_NORMED};
pub(crate) use parts::{COMBINE_NAME as COMBINE, combine_form, parts_of};
pub use parts::{HeadNorms, NewRow, attention_parts, combine, turned_parts};

static DECODE: KernelSource =
    source!("attention_decode", "decode_head.wgsl", "decode_input.wgsl", "decode.wgsl").with_cpu(cpu::few);
static PROMPT: KernelSource = KernelSource::wgsl("attention_prompt", include_str!("prompt.wgsl")).with_cpu(cpu::many);

/// Rows up to which each row reads the keys by itself, with more of them at once.
const DECODE_ROWS: usize = 8;
/// Rows that a workgroup of the prompt kernel shares keys among.
const PROMPT_ROWS: usize = 16;
/// Subgroups of a workgroup that has all keys of a head, at most.
const WIDEST: u32 = 32;
/// Largest head.
const MOST_SIZE: usize = 256;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Constants {
    rows: u32,
    heads: u32,
    kv_heads: u32,
    capacity: u32,
    /// Times log2 e: the kernels take powers of two.
    scale: f32,
    /// Of the norms of heads, where there are.
    eps: f32,
}

/// Sizes of an attention whose arguments fit together.
struct Sizes {
    rows: usize,
    heads: usize,
    kv_heads: usize,
    capacity: usize,
    size: usize,
}

impl Sizes {
    fn constants(&self, scale: f32) -> Constants {
        Constants {
            rows: self.rows as u32,
            heads: self.heads as u32,
            kv_heads: self.kv_heads as u32,
            capacity: self.capacity as u32,
            scale: scale * std::f32::consts::LOG2_E,
            eps: 0.0,
        }
    }

    /// Keys and values up to each row, of a cache that is bound whole. A key takes a multiplication and an addition for
    /// each element of a query, and so does a value; the exponentials are left out.
    fn cost(&self) -> Cost {
        let [rows, heads, kv_heads, size] = [self.rows, self.heads, self.kv_heads, self.size].map(|n| n as u64);
        let (queries, position) = (rows * heads * size * 4, 2 * kv_heads * size * 4);
        let pairs = rows * (rows + 1) / 2;
        Cost {
            read: Some(queries + rows * position + 4),
            written: Some(queries),
            operations: Some(4 * heads * size * pairs),
            read_per_position: position,
            operations_per_position: 4 * heads * size * rows,
        }
    }
}

/// What kernels need to know of a device.
#[derive(Clone, Copy)]
struct Machine {
    subgroup: u32,
    threads: u32,
    memory: u32,
}

impl Machine {
    fn of(device: &Device) -> Machine {
        let info = device.info();
        let limits = &info.limits;
        Machine { subgroup: info.subgroup.size, threads: limits.group_threads, memory: limits.group_memory }
    }

    /// The constants of the decode kernels: as many subgroups as fit, up to a number.
    fn decode(self, size: usize, most: u32) -> [(&'static str, f64); 3] {
        let vectors = size as u32 / 4;
        let lanes = vectors.next_power_of_two().min(self.subgroup);
        let memory = |subgroups: u32| subgroups * (size as u32 * 4 + 8) + size as u32 * 8;
        let mut subgroups = most;
        while subgroups > 1 && (subgroups * self.subgroup > self.threads || memory(subgroups) > self.memory) {
            subgroups /= 2;
        }
        [("HD", size as f64), ("LANES", f64::from(lanes)), ("SUBGROUPS", f64::from(subgroups))]
    }

    /// The constants of the prompt kernel: as many keys in a tile as fit, up to 32.
    fn prompt(self, size: usize) -> [(&'static str, f64); 2] {
        let (rows, size) = (PROMPT_ROWS as u32, size as u32);
        let memory = |keys: u32| 4 * (rows * size + keys * (size + 4) + rows * keys + 3 * rows);
        let mut keys = 32;
        while keys > 4 && memory(keys) > self.memory {
            keys /= 2;
        }
        [("HD", f64::from(size)), ("KEYS", f64::from(keys))]
    }
}

/// Causal attention of queries over a cache: for row `i`, query head `j` and its key-value head `g = j / (h / kvh)`,
///
/// ```text
/// y[i, j] = softmax over n of (scale · q[i, j] · keys[n, g]) · values[n, g],   n = 0 ..= position + i
/// ```
///
/// `q` and `y` are f32 [t, h, hd]; `keys` and `values` f32 [capacity, kvh, hd], where `h` is a multiple of `kvh` and
/// `hd` a multiple of 4 up to 256; `position` is u32 `[1]`, the position of the first row: in a buffer, so that a recording
/// can run again for the next token. The caller has written the keys and values up to `position + t - 1`; what lies beyond
/// the capacity is left out. `y` overlaps nothing else.
///
/// Softmax is taken online (Milakov, Gimelshein: "Online normalizer calculation for softmax", 2018) in f32. Few rows are
/// computed one by one, many in tiles that share the reading of keys (Dao et al.: "FlashAttention", 2022).
///
/// ```
/// use kovar::{Backend, DType, Device, DeviceOptions};
///
/// let device = Device::open(&DeviceOptions::of(Backend::Cpu))?;
/// let q = device.upload(&[1.0f32, 0.0, 0.0, 0.0], &[1, 1, 4])?;
/// let keys = device.upload(&[0.0f32; 32], &[8, 1, 4])?;
/// let values = device.upload(&[1.0f32, 2.0, 3.0, 4.0, 3.0, 4.0, 5.0, 6.0], &[2, 1, 4])?;
/// let cache = device.buffer(DType::F32, &[8, 1, 4])?;
/// let (start, position) = (device.upload(&[0u32], &[1])?, device.upload(&[1u32], &[1])?);
/// let y = device.buffer(DType::F32, &[1, 1, 4])?;
/// let mut encoder = device.encoder()?;
/// kovar_ops::cache::write(&mut encoder, &values, &start, &cache)?;
/// kovar_ops::attention::attention(&mut encoder, &q, &keys, &cache, &position, &y, 0.5)?;
/// encoder.commit()?.wait()?;
/// assert_eq!(y.read::<f32>()?, [2.0, 3.0, 4.0, 5.0]); // equal scores: the mean of two values
/// # Ok::<(), kovar::Error>(())
/// ```
///
/// # Errors
/// [`kovar::Error::Op`] if types or shapes do not fit, device errors.
pub fn attention(
    enc: &mut CommandEncoder,
    q: &Buffer,
    keys: &Buffer,
    values: &Buffer,
    position: &Buffer,
    y: &Buffer,
    scale: f32,
) -> Result<()> {
    let sizes = check(q, keys, values, position, y)?;
    let machine = Machine::of(enc.device());
    if sizes.rows == 1 {
        let splits = parts::splits(enc.device(), sizes.heads, sizes.capacity);
        let taken = enc.scratch(DType::F32, &parts::shape_of(q, splits))?;
        attention_parts(enc, q, keys, values, position, &taken, scale)?;
        return combine(enc, &taken, y);
    }
    let (rows, heads) = (sizes.rows as u32, sizes.heads as u32);
    let (kernel, groups) = if sizes.rows <= DECODE_ROWS {
        (enc.device().kernel(&DECODE, &machine.decode(sizes.size, WIDEST))?, [heads, rows, 1])
    } else {
        (enc.device().kernel(&PROMPT, &machine.prompt(sizes.size))?, [heads, rows.div_ceil(PROMPT_ROWS as u32), 1])
    };
    let constants = sizes.constants(scale);
    let dispatch = Dispatch::new(&kernel).bind(0, q).bind(1, keys).bind(2, values).bind(3, position).bind(4, y);
    let cost = sizes.cost();
    enc.dispatch(dispatch.constants(&constants).groups(groups).kind(OpKind::Attention).cost(&cost))
}

fn check(q: &Buffer, keys: &Buffer, values: &Buffer, position: &Buffer, y: &Buffer) -> Result<Sizes> {
    let sizes = check_inputs(q, [keys, values], position)?;
    if y.shape() != q.shape() || y.dtype() != DType::F32 {
        return Err(Check("attention").unfit("y", y, &format!("the {:?} f32 of q", q.shape())));
    }
    Ok(sizes)
}

fn check_inputs(q: &Buffer, [keys, values]: [&Buffer; 2], position: &Buffer) -> Result<Sizes> {
    let check = Check("attention");
    let [rows, heads, size] = check.axes3("q", q, "[t, h, hd] f32")?;
    let [capacity, kv_heads, kv_size] = check.axes3("keys", keys, "[capacity, kvh, hd] f32")?;
    if kv_size != size || !heads.is_multiple_of(kv_heads) {
        let wanted = format!("heads of {size}, in a number that divides the {heads} of q");
        return Err(check.unfit("keys", keys, &wanted));
    }
    if values.shape() != keys.shape() || values.dtype() != DType::F32 {
        return Err(check.unfit("values", values, &format!("the {:?} f32 of keys", keys.shape())));
    }
    if !size.is_multiple_of(4) || size > MOST_SIZE {
        return Err(check.unfit("q", q, &format!("a head size that is a multiple of 4 up to {MOST_SIZE}")));
    }
    let most_rows = MOST_GROUPS as usize * PROMPT_ROWS;
    if heads > MOST_GROUPS as usize || rows > most_rows {
        return Err(check.unfit("q", q, &format!("at most {most_rows} rows of {MOST_GROUPS} heads")));
    }
    check.position(position)?;
    check.len32("q", q)?;
    check.len32("keys", keys)?;
    Ok(Sizes { rows, heads, kv_heads, capacity, size })
}

/// Every kernel of this module.
pub(crate) fn kernels() -> Vec<KernelForm> {
    let machine = Machine { subgroup: 32, threads: 1024, memory: 32 << 10 };
    let forms = [64, 128].into_iter().flat_map(|size| {
        [
            KernelForm { source: &DECODE, constants: machine.decode(size, WIDEST).to_vec() },
            KernelForm { source: &PROMPT, constants: machine.prompt(size).to_vec() },
        ]
    });
    forms.chain(parts::kernels(machine)).collect()
}
