// Of one row: the workgroup norms and turns its query and the new key itself, and takes new key and value from where they
// were made. Beside the parts that see them, one workgroup of each key-value head writes them into the cache.
@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read_write> keys: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> values: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> position: u32;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> k: array<f32>;
@group(0) @binding(6) var<storage, read> v: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read> freqs: array<f32>;
@group(0) @binding(8) var<storage, read> q_weight: array<u32>;
@group(0) @binding(9) var<storage, read> k_weight: array<u32>;

const FRESH = true;

// The query, then the key.
var<workgroup> turned: array<f32, HD * 2>;

fn cached(row: u32) -> u32 {
    return min(position, c.capacity);
}

fn raw(which: u32, at: u32) -> f32 {
    if (which == 0u) { return q[at]; }
    return k[at];
}

fn weight_word(which: u32, i: u32) -> u32 {
    if (which == 0u) { return q_weight[i]; }
    return k_weight[i];
}

fn weight_at(which: u32, i: u32) -> f32 {
    if (!NORMED) { return 1.0; }
    if (DTYPE == 0u) { return bitcast<f32>(weight_word(which, i)); }
    let word = weight_word(which, i / 2u);
    if (DTYPE == 1u) { return unpack2x16float(word)[i % 2u]; }
    return bitcast<f32>(select(word << 16u, word & 0xffff0000u, i % 2u == 1u));
}

// A subgroup each for query and key, as far as there are two.
fn turn(head: u32, kv_head: u32, subgroup: u32, lane: u32) {
    for (var which = subgroup; which < 2u; which += SUBGROUPS) {
        let start = select(head, kv_head, which == 1u) * HD;
        var inverse = 1.0;
        if (NORMED) {
            var squares = 0.0;
            for (var i = lane; i < HD; i += SG) {
                let value = raw(which, start + i);
                squares += value * value;
            }
            inverse = 1.0 / sqrt(subgroupAdd(squares) / f32(HD) + c.eps);
        }
        for (var i = lane; i < HD / 2u; i += SG) {
            let angle = cos_sin(f32(position) * freqs[i]);
            let a = raw(which, start + i) * inverse * weight_at(which, i);
            let b = raw(which, start + i + HD / 2u) * inverse * weight_at(which, i + HD / 2u);
            turned[which * HD + i] = a * angle.x - b * angle.y;
            turned[which * HD + i + HD / 2u] = b * angle.x + a * angle.y;
        }
    }
    workgroupBarrier();
}

fn turned_at(at: u32) -> vec4<f32> {
    return vec4(turned[at], turned[at + 1u], turned[at + 2u], turned[at + 3u]);
}

fn query_at(row: u32, head: u32, column: u32) -> vec4<f32> {
    return turned_at(column * 4u);
}

fn fresh_key(column: u32) -> vec4<f32> {
    return turned_at(HD + column * 4u);
}

fn fresh_value(kv_head: u32, column: u32) -> vec4<f32> {
    return v[kv_head * (HD / 4u) + column];
}

// What the cache has no room for is dropped.
fn keep(head: u32, kv_head: u32, thread: u32) {
    if (head % (c.heads / c.kv_heads) != 0u || position >= c.capacity) { return; }
    for (var column = thread; column < HD / 4u; column += SG * SUBGROUPS) {
        let at = (position * c.kv_heads + kv_head) * (HD / 4u) + column;
        keys[at] = fresh_key(column);
        values[at] = fresh_value(kv_head, column);
    }
}
