//! Rewrite rules for graphs: which ops of this library become one.

use kovar::{Device, Flow, Match, OpKind, Place, Replacement, Result, Rule};

use crate::attention::{COMBINE, TURNED, TURNED_NORMED};
use crate::linear::fast::{self, FastParams, Geometry, PLAIN, Shape, Stored};
use crate::{add_norm, cache, norm, norm_rotary, rotary};

/// The rules, in the order in which they are to be applied: longer patterns before those that they contain.
const ALL: &[Rule] = &[
    NORM_GATED,
    NORM_THREE,
    NORM_PRODUCT,
    COMBINE_PRODUCT_ADD,
    PRODUCT_ADD,
    KEYS_TO_CACHE,
    HEADS,
    TURNED_NORMED,
    TURNED,
    ADD_NORM,
];

/// Every rule. They are right on every device, and pay on every one that was measured.
pub fn fusion_rules() -> &'static [Rule] {
    ALL
}

pub(crate) const fn flow(from: (usize, usize), to: (usize, usize)) -> Flow {
    Flow { from, to }
}

/// Norm, both products of a gated feed-forward, and its activation.
const NORM_GATED: Rule = Rule {
    name: "norm + gate and up + activation",
    commands: &["rms_norm", PLAIN, PLAIN, "silu_mul"],
    flows: &[flow((0, 2), (1, 0)), flow((0, 2), (2, 0)), flow((1, 1), (3, 0)), flow((2, 1), (3, 1))],
    build: |device, found| {
        let y = found.commands.get(3).and_then(|silu| silu.slot(2));
        product(device, found, Shape::Gated, y)
    },
};

/// Norm and three products with it: queries, keys, values.
const NORM_THREE: Rule = Rule {
    name: "norm + three products",
    commands: &["rms_norm", PLAIN, PLAIN, PLAIN],
    flows: &[flow((0, 2), (1, 0)), flow((0, 2), (2, 0)), flow((0, 2), (3, 0))],
    build: |device, found| {
        let y = found.commands.get(1).and_then(|product| product.slot(1));
        product(device, found, Shape::Three, y)
    },
};

/// Norm and the product with it.
const NORM_PRODUCT: Rule = Rule {
    name: "norm + product",
    commands: &["rms_norm", PLAIN],
    flows: &[flow((0, 2), (1, 0))],
    build: |device, found| {
        let y = found.commands.get(1).and_then(|product| product.slot(1));
        product(device, found, Shape::Norm, y)
    },
};

/// Product and its addition to the stream.
const PRODUCT_ADD: Rule = Rule {
    name: "product + add",
    commands: &[PLAIN, "add"],
    flows: &[flow((0, 1), (1, 1))],
    build: |device, found| {
        let y = found.commands.get(1).and_then(|add| add.slot(2));
        product(device, found, Shape::Add, y)
    },
};

/// Parts of attention that become one, the product with it, and its addition to the stream.
const COMBINE_PRODUCT_ADD: Rule = Rule {
    name: "combined attention + product + add",
    commands: &[COMBINE, PLAIN, "add"],
    flows: &[flow((0, 1), (1, 0)), flow((1, 1), (2, 1))],
    build: |device, found| {
        let y = found.commands.get(2).and_then(|add| add.slot(2));
        product(device, found, Shape::Attended, y)
    },
};

/// What surrounds products of rounded rows becomes one command with them, if the matrices are stored alike.
fn product(device: &Device, found: &Match<'_>, shape: Shape, y: Option<Place>) -> Result<Option<Replacement>> {
    let products: Vec<_> = found.commands.iter().filter(|command| command.kernel().name() == PLAIN).collect();
    let Some(sizes) = products.iter().map(|p| p.constants::<FastParams>()).collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    let stored = |product: &kovar::Matched<'_>| {
        let constant = |name| product.kernel().constant(name);
        Some(Stored { bits: constant("BITS")?, group: constant("GROUP")?, stype: constant("STYPE")? })
    };
    let (Some(first), Some(size)) = (products.first(), sizes.first()) else { return Ok(None) };
    let n = |at: usize| sizes.get(at).map_or(0, |size| size.n);
    // The same bytes may be seen as rows of another length.
    let alike = products.iter().all(|product| stored(product) == stored(first))
        && sizes.iter().all(|other| (other.m, other.k) == (size.m, size.k));
    let (Some(stored), Some(head), true) = (stored(first), found.commands.first(), alike) else { return Ok(None) };
    let mut params = FastParams { n1: n(1), n2: n(2), ..*size };
    let mut slots = vec![head.slot(0), y];
    slots.extend(products.iter().flat_map(|product| [2, 3, 4].map(|slot| product.slot(slot))));
    let mut dtype = None;
    let mut more = Vec::new();
    if let Shape::Add | Shape::Attended = shape {
        slots.push(found.commands.last().and_then(|add| add.slot(0)));
        if shape == Shape::Attended {
            let named = |name| Some((name, head.kernel().constant(name)?));
            more.extend(["HD", "SPLITS"].into_iter().filter_map(named));
        }
    } else {
        let Some(norm) = head.constants::<norm::Constants>() else { return Ok(None) };
        if norm.width != params.k || norm.rows != params.m || (shape == Shape::Gated && params.n != params.n1) {
            return Ok(None);
        }
        params.eps = norm.eps;
        dtype = head.kernel().constant("DTYPE");
        if shape == Shape::Three {
            slots.extend(products.iter().skip(1).map(|product| product.slot(1)));
        }
        slots.push(head.slot(1));
    }
    let Some(slots) = slots.into_iter().collect::<Option<Vec<Place>>>() else { return Ok(None) };
    let geometry = Geometry::new(device, shape, &params);
    let mut form = fast::form(stored, params.k, geometry, dtype);
    form.extend(more);
    Ok(Some(Replacement {
        kernel: device.kernel(fast::source(shape), &form)?,
        slots,
        constants: bytemuck::bytes_of(&params).to_vec(),
        groups: [geometry.groups, 1, params.m],
        label: shape.label().into(),
        kind: OpKind::MatVec,
    }))
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
            Some(c) if (c.rows, c.width) == (r.rows, r.heads * r.half * 2) => (c.capacity, write.slot(2)),
            _ => return Ok(None),
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
