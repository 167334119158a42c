// y = x Wᵀ for many rows of x on matrix units: factors rounded to f16, sums in f32. The file in front says how large a
// tile is that a subgroup multiplies at once, and how many of them a workgroup makes, from pieces of 32 columns that it
// keeps in workgroup memory. k is a multiple of 32.
struct Params { m: u32, n: u32, k: u32 }
var<immediate> p: Params;
override SG: u32 = 32;
const SUBGROUPS: u32 = DOWN * ALONG;
const ROWS: u32 = DOWN * TALL * EDGE;
const COLUMNS: u32 = ALONG * WIDE * EDGE;
const DEPTH: u32 = 32;
// Rows of a piece begin at multiples of 16 bytes, which a cooperative load asks for, in different banks.
const PITCH: u32 = 40;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

// Scalars, because a cooperative load from vectors does not compile for Metal.
var<workgroup> xs: array<f16, ROWS * PITCH>;
var<workgroup> ws: array<f16, COLUMNS * PITCH>;
// A tile of each subgroup on its way to y, where tiles stick out.
var<workgroup> tiles: array<f32, SUBGROUPS * EDGE * EDGE>;

@compute @workgroup_size(SG * SUBGROUPS)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let m0 = wg.y * ROWS;
    let n0 = wg.x * COLUMNS;
    let top = (subgroup / ALONG) * TALL * EDGE;
    let left = (subgroup % ALONG) * WIDE * EDGE;
    let tile = subgroup * EDGE * EDGE;
    // Sums begin as a tile of zeros: what the zero value of a matrix is in Metal, Apple does not say.
    for (var i = lane; i < EDGE * EDGE; i += SG) { tiles[tile + i] = 0.0; }
    workgroupBarrier();
    var sums: array<Sum, TALL * WIDE>;
    for (var i = 0u; i < TALL * WIDE; i++) { sums[i] = coopLoadT<Sum>(&tiles[tile], EDGE); }

    for (var k0 = 0u; k0 < p.k; k0 += DEPTH) {
        for (var i = thread * 4u; i < ROWS * DEPTH; i += SG * SUBGROUPS * 4u) {
            let row = i / DEPTH;
            let column = i % DEPTH;
            var v = vec4<f16>(0.0);
            if (m0 + row < p.m) { v = vec4<f16>(x[((m0 + row) * p.k + k0 + column) / 4u]); }
            let at = row * PITCH + column;
            xs[at] = v.x;
            xs[at + 1u] = v.y;
            xs[at + 2u] = v.z;
            xs[at + 3u] = v.w;
        }
        for (var i = thread * 4u; i < COLUMNS * DEPTH; i += SG * SUBGROUPS * 4u) {
            let row = i / DEPTH;
            let column = i % DEPTH;
            // Rows beyond the last repeat it: what they make is not stored.
            let v = vec4<f16>(weight4(min(n0 + row, p.n - 1u), k0 + column));
            let at = row * PITCH + column;
            ws[at] = v.x;
            ws[at + 1u] = v.y;
            ws[at + 2u] = v.z;
            ws[at + 3u] = v.w;
        }
        workgroupBarrier();
        for (var c = 0u; c < DEPTH; c += EDGE) {
            var factors: array<Left, TALL>;
            for (var i = 0u; i < TALL; i++) { factors[i] = coopLoadT<Left>(&xs[(top + i * EDGE) * PITCH + c], PITCH); }
            for (var j = 0u; j < WIDE; j++) {
                // Rows of W are columns of its transpose.
                let w = coopLoad<Right>(&ws[(left + j * EDGE) * PITCH + c], PITCH);
                for (var i = 0u; i < TALL; i++) {
                    sums[i * WIDE + j] = coopMultiplyAdd(factors[i], w, sums[i * WIDE + j]);
                }
            }
        }
        workgroupBarrier();
    }

    // A tile goes straight to y where all of it lies inside, at addresses that a cooperative store takes.
    let inside = m0 + ROWS <= p.m && n0 + COLUMNS <= p.n && p.n % 4u == 0u;
    for (var i = 0u; i < TALL; i++) {
        for (var j = 0u; j < WIDE; j++) {
            let row = m0 + top + i * EDGE;
            let column = n0 + left + j * EDGE;
            let sum = sums[i * WIDE + j];
            if (inside) {
                let at = row * p.n + column;
                let stride = p.n;
                coopStoreT(sum, &y[at], stride);
            } else {
                let stride = EDGE;
                coopStoreT(sum, &tiles[tile], stride);
                workgroupBarrier();
                for (var e = lane; e < EDGE * EDGE; e += SG) {
                    let r = row + e / EDGE;
                    let c = column + e % EDGE;
                    if (r < p.m && c < p.n) { y[r * p.n + c] = tiles[tile + e]; }
                }
                workgroupBarrier();
            }
        }
    }
}
