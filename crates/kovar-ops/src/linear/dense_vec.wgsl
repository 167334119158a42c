// y = x Wᵀ for one or few rows of x. A subgroup makes four elements of a row of y; the grid's z is the row of x.
struct Params { m: u32, n: u32, k: u32 }
var<immediate> p: Params;
override SG: u32 = 32;
const SUBGROUPS: u32 = 2;
const ROWS: u32 = 4;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

fn x1(at: u32, k: u32) -> f32 {
    if (k >= p.k) { return 0.0; }
    return x[at + k];
}

fn x4(at: u32, k: u32) -> vec4<f32> {
    if (ALIGNED) { return vec4<f32>(x[at + k], x[at + k + 1u], x[at + k + 2u], x[at + k + 3u]); }
    return vec4<f32>(x1(at, k), x1(at, k + 1u), x1(at, k + 2u), x1(at, k + 3u));
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
    var acc = vec4<f32>(0.0);
    for (var k = lane * 4u; k < p.k; k += SG * 4u) {
        let v = x4(wg.z * p.k, k);
        acc += vec4<f32>(
            dot(weight4(r.x, k), v),
            dot(weight4(r.y, k), v),
            dot(weight4(r.z, k), v),
            dot(weight4(r.w, k), v),
        );
    }
    let sum = subgroupAdd(acc);
    if (lane < ROWS && row + lane < p.n) {
        y[wg.z * p.n + row + lane] = sum[lane];
    }
}
