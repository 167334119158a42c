// Rounds rows of x to 8 bits in blocks of 32. A thread takes a group of a row, whose sum it also makes.
// A row becomes k/4 words of codes, k/32 scales and k/GROUP sums, as bits of f32. For matrices of 4 bits, each block has
// its elements of even index first, as their codes lie in the lower halves of bytes.
struct Params { m: u32, n: u32, k: u32 }
var<immediate> p: Params;
override BITS: u32 = 4;
override GROUP: u32 = 64;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> records: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let groups = p.k / GROUP;
    let all = (id.y * grid.x * 64u) + id.x;
    let row = all / groups;
    let group = all % groups;
    if (row >= p.m) { return; }
    let record = row * (p.k / 4u + p.k / 32u + groups);
    let scales = record + p.k / 4u;
    var sum = 0.0;
    for (var block = group * GROUP / 32u; block < (group + 1u) * GROUP / 32u; block++) {
        let first = row * p.k + block * 32u;
        // As integers, magnitudes are in the same order, and NaN is the largest.
        var largest_bits = 0u;
        for (var i = 0u; i < 32u; i++) {
            largest_bits = max(largest_bits, bitcast<u32>(x[first + i]) & 0x7fffffffu);
        }
        let largest = bitcast<f32>(largest_bits);
        // A block of the smallest subnormals has a quotient beyond f32: it is as good as zero.
        var inverse = 0.0;
        if (largest > 1e-36) { inverse = 127.0 / largest; }
        var codes = 0;
        for (var w = 0u; w < 8u; w++) {
            var word = 0u;
            for (var i = 0u; i < 4u; i++) {
                var at = w * 4u + i;
                if (BITS == 4u) { at = (at % 16u) * 2u + at / 16u; }
                let code = i32(round(x[first + at] * inverse));
                codes += code;
                word |= (bitcast<u32>(code) & 255u) << (8u * i);
            }
            records[record + block * 8u + w] = word;
        }
        let scale = largest / 127.0;
        records[scales + block] = bitcast<u32>(scale);
        sum += scale * f32(codes);
    }
    records[scales + p.k / 32u + group] = bitcast<u32>(sum);
}
