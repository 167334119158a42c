
var<workgroup> tops: array<f32, SUBGROUPS>;
var<workgroup> sums: array<f32, SUBGROUPS>;
var<workgroup> parts: array<vec4<f32>, SUBGROUPS * HD / 4>;

// A column of four keys, or of their values.
struct Four {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
}

fn keys_at(at: vec4<u32>) -> Four {
    return Four(keys[at.x], keys[at.y], keys[at.z], keys[at.w]);
}

fn values_at(at: vec4<u32>) -> Four {
    return Four(values[at.x], values[at.y], values[at.z], values[at.w]);
}

fn scores(query: vec4<f32>, four: Four) -> vec4<f32> {
    return vec4(dot(query, four.a), dot(query, four.b), dot(query, four.c), dot(query, four.d));
}

fn mixed(p: vec4<f32>, four: Four) -> vec4<f32> {
    return p.x * four.a + p.y * four.b + p.z * four.c + p.w * four.d;
}

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
    let split = group.z;
    let kv_head = head / (c.heads / c.kv_heads);
    // Before all that waits for the position.
    let raw = raw_heads(head, kv_head, subgroup, lane);
    let length = cached(row);
    // Whole turns of the streams, so that parts begin alike.
    let each = (length + SPLITS * streams - 1u) / (SPLITS * streams) * streams;
    let begin = min(split * each, length);
    let end = min(begin + each, length);
    let stream = subgroup * (SG / LANES) + lane / LANES;
    let first = lane % LANES;
    let column0 = min(first, size - 1u);

    // The first keys and values are on their way while the query is made. A part without keys reads one and leaves it out.
    let nearest = min(begin + stream + vec4(0u, 1u, 2u, 3u) * streams, vec4(max(end, 1u) - 1u));
    let start = (nearest * c.kv_heads + kv_head) * size + column0;
    var next_keys = keys_at(start);
    var next_values = values_at(start);
    turn(raw, head, kv_head, subgroup, lane);
    var query: array<vec4<f32>, MOST_CHUNKS>;
    var total: array<vec4<f32>, MOST_CHUNKS>;
    for (var i = 0u; i < chunks; i++) {
        let column = i * LANES + first;
        query[i] = vec4(0.0);
        total[i] = vec4(0.0);
        if (column < size) {
            query[i] = query_at(row, head, column) * c.scale;
        }
    }
    var top = NONE;
    var sum = 0.0;
    for (var base = begin; base < end; base += streams * 4u) {
        let key = base + stream + vec4(0u, 1u, 2u, 3u) * streams;
        // A key beyond the last is read again, and left out.
        let valid = key < vec4(end);
        let at = (min(key, vec4(end - 1u)) * c.kv_heads + kv_head) * size;
        let now_keys = next_keys;
        let now_values = next_values;
        if (base + streams * 4u < end) {
            let following = (min(key + streams * 4u, vec4(end - 1u)) * c.kv_heads + kv_head) * size + column0;
            next_keys = keys_at(following);
            next_values = values_at(following);
        }
        var score = scores(query[0], now_keys);
        for (var i = 1u; i < chunks; i++) {
            let column = i * LANES + first;
            if (size % LANES == 0u || column < size) {
                score += scores(query[i], keys_at(at + column));
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
        total[0] = total[0] * shrink + mixed(p, now_values);
        for (var i = 1u; i < chunks; i++) {
            let column = i * LANES + first;
            if (size % LANES == 0u || column < size) {
                total[i] = total[i] * shrink + mixed(p, values_at(at + column));
            }
        }
    }
    // The new key is the last part's, and there the first stream's.
    if (FRESH && split == SPLITS - 1u) {
        var score = 0.0;
        for (var i = 0u; i < chunks; i++) {
            let column = i * LANES + first;
            if (column < size) { score += dot(query[i], fresh_key(column)); }
        }
        for (var step = LANES / 2u; step > 0u; step /= 2u) {
            score += subgroupShuffleXor(score, step);
        }
        let mine = stream == 0u && length < c.capacity;
        score = select(NONE, score, mine);
        let higher = max(top, score);
        let shrink = exp2(top - higher);
        let p = select(0.0, exp2(score - higher), mine);
        top = higher;
        sum = sum * shrink + p;
        for (var i = 0u; i < chunks; i++) {
            let column = i * LANES + first;
            if (column < size) { total[i] = total[i] * shrink + p * fresh_value(kv_head, column); }
        }
        keep(head, kv_head, thread);
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
    let to = row * c.heads + head;
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
        if (PARTS) {
            let part = (to * SPLITS + split) * (size + 1u);
            y[part + column] = result;
            if (column == 0u) { y[part + size] = vec4(highest, all, 0.0, 0.0); }
        } else {
            y[to * size + column] = result / all;
        }
    }
}
