// y = x Wᵀ for many rows of x. A workgroup makes a tile of 64 x 64, each thread 4 x 4 of it, from pieces of 32 columns
// that it keeps, with the weights widened, in workgroup memory.
struct Params { m: u32, n: u32, k: u32 }
var<immediate> p: Params;
const TILE: u32 = 64;
const DEPTH: u32 = 32;
// A row of a piece is one longer than it must be, so that the threads of a subgroup hit different banks.
const PITCH: u32 = 65;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

// Pieces of x and W, columns outermost.
var<workgroup> xs: array<f32, 2080>;
var<workgroup> ws: array<f32, 2080>;

fn x_at(row: u32, k: u32) -> f32 {
    if (row >= p.m || k >= p.k) { return 0.0; }
    return x[row * p.k + k];
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let n0 = wg.x * TILE;
    let m0 = wg.y * TILE;
    // To load, a thread takes eight columns of one row; to multiply, rows and columns 16 apart.
    let row = thread / 4u;
    let column = (thread % 4u) * 8u;
    let tn = thread % 16u;
    let tm = thread / 16u;
    let w_row = min(n0 + row, p.n - 1u);
    var acc0 = vec4<f32>(0.0);
    var acc1 = vec4<f32>(0.0);
    var acc2 = vec4<f32>(0.0);
    var acc3 = vec4<f32>(0.0);
    for (var k0 = 0u; k0 < p.k; k0 += DEPTH) {
        for (var half = 0u; half < 8u; half += 4u) {
            let c = column + half;
            var w = vec4<f32>(0.0);
            if (k0 + c < p.k) { w = weight4(w_row, k0 + c); }
            for (var i = 0u; i < 4u; i++) {
                ws[(c + i) * PITCH + row] = w[i];
                xs[(c + i) * PITCH + row] = x_at(m0 + row, k0 + c + i);
            }
        }
        workgroupBarrier();
        for (var c = 0u; c < DEPTH; c++) {
            let wa = c * PITCH + tn;
            let xa = c * PITCH + tm;
            let w = vec4<f32>(ws[wa], ws[wa + 16u], ws[wa + 32u], ws[wa + 48u]);
            acc0 += xs[xa] * w;
            acc1 += xs[xa + 16u] * w;
            acc2 += xs[xa + 32u] * w;
            acc3 += xs[xa + 48u] * w;
        }
        workgroupBarrier();
    }
    for (var j = 0u; j < 4u; j++) {
        let n = n0 + tn + 16u * j;
        if (n >= p.n) { break; }
        let m = m0 + tm;
        if (m < p.m) { y[m * p.n + n] = acc0[j]; }
        if (m + 16u < p.m) { y[(m + 16u) * p.n + n] = acc1[j]; }
        if (m + 32u < p.m) { y[(m + 32u) * p.n + n] = acc2[j]; }
        if (m + 48u < p.m) { y[(m + 48u) * p.n + n] = acc3[j]; }
    }
}
