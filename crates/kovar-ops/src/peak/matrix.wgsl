// Eight products of tiles added up in each subgroup, again and again. The file in front says how large a tile is.
override SG: u32 = 32;
const SUBGROUPS: u32 = 4;
const SUMS: u32 = 8;

@group(0) @binding(0) var<storage, read> x: array<f16>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
var<immediate> rounds: u32;

@compute @workgroup_size(SG * SUBGROUPS)
fn peak_matrix(@builtin(workgroup_id) wg: vec3<u32>, @builtin(subgroup_id) subgroup: u32) {
    let stride = EDGE;
    let first = (wg.x * SUBGROUPS + subgroup) * SUMS * EDGE * EDGE;
    let left = coopLoadT<Left>(&x[0], stride);
    let right = coopLoadT<Right>(&x[EDGE * EDGE], stride);
    // What is in y goes into the sums, so that they differ.
    var sums: array<Sum, SUMS>;
    for (var i = 0u; i < SUMS; i++) { sums[i] = coopLoadT<Sum>(&y[first + i * EDGE * EDGE], stride); }
    for (var r = 0u; r < rounds; r++) {
        for (var i = 0u; i < SUMS; i++) { sums[i] = coopMultiplyAdd(left, right, sums[i]); }
    }
    for (var i = 0u; i < SUMS; i++) {
        let at = first + i * EDGE * EDGE;
        let sum = sums[i];
        coopStoreT(sum, &y[at], stride);
    }
}
