// Norms each head, rotates it by its position, and writes it: to the same place, or to the row of a cache that its
// position names. A subgroup takes a head.
override SG: u32 = 32;
// How weights are stored: 0 f32, 1 f16, 2 bf16.
override DTYPE: u32 = 0;
// Whether y is a cache [capacity, heads, hd], written from row `position` on.
override CACHE: bool = false;

const SUBGROUPS = 8u;

struct Constants {
    rows: u32,
    heads: u32,
    half: u32,
    eps: f32,
    capacity: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<u32>;
@group(0) @binding(2) var<storage, read> freqs: array<f32>;
@group(0) @binding(3) var<storage, read> position: u32;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
var<immediate> c: Constants;

fn weight_at(i: u32) -> f32 {
    if (DTYPE == 0u) {
        return bitcast<f32>(weight[i]);
    }
    let word = weight[i / 2u];
    if (DTYPE == 1u) {
        return unpack2x16float(word)[i % 2u];
    }
    return bitcast<f32>(select(word << 16u, word & 0xffff0000u, i % 2u == 1u));
}

@compute @workgroup_size(SG * SUBGROUPS)
fn norm_rotary(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let head = (group.y * 65535u + group.x) * SUBGROUPS + subgroup;
    let width = c.half * 2u;
    let at = head * width;
    let there = head < c.rows * c.heads;
    var squares = 0.0;
    for (var i = lane; i < select(0u, width, there); i += SG) {
        let v = x[at + i];
        squares += v * v;
    }
    squares = subgroupAdd(squares);
    let inverse = 1.0 / sqrt(squares / f32(width) + c.eps);
    let place = position + head / c.heads;
    // A cache takes the rows that it has room for.
    let fits = there && (!CACHE || place < c.capacity);
    let to = select(at, place * c.heads * width + (head % c.heads) * width, CACHE);
    for (var i = lane; i < select(0u, c.half, fits); i += SG) {
        let turn = cos_sin(f32(place) * freqs[i]);
        let a = x[at + i] * inverse * weight_at(i);
        let b = x[at + i + c.half] * inverse * weight_at(i + c.half);
        y[to + i] = a * turn.x - b * turn.y;
        y[to + i + c.half] = b * turn.x + a * turn.y;
    }
}
