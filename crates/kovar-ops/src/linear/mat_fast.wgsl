// y = x Wᵀ for rows of x rounded to 8 bits (see round.wgsl). A thread makes one element of y.
struct Params { m: u32, n: u32, k: u32 }
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> records: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

// In a function of its own: naga's Metal writer names a packed operand after itself, and twice in one scope is an error.
fn bytes_sum(x: u32) -> i32 {
    return dot4I8Packed(0x01010101u, x);
}

// Codes of 8 bits are unsigned and the product is of signed bytes: 128 less, and 128 times the sum of x more.
fn bytes_dot(w: u32, x: u32) -> i32 {
    return dot4I8Packed(w ^ 0x80808080u, x) + 128 * bytes_sum(x);
}

fn block_dot(row: u32, block: u32, at: u32) -> i32 {
    var sum = 0;
    if (BITS == 4u) {
        let q = codes[(row * p.k) / 32u + block];
        for (var i = 0u; i < 4u; i++) {
            sum += dot4I8Packed(q[i] & 0x0f0f0f0fu, records[at + i]);
            sum += dot4I8Packed((q[i] >> 4u) & 0x0f0f0f0fu, records[at + 4u + i]);
        }
    } else {
        let first = (row * p.k) / 16u + block * 2u;
        for (var i = 0u; i < 4u; i++) {
            sum += bytes_dot(codes[first][i], records[at + i]);
            sum += bytes_dot(codes[first + 1u][i], records[at + 4u + i]);
        }
    }
    return sum;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n = id.x;
    if (n >= p.n) { return; }
    let groups = p.k / GROUP;
    let record = id.y * (p.k / 4u + p.k / 32u + groups);
    let scales = record + p.k / 4u;
    let sums = scales + p.k / 32u;
    var total = 0.0;
    for (var group = 0u; group < groups; group++) {
        var sum = 0.0;
        for (var block = group * GROUP / 32u; block < (group + 1u) * GROUP / 32u; block++) {
            sum += bitcast<f32>(records[scales + block]) * f32(block_dot(n, block, record + block * 8u));
        }
        let g = n * groups + group;
        total += scale_at(g) * sum + bias_at(g) * bitcast<f32>(records[sums + group]);
    }
    y[id.y * p.n + n] = total;
}
