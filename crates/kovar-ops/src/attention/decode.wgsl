// Attention for few query rows: a workgroup takes one query head of one row and reads all keys it may see.
//
// LANES lanes of a subgroup share a key and form a stream; stream s takes keys s, s + streams, ..., four at a time, with
// a running maximum (online softmax). The streams of a subgroup are combined at the end, then the subgroups.
override SG: u32 = 32;
override SUBGROUPS: u32 = 8;
// Head size, a multiple of 4 up to 256.
override HD: u32 = 64;
// A power of two, at most SG.
override LANES: u32 = 16;

const MOST_CHUNKS = 16u;
// Below every score, and far enough from infinity to be subtracted.
const NONE = -1e30;

struct Constants {
    rows: u32,
    heads: u32,
    kv_heads: u32,
    capacity: u32,
    // With log2 e inside, as powers are taken of two.
    scale: f32,
}

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> keys: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> values: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> position: u32;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;
var<immediate> c: Constants;

var<workgroup> tops: array<f32, SUBGROUPS>;
var<workgroup> sums: array<f32, SUBGROUPS>;
var<workgroup> parts: array<vec4<f32>, SUBGROUPS * HD / 4>;

@compute @workgroup_size(SG * SUBGROUPS)
fn attention_decode(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let size = HD / 4u;
    let chunks = (size + LANES - 1u) / LANES;
    let streams = SUBGROUPS * SG / LANES;
    let head = group.x;
    let row = group.y;
    let kv_head = head / (c.heads / c.kv_heads);
    let length = min(min(position, c.capacity) + row + 1u, c.capacity);
    let stream = subgroup * (SG / LANES) + lane / LANES;
    let first = lane % LANES;

    var query: array<vec4<f32>, MOST_CHUNKS>;
    var total: array<vec4<f32>, MOST_CHUNKS>;
    for (var i = 0u; i < chunks; i++) {
        let column = i * LANES + first;
        query[i] = vec4(0.0);
        total[i] = vec4(0.0);
        if (column < size) {
            query[i] = q[(row * c.heads + head) * size + column] * c.scale;
        }
    }
    var top = NONE;
    var sum = 0.0;
    for (var base = 0u; base < length; base += streams * 4u) {
        let key = base + stream + vec4(0u, 1u, 2u, 3u) * streams;
        let valid = key < vec4(length);
        // What a key beyond the last scores is left out, whatever is there; values must not be.
        let key_at = (min(key, vec4(c.capacity - 1u)) * c.kv_heads + kv_head) * size;
        let at = (min(key, vec4(length - 1u)) * c.kv_heads + kv_head) * size;
        var score = vec4(0.0);
        for (var i = 0u; i < chunks; i++) {
            let column = i * LANES + first;
            if (size % LANES == 0u || column < size) {
                let a = query[i];
                score += vec4(
                    dot(a, keys[key_at.x + column]),
                    dot(a, keys[key_at.y + column]),
                    dot(a, keys[key_at.z + column]),
                    dot(a, keys[key_at.w + column]),
                );
            }
        }
        for (var step = LANES / 2u; step > 0u; step /= 2u) {
            score += subgroupShuffleXor(score, step);
        }
        score = select(vec4(NONE), score, valid);
        let higher = max(top, max(max(score.x, score.y), max(score.z, score.w)));
        let shrink = exp2(top - higher);
        let p = select(vec4(0.0), exp2(score - higher), valid);
        top = higher;
        sum = sum * shrink + (p.x + p.y + p.z + p.w);
        for (var i = 0u; i < chunks; i++) {
            let column = i * LANES + first;
            if (size % LANES == 0u || column < size) {
                total[i] = total[i] * shrink + p.x * values[at.x + column] + p.y * values[at.y + column]
                    + p.z * values[at.z + column] + p.w * values[at.w + column];
            }
        }
    }

    // The streams of a subgroup become one.
    for (var step = LANES; step < SG; step *= 2u) {
        let higher = max(top, subgroupShuffleXor(top, step));
        let shrink = exp2(top - higher);
        top = higher;
        sum *= shrink;
        sum += subgroupShuffleXor(sum, step);
        for (var i = 0u; i < chunks; i++) {
            let part = total[i] * shrink;
            total[i] = part + subgroupShuffleXor(part, step);
        }
    }
    if (lane == 0u) {
        tops[subgroup] = top;
        sums[subgroup] = sum;
    }
    for (var i = 0u; i < chunks; i++) {
        let column = i * LANES + first;
        if (lane < LANES && column < size) {
            parts[subgroup * size + column] = total[i];
        }
    }
    workgroupBarrier();
    for (var column = thread; column < size; column += SG * SUBGROUPS) {
        var highest = NONE;
        for (var s = 0u; s < SUBGROUPS; s++) {
            highest = max(highest, tops[s]);
        }
        var all = 0.0;
        var result = vec4(0.0);
        for (var s = 0u; s < SUBGROUPS; s++) {
            let weight = exp2(tops[s] - highest);
            all += weight * sums[s];
            result += weight * parts[s * size + column];
        }
        y[(row * c.heads + head) * size + column] = result / all;
    }
}
