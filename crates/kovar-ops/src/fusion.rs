//! Rewrite rules for graphs: which ops of this library become one.

use kovar::{Device, Flow, Match, OpKind, Place, Replacement, Result, Rule};

use crate::{add_norm, cache, norm, norm_rotary, rotary};

/// The rules, in the order in which they are to be applied: longer patterns before those that they contain.
pub fn fusion_rules() -> &'static [Rule] {
    &[KEYS_TO_CACHE, HEADS, ADD_NORM]
}

const fn flow(from: (usize, usize), to: (usize, usize)) -> Flow {
    Flow { from, to }
}

/// Residual addition and the norm of its sum; the sum stays.
const ADD_NORM: Rule = Rule {
    name: "add + norm",
    commands: &["add", "rms_norm"],
    flows: &[flow((0, 2), (1, 0))],
    build: |device, found| {
        let [add, norm] = found.commands[..] else { return Ok(None) };
        let Some(constants) = norm.constants::<norm::Constants>() else { return Ok(None) };
        let slots = [add.slot(0), add.slot(1), norm.slot(1), add.slot(2), norm.slot(2)];
        let Some(slots) = slots.into_iter().collect::<Option<Vec<Place>>>() else { return Ok(None) };
        let Some(code) = norm.kernel().constant("DTYPE") else { return Ok(None) };
        let form = norm::form(code, constants.width);
        Ok(Some(Replacement {
            kernel: device.kernel(&add_norm::ADD_NORM, &form)?,
            slots,
            constants: bytemuck::bytes_of(&constants).to_vec(),
            groups: add_norm::groups_of(&constants),
            label: "add + norm".into(),
            kind: OpKind::Norm,
        }))
    },
};

/// Norm of the query heads, and their rotation.
const HEADS: Rule = Rule {
    name: "head norm + rotary",
    commands: &["rms_norm", "rotary"],
    flows: &[flow((0, 2), (1, 0))],
    build: |device, found| heads(device, found, false),
};

/// Norm of the key heads, their rotation, and their way into the cache.
const KEYS_TO_CACHE: Rule = Rule {
    name: "head norm + rotary + cache write",
    commands: &["rms_norm", "rotary", "write_cache"],
    flows: &[flow((0, 2), (1, 0)), flow((1, 3), (2, 0)), flow((1, 2), (2, 1))],
    build: |device, found| heads(device, found, true),
};

fn heads(device: &Device, found: &Match<'_>, to_cache: bool) -> Result<Option<Replacement>> {
    let (Some(norm), Some(turn)) = (found.commands.first(), found.commands.get(1)) else { return Ok(None) };
    let (Some(n), Some(r)) = (norm.constants::<norm::Constants>(), turn.constants::<rotary::Constants>()) else {
        return Ok(None);
    };
    // A norm over whole rows is not one of heads.
    if n.width != r.half * 2 || n.rows != r.rows * r.heads {
        return Ok(None);
    }
    let (capacity, y) = match found.commands.get(2) {
        Some(write) if to_cache => match write.constants::<cache::Constants>() {
            Some(c) => (c.capacity, write.slot(2)),
            None => return Ok(None),
        },
        _ => (0, turn.slot(3)),
    };
    let slots = [norm.slot(0), norm.slot(1), turn.slot(1), turn.slot(2), y];
    let Some(slots) = slots.into_iter().collect::<Option<Vec<Place>>>() else { return Ok(None) };
    let Some(code) = norm.kernel().constant("DTYPE") else { return Ok(None) };
    let constants = norm_rotary::Constants { rows: r.rows, heads: r.heads, half: r.half, eps: n.eps, capacity };
    Ok(Some(Replacement {
        kernel: device.kernel(&norm_rotary::NORM_ROTARY, &norm_rotary::form(code, to_cache))?,
        slots,
        constants: bytemuck::bytes_of(&constants).to_vec(),
        groups: constants.groups(),
        label: if to_cache { "keys to cache".into() } else { "queries".into() },
        kind: OpKind::Rotary,
    }))
}
