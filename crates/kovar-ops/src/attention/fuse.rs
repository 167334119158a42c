//! The rules that let attention of one row turn its heads itself.

use kovar::{Device, OpKind, Place, Replacement, Result, Rule};

use super::Constants;
use super::parts::{NAME, turned};
use crate::fusion::flow;
use crate::{cache, norm_rotary, rotary};

/// Norm and rotation of queries and keys, both on their way into the cache, and attention.
pub(crate) const TURNED_NORMED: Rule = Rule {
    name: "head norms + rotary + cache write + attention",
    commands: &["norm_rotary", "norm_rotary", "write_cache", NAME],
    flows: &[
        // One position, and the same frequencies.
        flow((0, 3), (1, 3)),
        flow((0, 2), (1, 2)),
        flow((0, 3), (2, 1)),
        flow((0, 4), (3, 0)),
        flow((1, 4), (3, 1)),
        flow((2, 2), (3, 2)),
        flow((0, 3), (3, 3)),
    ],
    build: |device, found| {
        let [queries, keys, write, attention] = found.commands[..] else { return Ok(None) };
        let (Some(q), Some(k)) =
            (queries.constants::<norm_rotary::Constants>(), keys.constants::<norm_rotary::Constants>())
        else {
            return Ok(None);
        };
        let code = queries.kernel().constant("DTYPE");
        let alike = q.half == k.half && q.eps == k.eps && code == keys.kernel().constant("DTYPE");
        if !alike || !is_row(&write, k.heads * k.half * 2) || code.is_none() || q.capacity != 0 || k.capacity == 0 {
            return Ok(None);
        }
        let parts = Parts {
            raw: [queries.slot(0), keys.slot(0), write.slot(0)],
            weights: [queries.slot(1), keys.slot(1)],
            freqs: queries.slot(2),
            norm: code.map(|code| (code, q.eps)),
        };
        build(device, &attention, [q.heads, k.heads, q.half], parts)
    },
};

/// The same for heads without a norm.
pub(crate) const TURNED: Rule = Rule {
    name: "rotary + cache write + attention",
    commands: &["rotary", "rotary", "write_cache", "write_cache", NAME],
    flows: &[
        flow((0, 2), (1, 2)),
        flow((0, 1), (1, 1)),
        flow((1, 3), (2, 0)),
        flow((0, 2), (2, 1)),
        flow((0, 2), (3, 1)),
        flow((0, 3), (4, 0)),
        flow((2, 2), (4, 1)),
        flow((3, 2), (4, 2)),
        flow((0, 2), (4, 3)),
    ],
    build: |device, found| {
        let [queries, keys, write_keys, write, attention] = found.commands[..] else { return Ok(None) };
        let (Some(q), Some(k)) = (queries.constants::<rotary::Constants>(), keys.constants::<rotary::Constants>())
        else {
            return Ok(None);
        };
        let width = k.heads * k.half * 2;
        if q.half != k.half || ![write_keys, write].iter().all(|write| is_row(write, width)) {
            return Ok(None);
        }
        let freqs = queries.slot(1);
        let raw = [queries.slot(0), keys.slot(0), write.slot(0)];
        let parts = Parts { raw, weights: [freqs, freqs], freqs, norm: None };
        build(device, &attention, [q.heads, k.heads, q.half], parts)
    },
};

/// Whether a cache is written by one row of this width: the same bytes could be seen as several shorter ones.
fn is_row(write: &kovar::Matched<'_>, width: u32) -> bool {
    write.constants::<cache::Constants>().is_some_and(|c| (c.rows, c.width) == (1, width))
}

/// What the kernel takes beside the slots of attention.
struct Parts {
    /// Queries, keys, values.
    raw: [Option<Place>; 3],
    weights: [Option<Place>; 2],
    freqs: Option<Place>,
    /// Type of the weights, and what is added to the mean square.
    norm: Option<(f64, f32)>,
}

/// With heads of queries and keys, and half a head.
fn build(
    device: &Device,
    attention: &kovar::Matched<'_>,
    [q_heads, k_heads, half]: [u32; 3],
    parts: Parts,
) -> Result<Option<Replacement>> {
    let Some(c) = attention.constants::<Constants>() else { return Ok(None) };
    let names = ["HD", "LANES", "SUBGROUPS", "SPLITS", "PARTS"];
    let constant = |name| Some((name, attention.kernel().constant(name)?));
    let Some(form) = names.into_iter().map(constant).collect::<Option<Vec<_>>>() else { return Ok(None) };
    let value = |at: usize| form.get(at).map_or(0.0, |(_, value)| *value);
    let (size, splits) = (value(0), value(3) as u32);
    let [queries, keys, values] = parts.raw;
    let slots = [queries].into_iter().chain((1..5).map(|slot| attention.slot(slot)));
    let slots = slots.chain([keys, values, parts.freqs]).chain(parts.weights);
    let Some(slots) = slots.collect::<Option<Vec<Place>>>() else { return Ok(None) };
    // A norm over whole rows is not one of heads; and there is one row of each.
    let one_row = |slot: usize, heads: u32| {
        slots.get(slot).is_some_and(|place: &Place| place.byte_len() == u64::from(heads * half) * 8)
    };
    let rows = one_row(0, c.heads) && one_row(5, c.kv_heads) && one_row(6, c.kv_heads);
    if !rows || [q_heads, k_heads] != [c.heads, c.kv_heads] || f64::from(half * 2) != size {
        return Ok(None);
    }
    let constants = Constants { eps: parts.norm.map_or(0.0, |(_, eps)| eps), ..c };
    Ok(Some(Replacement {
        kernel: turned(device, form, parts.norm.map(|(code, _)| code))?,
        slots,
        constants: bytemuck::bytes_of(&constants).to_vec(),
        groups: [c.heads, 1, splits],
        label: "heads, cache and attention".into(),
        kind: OpKind::Attention,
    }))
}
