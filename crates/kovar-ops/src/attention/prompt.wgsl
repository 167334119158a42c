// Attention for many query rows: a workgroup takes 16 rows of one query head. Tiles of KEYS keys pass through workgroup
// memory, first as keys, then as values, and every row keeps a running maximum (online softmax).
override SG: u32 = 32;
// Head size, a multiple of 4 up to 256.
override HD: u32 = 64;
// A multiple of 2.
override KEYS: u32 = 32;

const ROWS = 16u;
const THREADS = 128u;
// Rows of the result that a thread has: 16 * 256 / 4 / THREADS.
const MOST_ROWS = 8u;
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

var<workgroup> queries: array<vec4<f32>, ROWS * HD / 4>;
// A vector of padding after each key keeps threads that read different keys in different banks.
var<workgroup> tile: array<vec4<f32>, KEYS * (HD / 4 + 1)>;
var<workgroup> weights: array<f32, ROWS * KEYS>;
var<workgroup> shrinks: array<f32, ROWS>;


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
    // A thread has one column of rows group, group + groups, ... of the result.
    let groups = min(THREADS / size, ROWS);
    let column = thread % size;
    let my_group = thread / size;
    var total: array<vec4<f32>, MOST_ROWS>;
    for (var i = 0u; i < MOST_ROWS; i++) {
        total[i] = vec4(0.0);
    }
    // Softmax of a row is the work of a subgroup; all its lanes keep the row's maximum and sum.
    const most_softmax = 16u;
    let subgroups = THREADS / SG;
    var tops: array<f32, most_softmax>;
    var sums: array<f32, most_softmax>;
    for (var i = 0u; i < most_softmax; i++) {
        tops[i] = NONE;
        sums[i] = 0.0;
    }

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
            var higher = tops[i];
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
            let shrink = exp2(tops[i] - higher);
            sums[i] = sums[i] * shrink + subgroupAdd(sum);
            tops[i] = higher;
            if (lane == 0u) {
                shrinks[row] = shrink;
            }
        }
        workgroupBarrier();
        if (my_group < groups) {
            for (var i = 0u; i * groups + my_group < ROWS; i++) {
                total[i] *= shrinks[i * groups + my_group];
            }
            for (var key = 0u; key < KEYS; key++) {
                let value = tile[key * pitch + column];
                for (var i = 0u; i * groups + my_group < ROWS; i++) {
                    total[i] += weights[(i * groups + my_group) * KEYS + key] * value;
                }
            }
        }
        workgroupBarrier();
    }

    for (var i = 0u; i * subgroups + subgroup < ROWS; i++) {
        if (lane == 0u) {
            shrinks[i * subgroups + subgroup] = sums[i];
        }
    }
    workgroupBarrier();
    if (my_group < groups) {
        for (var i = 0u; i * groups + my_group < rows; i++) {
            let row = i * groups + my_group;
            y[((first + row) * c.heads + head) * size + column] = total[i] / shrinks[row];
        }
    }
}
