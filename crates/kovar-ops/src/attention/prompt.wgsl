// Attention for many query rows: a workgroup takes 16 rows of one query head. Tiles of KEYS keys pass through workgroup
// memory, first as keys, then as values, and every row keeps a running maximum (online softmax).
override SG: u32 = 32;
// Head size, a multiple of 4 up to 256.
override HD: u32 = 64;
// A multiple of 4.
override KEYS: u32 = 32;

const ROWS = 16u;
const THREADS = 128u;
// Below every score, and far enough from infinity to be subtracted.
const NONE = -1e30;

struct Constants {
    rows: u32,
    heads: u32,
    kv_heads: u32,
    capacity: u32,
    // With log2 e inside, as powers are taken of two.
    scale: f32,
    eps: f32,
}

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> keys: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> values: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> position: u32;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;
var<immediate> c: Constants;

var<workgroup> queries: array<vec4<f32>, ROWS * HD / 4>;
// A vector of padding after each key keeps threads that read different keys in different banks.
var<workgroup> tile: array<vec4<f32>, KEYS * (HD / 4 + 1)>;
var<workgroup> weights: array<f32, ROWS * KEYS>;
var<workgroup> shrinks: array<f32, ROWS>;
// Of each row the maximum and the sum so far.
var<workgroup> tops: array<f32, ROWS>;
var<workgroup> sums: array<f32, ROWS>;
// Four values, weighed.
fn mixed(at: u32, v: array<vec4<f32>, 4>) -> vec4<f32> {
    return (weights[at] * v[0] + weights[at + 1u] * v[1]) + (weights[at + 2u] * v[2] + weights[at + 3u] * v[3]);
}

@compute @workgroup_size(THREADS)
fn attention_prompt(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let size = HD / 4u;
    let pitch = size + 1u;
    let head = group.x;
    let first = group.y * ROWS;
    let rows = min(ROWS, c.rows - first);
    let kv_head = head / (c.heads / c.kv_heads);
    // Keys that the first row sees; each row after it sees one more, up to the capacity.
    let seen = min(position, c.capacity) + first + 1u;
    let length = min(seen + rows - 1u, c.capacity);

    for (var i = thread; i < ROWS * size; i += THREADS) {
        let row = i / size;
        queries[i] = vec4(0.0);
        if (row < rows) {
            queries[i] = q[((first + row) * c.heads + head) * size + i % size] * c.scale;
        }
    }
    for (var i = thread; i < ROWS; i += THREADS) {
        tops[i] = NONE;
        sums[i] = 0.0;
    }
    // A thread has one column of up to eight rows group, group + groups, ... of the result: in variables, as some compilers
    // keep arrays in memory. Rows beyond the last repeat it, and are not stored.
    let groups = min(THREADS / size, ROWS);
    let each = (ROWS + groups - 1u) / groups;
    let column = thread % size;
    let my_group = thread / size;
    let w0 = min(0u * groups + my_group, ROWS - 1u);
    let w1 = min(1u * groups + my_group, ROWS - 1u);
    let w2 = min(2u * groups + my_group, ROWS - 1u);
    let w3 = min(3u * groups + my_group, ROWS - 1u);
    let w4 = min(4u * groups + my_group, ROWS - 1u);
    let w5 = min(5u * groups + my_group, ROWS - 1u);
    let w6 = min(6u * groups + my_group, ROWS - 1u);
    let w7 = min(7u * groups + my_group, ROWS - 1u);
    var t0 = vec4(0.0);
    var t1 = vec4(0.0);
    var t2 = vec4(0.0);
    var t3 = vec4(0.0);
    var t4 = vec4(0.0);
    var t5 = vec4(0.0);
    var t6 = vec4(0.0);
    var t7 = vec4(0.0);
    // Softmax of a row is the work of a subgroup.
    let subgroups = THREADS / SG;

    for (var base = 0u; base < length; base += KEYS) {
        for (var i = thread; i < KEYS * size; i += THREADS) {
            let key = min(base + i / size, length - 1u);
            tile[i / size * pitch + i % size] = keys[(key * c.kv_heads + kv_head) * size + i % size];
        }
        workgroupBarrier();
        // Scores, two rows by two keys a thread.
        for (var block = thread; block < ROWS * KEYS / 4u; block += THREADS) {
            let key = block % (KEYS / 2u);
            let row = block / (KEYS / 2u) * 2u;
            var score = vec4(0.0);
            for (var i = 0u; i < size; i++) {
                let q0 = queries[row * size + i];
                let q1 = queries[(row + 1u) * size + i];
                let k0 = tile[key * pitch + i];
                let k1 = tile[(key + KEYS / 2u) * pitch + i];
                score += vec4(dot(q0, k0), dot(q0, k1), dot(q1, k0), dot(q1, k1));
            }
            weights[row * KEYS + key] = score.x;
            weights[row * KEYS + key + KEYS / 2u] = score.y;
            weights[(row + 1u) * KEYS + key] = score.z;
            weights[(row + 1u) * KEYS + key + KEYS / 2u] = score.w;
        }
        workgroupBarrier();
        for (var i = thread; i < KEYS * size; i += THREADS) {
            let key = min(base + i / size, length - 1u);
            tile[i / size * pitch + i % size] = values[(key * c.kv_heads + kv_head) * size + i % size];
        }
        for (var i = 0u; i * subgroups + subgroup < ROWS; i++) {
            let row = i * subgroups + subgroup;
            let visible = min(seen + row, length);
            let before = tops[row];
            var higher = before;
            for (var key = lane; key < KEYS; key += SG) {
                if (base + key < visible) {
                    higher = max(higher, weights[row * KEYS + key]);
                }
            }
            higher = subgroupMax(higher);
            var sum = 0.0;
            for (var key = lane; key < KEYS; key += SG) {
                var p = 0.0;
                if (base + key < visible) {
                    p = exp2(weights[row * KEYS + key] - higher);
                }
                weights[row * KEYS + key] = p;
                sum += p;
            }
            let shrink = exp2(before - higher);
            sum = subgroupAdd(sum);
            if (lane == 0u) {
                shrinks[row] = shrink;
                sums[row] = sums[row] * shrink + sum;
                tops[row] = higher;
            }
        }
        workgroupBarrier();
        if (my_group < groups) {
            t0 *= shrinks[w0];
            if (each > 1u) { t1 *= shrinks[w1]; }
            if (each > 2u) { t2 *= shrinks[w2]; }
            if (each > 3u) { t3 *= shrinks[w3]; }
            if (each > 4u) { t4 *= shrinks[w4]; }
            if (each > 5u) { t5 *= shrinks[w5]; }
            if (each > 6u) { t6 *= shrinks[w6]; }
            if (each > 7u) { t7 *= shrinks[w7]; }
            for (var key = 0u; key < KEYS; key += 4u) {
                let at = key * pitch + column;
                let v = array<vec4<f32>, 4>(tile[at], tile[at + pitch], tile[at + 2u * pitch], tile[at + 3u * pitch]);
                t0 = t0 + mixed(w0 * KEYS + key, v);
                if (each > 1u) { t1 = t1 + mixed(w1 * KEYS + key, v); }
                if (each > 2u) { t2 = t2 + mixed(w2 * KEYS + key, v); }
                if (each > 3u) { t3 = t3 + mixed(w3 * KEYS + key, v); }
                if (each > 4u) { t4 = t4 + mixed(w4 * KEYS + key, v); }
                if (each > 5u) { t5 = t5 + mixed(w5 * KEYS + key, v); }
                if (each > 6u) { t6 = t6 + mixed(w6 * KEYS + key, v); }
                if (each > 7u) { t7 = t7 + mixed(w7 * KEYS + key, v); }
            }
        }
        workgroupBarrier();
    }

    if (my_group < groups) {
        let to = (first * c.heads + head) * size + column;
        let stride = c.heads * size;
        if (0u * groups + my_group < rows) { y[to + w0 * stride] = t0 / sums[w0]; }
        if (1u * groups + my_group < rows) { y[to + w1 * stride] = t1 / sums[w1]; }
        if (2u * groups + my_group < rows) { y[to + w2 * stride] = t2 / sums[w2]; }
        if (3u * groups + my_group < rows) { y[to + w3 * stride] = t3 / sums[w3]; }
        if (4u * groups + my_group < rows) { y[to + w4 * stride] = t4 / sums[w4]; }
        if (5u * groups + my_group < rows) { y[to + w5 * stride] = t5 / sums[w5]; }
        if (6u * groups + my_group < rows) { y[to + w6 * stride] = t6 / sums[w6]; }
        if (7u * groups + my_group < rows) { y[to + w7 * stride] = t7 / sums[w7]; }
    }
}
