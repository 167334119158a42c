// Eight products of tiles added up in each subgroup, again and again. The file in front says how large a tile is. Sums are
// variables: NVIDIA's compiler keeps arrays of matrices in memory.
override SG: u32 = 32;
const SUBGROUPS: u32 = 4;
const SUMS: u32 = 8;
const TILE: u32 = EDGE * EDGE;

@group(0) @binding(0) var<storage, read> x: array<f16>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
var<immediate> rounds: u32;

@compute @workgroup_size(SG * SUBGROUPS)
fn peak_matrix(@builtin(workgroup_id) wg: vec3<u32>, @builtin(subgroup_id) subgroup: u32) {
    let stride = EDGE;
    let left = coopLoadT<Left>(&x[0], stride);
    let right = coopLoadT<Right>(&x[TILE], stride);
    let y0 = (wg.x * SUBGROUPS + subgroup) * SUMS * TILE;
    let y1 = y0 + TILE;
    let y2 = y1 + TILE;
    let y3 = y2 + TILE;
    let y4 = y3 + TILE;
    let y5 = y4 + TILE;
    let y6 = y5 + TILE;
    let y7 = y6 + TILE;
    // What is in y goes into the sums, so that they differ.
    var sum0 = coopLoadT<Sum>(&y[y0], stride);
    var sum1 = coopLoadT<Sum>(&y[y1], stride);
    var sum2 = coopLoadT<Sum>(&y[y2], stride);
    var sum3 = coopLoadT<Sum>(&y[y3], stride);
    var sum4 = coopLoadT<Sum>(&y[y4], stride);
    var sum5 = coopLoadT<Sum>(&y[y5], stride);
    var sum6 = coopLoadT<Sum>(&y[y6], stride);
    var sum7 = coopLoadT<Sum>(&y[y7], stride);
    for (var r = 0u; r < rounds; r++) {
        sum0 = coopMultiplyAdd(left, right, sum0);
        sum1 = coopMultiplyAdd(left, right, sum1);
        sum2 = coopMultiplyAdd(left, right, sum2);
        sum3 = coopMultiplyAdd(left, right, sum3);
        sum4 = coopMultiplyAdd(left, right, sum4);
        sum5 = coopMultiplyAdd(left, right, sum5);
        sum6 = coopMultiplyAdd(left, right, sum6);
        sum7 = coopMultiplyAdd(left, right, sum7);
    }
    coopStoreT(sum0, &y[y0], stride);
    coopStoreT(sum1, &y[y1], stride);
    coopStoreT(sum2, &y[y2], stride);
    coopStoreT(sum3, &y[y3], stride);
    coopStoreT(sum4, &y[y4], stride);
    coopStoreT(sum5, &y[y5], stride);
    coopStoreT(sum6, &y[y6], stride);
    coopStoreT(sum7, &y[y7], stride);
}
