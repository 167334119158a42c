// Rounds rows of x to 8 bits in blocks of 32 and keeps what the codes stand for, in the type that the file in front says:
// kernels that multiply floats then multiply the codes. A thread takes a block.
struct Params { m: u32, n: u32, k: u32 }
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let block = id.y * grid.x * 64u + id.x;
    if (block >= p.m * (p.k / 32u)) { return; }
    // As integers, magnitudes are in the same order, and NaN is the largest.
    var most = vec4<u32>(0u);
    for (var i = 0u; i < 8u; i++) {
        most = max(most, bitcast<vec4<u32>>(x[block * 8u + i]) & vec4<u32>(0x7fffffffu));
    }
    let largest = bitcast<f32>(max(max(most.x, most.y), max(most.z, most.w)));
    // A block of the smallest subnormals has a quotient beyond f32: it is as good as zero.
    var inverse = 0.0;
    if (largest > 1e-36) { inverse = 127.0 / largest; }
    let scale = largest / 127.0;
    for (var i = 0u; i < 8u; i++) { put(block * 8u + i, round(x[block * 8u + i] * inverse) * scale); }
}
