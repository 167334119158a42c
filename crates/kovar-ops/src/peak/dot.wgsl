// Eight sums of products of bytes in each thread, each of them the bytes of the next: nothing of it is the same twice.
@group(0) @binding(0) var<storage, read_write> y: array<u32>;
var<immediate> rounds: u32;

const FACTORS = 0x01020301u;

@compute @workgroup_size(256)
fn peak_dot(@builtin(global_invocation_id) id: vec3<u32>) {
    let start = id.x * 0x9e3779b9u;
    var a0 = bitcast<i32>(start);
    var a1 = bitcast<i32>(start + 1u);
    var a2 = bitcast<i32>(start + 2u);
    var a3 = bitcast<i32>(start + 3u);
    var a4 = bitcast<i32>(start + 4u);
    var a5 = bitcast<i32>(start + 5u);
    var a6 = bitcast<i32>(start + 6u);
    var a7 = bitcast<i32>(start + 7u);
    for (var r = 0u; r < rounds; r++) {
        let first = bitcast<u32>(a0);
        a0 += dot4I8Packed(bitcast<u32>(a1), FACTORS);
        a1 += dot4I8Packed(bitcast<u32>(a2), FACTORS);
        a2 += dot4I8Packed(bitcast<u32>(a3), FACTORS);
        a3 += dot4I8Packed(bitcast<u32>(a4), FACTORS);
        a4 += dot4I8Packed(bitcast<u32>(a5), FACTORS);
        a5 += dot4I8Packed(bitcast<u32>(a6), FACTORS);
        a6 += dot4I8Packed(bitcast<u32>(a7), FACTORS);
        a7 += dot4I8Packed(first, FACTORS);
    }
    y[id.x] = bitcast<u32>(a0 ^ a1 ^ a2 ^ a3 ^ a4 ^ a5 ^ a6 ^ a7);
}
