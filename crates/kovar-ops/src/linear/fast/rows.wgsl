// What a lane needs of a row for one block of x: a block of codes of 4 bits is one vector, of 8 bits two.
struct Part {
    a: vec4<u32>,
    b: vec4<u32>,
    line: vec2<f32>,
}

fn fetch(group: u32, r: u32, c: u32) -> Part {
    var next: Part;
    let spot = place(group, r);
    let at = spot.y * (K * BITS / 128u) + c * (BITS / 4u);
    next.a = codes_at(spot.x, at);
    if (BITS == 8u) { next.b = codes_at(spot.x, at + 1u); }
    next.line = line_at(spot.x, spot.y * (K / GROUP) + c * 32u / GROUP);
    return next;
}

fn dot_of(q: vec4<u32>, v: vec4<u32>) -> i32 {
    return (dot4I8Packed(q.x, v.x) + dot4I8Packed(q.y, v.y)) + (dot4I8Packed(q.z, v.z) + dot4I8Packed(q.w, v.w));
}

// A block of x: its words, and the sum of its codes.
struct Block {
    low: vec4<u32>,
    high: vec4<u32>,
    sum: f32,
}

fn product(part: Part, x: Block) -> f32 {
    var product = 0.0;
    if (BITS == 4u) {
        const NIBBLES = vec4<u32>(0x0f0f0f0fu);
        let q = part.a;
        product = f32(dot_of(q & NIBBLES, x.low) + dot_of((q >> vec4<u32>(4u)) & NIBBLES, x.high));
    } else {
        // Codes are unsigned and the product is of signed bytes: 128 less, and 128 times the sum more.
        const SIGNS = vec4<u32>(0x80808080u);
        product = f32(dot_of(part.a ^ SIGNS, x.low) + dot_of(part.b ^ SIGNS, x.high)) + 128.0 * x.sum;
    }
    return part.line.x * product + part.line.y * x.sum;
}

// Sums of the subgroups that share rows, in two halves that take turns, so that nobody waits for those who read.
var<workgroup> shares: array<vec2<f32>, 64>;

@compute @workgroup_size(SG * SUBGROUPS * SPLIT)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let blocks = K / 32u;
    let steps = (blocks + SG * SPLIT - 1u) / (SG * SPLIT);
    let pitch = blocks + 8u;
    let last = groups() - 1u;
    let own = subgroup / SPLIT;
    let place_in_step = subgroup % SPLIT * SG + lane;
    var base = wg.x * SUBGROUPS;
    // What takes longest to be used is asked for first: x, then the first codes, which are on their way while x is rounded.
    // Lanes beyond the last block take it again. The two rows are in variables of their own: some compilers keep arrays in
    // memory.
    let first = min(place_in_step, blocks - 1u);
    let input = input_at(wg.z, thread);
    var next0 = fetch(min(base + own, last), 0u, first);
    var next1: Part;
    if (ROWS == 2u) { next1 = fetch(min(base + own, last), 1u, first); }
    let mine = subgroupAdd(round_row(wg.z, thread, input));
    if (lane == 0u) { squares[subgroup] = mine; }
    workgroupBarrier();
    var sum_of_squares = 0.0;
    for (var i = 0u; i < SUBGROUPS * SPLIT; i++) { sum_of_squares += squares[i]; }
    let scale = factor(sum_of_squares);
    var half = 0u;
    while (base <= last) {
        let following = base + grid.x * SUBGROUPS;
        var total = vec2<f32>(0.0);
        for (var step = 0u; step < steps; step++) {
            let now0 = next0;
            let now1 = next1;
            let more = step + 1u < steps;
            if (more || following <= last) {
                let next_group = min(select(following, base, more) + own, last);
                let c = select(first, min((step + 1u) * SG * SPLIT + place_in_step, blocks - 1u), more);
                next0 = fetch(next_group, 0u, c);
                if (ROWS == 2u) { next1 = fetch(next_group, 1u, c); }
            }
            let c = step * SG * SPLIT + place_in_step;
            let block = min(c, blocks - 1u);
            var x: Block;
            x.low = vec4<u32>(
                words[block], words[pitch + block], words[2u * pitch + block], words[3u * pitch + block]);
            x.high = vec4<u32>(
                words[4u * pitch + block], words[5u * pitch + block], words[6u * pitch + block], words[7u * pitch + block]);
            x.sum = block_sums[block];
            let block_scale = select(0.0, block_scales[block], c < blocks);
            total.x += block_scale * product(now0, x);
            if (ROWS == 2u) { total.y += block_scale * product(now1, x); }
        }
        total = vec2<f32>(subgroupAdd(total.x), subgroupAdd(total.y));
        if (SPLIT > 1u) {
            if (lane == 0u) { shares[half + subgroup] = total; }
            workgroupBarrier();
            total = shares[half + own * SPLIT];
            for (var i = 1u; i < SPLIT; i++) { total += shares[half + own * SPLIT + i]; }
            half = 32u - half;
        }
        if (subgroup % SPLIT == 0u && base + own <= last) { finish(wg.z, base + own, lane, total * scale); }
        base = following;
    }
}
