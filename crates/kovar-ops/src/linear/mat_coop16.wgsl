// y = x Wᵀ for many rows of x on matrix units that take tiles of 16 x 16, as NVIDIA's do: factors in f16, sums in f32. A
// workgroup makes a tile of y from pieces of DEPTH columns. The next piece is on its way into registers while one is worked
// on. k is a multiple of 32.
struct Params { m: u32, n: u32, k: u32 }
var<immediate> p: Params;
alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Sum = coop_mat16x16<f32, C>;
const EDGE: u32 = 16;
// Lanes of a subgroup.
const SG: u32 = 32;
// In front stand the subgroups of a workgroup, DOWN below each other and ALONG side by side. Tiles of a subgroup are variables
// of their own below: NVIDIA's compiler keeps matrices of an array in memory.
const TALL: u32 = 2;
const WIDE: u32 = 4;
const THREADS: u32 = SG * DOWN * ALONG;
const ROWS: u32 = DOWN * TALL * EDGE;
const COLUMNS: u32 = ALONG * WIDE * EDGE;
// Vectors of a row of a piece: a matrix is loaded from vectors in larger parts than from scalars, which are all that Metal
// takes. Rows begin at multiples of 16 bytes, which a cooperative load asks for, in different banks.
const PITCH: u32 = DEPTH / 4 + 2;
// Weights that a thread loads of a piece: they lie in one row and one group. Of x it loads eight vectors.
const SPAN: u32 = COLUMNS * DEPTH / THREADS;

@group(0) @binding(0) var<storage, read> x: array<vec4<f16>>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

var<workgroup> xs: array<vec4<f16>, ROWS * PITCH>;
var<workgroup> ws: array<vec4<f16>, COLUMNS * PITCH>;
// A tile of each subgroup on its way to y, where tiles stick out.
var<workgroup> tiles: array<f32, DOWN * ALONG * EDGE * EDGE>;

struct Packed { first: vec4<u32>, second: vec4<u32>, scale: f32, bias: f32 }

fn fetch_x(m0: u32, k0: u32, thread: u32, i: u32) -> vec4<f16> {
    let row = m0 + (i * THREADS + thread) / (DEPTH / 4u);
    let column = k0 + (thread % (DEPTH / 4u)) * 4u;
    if (row < p.m && column < p.k) { return x[(row * p.k + column) / 4u]; }
    return vec4<f16>(0.0);
}

fn put_x(thread: u32, i: u32, v: vec4<f16>) {
    xs[(i * THREADS + thread) / (DEPTH / 4u) * PITCH + thread % (DEPTH / 4u)] = v;
}

// Beyond the last column x is zero, so that the row's own last weights do no harm there.
fn fetch_w(row: u32, column: u32) -> Packed {
    let at = row * p.k + min(column, p.k - SPAN);
    var packed: Packed;
    if (BITS == 4u) {
        packed.first = codes[at / 32u];
        if (SPAN == 16u && (at & 16u) != 0u) { packed.first = packed.first.zwxy; }
    } else {
        packed.first = codes[at / 16u];
        if (SPAN == 32u) { packed.second = codes[at / 16u + 1u]; }
    }
    packed.scale = scale_at(at / GROUP);
    packed.bias = bias_at(at / GROUP);
    return packed;
}

fn put(at: u32, packed: Packed, low: vec4<f32>, high: vec4<f32>) {
    ws[at] = vec4<f16>(packed.scale * low + packed.bias);
    ws[at + 1u] = vec4<f16>(packed.scale * high + packed.bias);
}

@compute @workgroup_size(THREADS)
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
    // The thread's weights. Rows beyond the last repeat it: what they make is not stored.
    let own_row = thread / (DEPTH / SPAN);
    let own_column = (thread % (DEPTH / SPAN)) * SPAN;
    let w_row = min(n0 + own_row, p.n - 1u);

    for (var i = lane; i < EDGE * EDGE; i += SG) { tiles[tile + i] = 0.0; }
    workgroupBarrier();
    var s00 = coopLoadT<Sum>(&tiles[tile], EDGE);
    var s01 = s00;
    var s02 = s00;
    var s03 = s00;
    var s10 = s00;
    var s11 = s00;
    var s12 = s00;
    var s13 = s00;

    var x0 = fetch_x(m0, 0u, thread, 0u);
    var x1 = fetch_x(m0, 0u, thread, 1u);
    var x2 = fetch_x(m0, 0u, thread, 2u);
    var x3 = fetch_x(m0, 0u, thread, 3u);
    var x4 = fetch_x(m0, 0u, thread, 4u);
    var x5 = fetch_x(m0, 0u, thread, 5u);
    var x6 = fetch_x(m0, 0u, thread, 6u);
    var x7 = fetch_x(m0, 0u, thread, 7u);
    var next_w = fetch_w(w_row, own_column);
    for (var k0 = 0u; k0 < p.k; k0 += DEPTH) {
        put_x(thread, 0u, x0);
        put_x(thread, 1u, x1);
        put_x(thread, 2u, x2);
        put_x(thread, 3u, x3);
        put_x(thread, 4u, x4);
        put_x(thread, 5u, x5);
        put_x(thread, 6u, x6);
        put_x(thread, 7u, x7);
        let to = own_row * PITCH + own_column / 4u;
        let first = next_w.first;
        let second = next_w.second;
        if (BITS == 4u) {
            put(to, next_w, nibbles(first.x), nibbles(first.x >> 16u));
            put(to + 2u, next_w, nibbles(first.y), nibbles(first.y >> 16u));
            if (SPAN == 32u) {
                put(to + 4u, next_w, nibbles(first.z), nibbles(first.z >> 16u));
                put(to + 6u, next_w, nibbles(first.w), nibbles(first.w >> 16u));
            }
        } else {
            put(to, next_w, bytes(first.x), bytes(first.y));
            put(to + 2u, next_w, bytes(first.z), bytes(first.w));
            if (SPAN == 32u) {
                put(to + 4u, next_w, bytes(second.x), bytes(second.y));
                put(to + 6u, next_w, bytes(second.z), bytes(second.w));
            }
        }
        workgroupBarrier();
        if (k0 + DEPTH < p.k) {
            x0 = fetch_x(m0, k0 + DEPTH, thread, 0u);
            x1 = fetch_x(m0, k0 + DEPTH, thread, 1u);
            x2 = fetch_x(m0, k0 + DEPTH, thread, 2u);
            x3 = fetch_x(m0, k0 + DEPTH, thread, 3u);
            x4 = fetch_x(m0, k0 + DEPTH, thread, 4u);
            x5 = fetch_x(m0, k0 + DEPTH, thread, 5u);
            x6 = fetch_x(m0, k0 + DEPTH, thread, 6u);
            x7 = fetch_x(m0, k0 + DEPTH, thread, 7u);
            next_w = fetch_w(w_row, k0 + DEPTH + own_column);
        }
        for (var c = 0u; c < DEPTH; c += EDGE) {
            let a0 = coopLoadT<Left>(&xs[top * PITCH + c / 4u], PITCH);
            let a1 = coopLoadT<Left>(&xs[(top + EDGE) * PITCH + c / 4u], PITCH);
            // Rows of W are columns of its transpose.
            let b0 = coopLoad<Right>(&ws[left * PITCH + c / 4u], PITCH);
            let b1 = coopLoad<Right>(&ws[(left + EDGE) * PITCH + c / 4u], PITCH);
            let b2 = coopLoad<Right>(&ws[(left + 2u * EDGE) * PITCH + c / 4u], PITCH);
            let b3 = coopLoad<Right>(&ws[(left + 3u * EDGE) * PITCH + c / 4u], PITCH);
            s00 = coopMultiplyAdd(a0, b0, s00);
            s10 = coopMultiplyAdd(a1, b0, s10);
            s01 = coopMultiplyAdd(a0, b1, s01);
            s11 = coopMultiplyAdd(a1, b1, s11);
            s02 = coopMultiplyAdd(a0, b2, s02);
            s12 = coopMultiplyAdd(a1, b2, s12);
            s03 = coopMultiplyAdd(a0, b3, s03);
            s13 = coopMultiplyAdd(a1, b3, s13);
        }
        workgroupBarrier();
    }

    var sums: array<Sum, TALL * WIDE>;
    sums[0] = s00;
    sums[1] = s01;
    sums[2] = s02;
    sums[3] = s03;
    sums[4] = s10;
    sums[5] = s11;
    sums[6] = s12;
    sums[7] = s13;
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
