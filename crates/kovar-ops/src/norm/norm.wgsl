// y = x / sqrt(mean(x^2) + eps) * weight, row by row.
//
// SPAN subgroups of a workgroup share a row: one for short rows, all eight for long ones.
override SG: u32 = 32;
override SPAN: u32 = 8;
// How weights are stored: 0 f32, 1 f16, 2 bf16.
override DTYPE: u32 = 0;

const SUBGROUPS = 8u;

struct Constants {
    rows: u32,
    width: u32,
    eps: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
var<immediate> c: Constants;

var<workgroup> parts: array<f32, 8>;

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
fn rms_norm(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let number = group.y * 65535u + group.x;
    let row = number * (SUBGROUPS / SPAN) + subgroup / SPAN;
    let first = (subgroup % SPAN) * SG + lane;
    let at = row * c.width;
    let width = select(0u, c.width, row < c.rows);
    var squares = 0.0;
    for (var i = first; i < width; i += SPAN * SG) {
        let v = x[at + i];
        squares += v * v;
    }
    squares = subgroupAdd(squares);
    if (SPAN > 1u) {
        if (lane == 0u) {
            parts[subgroup] = squares;
        }
        workgroupBarrier();
        squares = 0.0;
        for (var i = 0u; i < SPAN; i++) {
            squares += parts[i];
        }
    }
    let inverse = 1.0 / sqrt(squares / f32(c.width) + c.eps);
    for (var i = first; i < width; i += SPAN * SG) {
        y[at + i] = x[at + i] * inverse * weight_at(i);
    }
}
