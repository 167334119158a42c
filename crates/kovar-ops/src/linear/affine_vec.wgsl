// y = x Wᵀ for one or few rows of x. A subgroup makes four elements of a row of y; the grid's z is the row of x.
struct Params { m: u32, n: u32, k: u32 }
var<immediate> p: Params;
override SG: u32 = 32;
const SUBGROUPS: u32 = 2;
const ROWS: u32 = 4;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

// Product of the codes in a vector, without scale and bias, with the elements of x from vector `at` on.
fn codes_dot(q: vec4<u32>, at: u32) -> f32 {
    if (BITS == 4u) {
        let a = dot(nibbles(q.x), x[at]) + dot(nibbles(q.x >> 16u), x[at + 1u]);
        let b = dot(nibbles(q.y), x[at + 2u]) + dot(nibbles(q.y >> 16u), x[at + 3u]);
        let c = dot(nibbles(q.z), x[at + 4u]) + dot(nibbles(q.z >> 16u), x[at + 5u]);
        let d = dot(nibbles(q.w), x[at + 6u]) + dot(nibbles(q.w >> 16u), x[at + 7u]);
        return (a + b) + (c + d);
    }
    return (dot(bytes(q.x), x[at]) + dot(bytes(q.y), x[at + 1u]))
        + (dot(bytes(q.z), x[at + 2u]) + dot(bytes(q.w), x[at + 3u]));
}

fn x_sum(at: u32) -> f32 {
    var s = (x[at] + x[at + 1u]) + (x[at + 2u] + x[at + 3u]);
    if (BITS == 4u) {
        s += (x[at + 4u] + x[at + 5u]) + (x[at + 6u] + x[at + 7u]);
    }
    return (s.x + s.y) + (s.z + s.w);
}

@compute @workgroup_size(SG * SUBGROUPS)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let row = ((wg.y * grid.x + wg.x) * SUBGROUPS + subgroup) * ROWS;
    // Rows beyond the last repeat it, so that loads need no check.
    let r = min(vec4<u32>(row, row + 1u, row + 2u, row + 3u), vec4<u32>(p.n - 1u));
    let per_vector = 128u / BITS;
    let vectors = p.k / per_vector;
    let first = r * vec4<u32>(vectors);
    let group = r * vec4<u32>(p.k / GROUP);
    let base = wg.z * (p.k / 4u);
    var acc = vec4<f32>(0.0);
    for (var c = lane; c < vectors; c += SG) {
        let at = base + c * (per_vector / 4u);
        let d = vec4<f32>(
            codes_dot(codes[first.x + c], at),
            codes_dot(codes[first.y + c], at),
            codes_dot(codes[first.z + c], at),
            codes_dot(codes[first.w + c], at),
        );
        let g = group + vec4<u32>(c * per_vector / GROUP);
        let s = vec4<f32>(scale_at(g.x), scale_at(g.y), scale_at(g.z), scale_at(g.w));
        let b = vec4<f32>(bias_at(g.x), bias_at(g.y), bias_at(g.z), bias_at(g.w));
        acc += s * d + b * x_sum(at);
    }
    let sum = subgroupAdd(acc);
    if (lane < ROWS && row + lane < p.n) {
        y[wg.z * p.n + row + lane] = sum[lane];
    }
}
