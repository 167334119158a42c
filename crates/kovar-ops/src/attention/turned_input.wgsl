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

// Two pairs of elements that are turned together, of the query or the key, and what they are turned by.
struct Raw {
    a: vec2<f32>,
    b: vec2<f32>,
    weight_a: vec2<f32>,
    weight_b: vec2<f32>,
    freq: vec2<f32>,
}

fn value_at(which: u32, at: u32) -> f32 {
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

// The pairs i and i + SG of a head; beyond the last, zeros.
fn pairs_at(which: u32, start: u32, i: u32) -> Raw {
    let at = min(vec2(i, i + SG), vec2(HD / 2u - 1u));
    let there = vec2(i, i + SG) < vec2(HD / 2u);
    let low = start + at;
    let high = low + HD / 2u;
    var pairs: Raw;
    pairs.a = select(vec2(0.0), vec2(value_at(which, low.x), value_at(which, low.y)), there);
    pairs.b = select(vec2(0.0), vec2(value_at(which, high.x), value_at(which, high.y)), there);
    pairs.weight_a = vec2(weight_at(which, at.x), weight_at(which, at.y));
    pairs.weight_b = vec2(weight_at(which, at.x + HD / 2u), weight_at(which, at.y + HD / 2u));
    pairs.freq = vec2(freqs[at.x], freqs[at.y]);
    return pairs;
}

fn squares_of(pairs: Raw) -> f32 {
    return dot(pairs.a, pairs.a) + dot(pairs.b, pairs.b);
}

fn keep_turned(pairs: Raw, which: u32, i: u32, inverse: f32) {
    let first = cos_sin(f32(position) * pairs.freq.x);
    let second = cos_sin(f32(position) * pairs.freq.y);
    let cosine = vec2(first.x, second.x);
    let sine = vec2(first.y, second.y);
    let a = pairs.a * inverse * pairs.weight_a;
    let b = pairs.b * inverse * pairs.weight_b;
    let low = a * cosine - b * sine;
    let high = b * cosine + a * sine;
    let at = which * HD + i;
    if (i < HD / 2u) {
        turned[at] = low.x;
        turned[at + HD / 2u] = high.x;
    }
    if (i + SG < HD / 2u) {
        turned[at + SG] = low.y;
        turned[at + SG + HD / 2u] = high.y;
    }
}

fn start_of(which: u32, head: u32, kv_head: u32) -> u32 {
    return select(head, kv_head, which == 1u) * HD;
}

// What the subgroup turns first.
fn raw_heads(head: u32, kv_head: u32, subgroup: u32, lane: u32) -> Raw {
    let which = min(subgroup, 1u);
    return pairs_at(which, start_of(which, head, kv_head), lane);
}

// A subgroup each for query and key, as far as there are two.
fn turn(raw: Raw, head: u32, kv_head: u32, subgroup: u32, lane: u32) {
    for (var which = subgroup; which < 2u; which += SUBGROUPS) {
        let start = start_of(which, head, kv_head);
        var first = raw;
        if (which != subgroup) { first = pairs_at(which, start, lane); }
        var inverse = 1.0;
        if (NORMED) {
            var squares = squares_of(first);
            for (var i = lane + 2u * SG; i < HD / 2u; i += 2u * SG) { squares += squares_of(pairs_at(which, start, i)); }
            inverse = 1.0 / sqrt(subgroupAdd(squares) / f32(HD) + c.eps);
        }
        keep_turned(first, which, lane, inverse);
        for (var i = lane + 2u * SG; i < HD / 2u; i += 2u * SG) {
            keep_turned(pairs_at(which, start, i), which, i, inverse);
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
