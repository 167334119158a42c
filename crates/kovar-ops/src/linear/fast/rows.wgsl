// What a lane needs of ROWS rows for one block of x.
struct Step {
    a: array<vec4<u32>, 4>,
    b: array<vec4<u32>, 4>,
    line: array<vec2<f32>, 4>,
}

// A block of codes of 4 bits is one vector, of 8 bits two. Lanes beyond the last block take it again.
fn fetch(group: u32, step: u32, lane: u32) -> Step {
    var next: Step;
    let c = min(step * SG + lane, K / 32u - 1u);
    for (var r = 0u; r < ROWS; r++) {
        let spot = place(group, r);
        let at = spot.y * (K * BITS / 128u) + c * (BITS / 4u);
        next.a[r] = codes_at(spot.x, at);
        if (BITS == 8u) { next.b[r] = codes_at(spot.x, at + 1u); }
        next.line[r] = line_at(spot.x, spot.y * (K / GROUP) + c * 32u / GROUP);
    }
    return next;
}

fn dot_of(q: vec4<u32>, v: vec4<u32>) -> i32 {
    return (dot4I8Packed(q.x, v.x) + dot4I8Packed(q.y, v.y)) + (dot4I8Packed(q.z, v.z) + dot4I8Packed(q.w, v.w));
}

@compute @workgroup_size(SG * SUBGROUPS)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let steps = (K / 32u + SG - 1u) / SG;
    let pitch = K / 32u + 8u;
    let last = groups() - 1u;
    var group = wg.x * SUBGROUPS + subgroup;
    // The first codes are on their way while x is rounded.
    var next = fetch(min(group, last), 0u, lane);
    let mine = subgroupAdd(round_row(wg.z, thread));
    if (lane == 0u) { squares[subgroup] = mine; }
    workgroupBarrier();
    var sum_of_squares = 0.0;
    for (var i = 0u; i < SUBGROUPS; i++) { sum_of_squares += squares[i]; }
    let scale = factor(sum_of_squares);
    while (group <= last) {
        let following = group + grid.x * SUBGROUPS;
        var total = vec4<f32>(0.0);
        for (var step = 0u; step < steps; step++) {
            let now = next;
            if (step + 1u < steps) {
                next = fetch(group, step + 1u, lane);
            } else if (following <= last) {
                next = fetch(following, 0u, lane);
            }
            let c = step * SG + lane;
            let block = min(c, K / 32u - 1u);
            let low = vec4<u32>(
                words[block], words[pitch + block], words[2u * pitch + block], words[3u * pitch + block]);
            let high = vec4<u32>(
                words[4u * pitch + block], words[5u * pitch + block], words[6u * pitch + block], words[7u * pitch + block]);
            let block_sum = block_sums[block];
            let block_scale = select(0.0, block_scales[block], c < K / 32u);
            for (var r = 0u; r < ROWS; r++) {
                var product = 0.0;
                if (BITS == 4u) {
                    const NIBBLES = vec4<u32>(0x0f0f0f0fu);
                    let q = now.a[r];
                    product = f32(dot_of(q & NIBBLES, low) + dot_of((q >> vec4<u32>(4u)) & NIBBLES, high));
                } else {
                    // Codes are unsigned and the product is of signed bytes: 128 less, and 128 times the sum more.
                    const SIGNS = vec4<u32>(0x80808080u);
                    product = f32(dot_of(now.a[r] ^ SIGNS, low) + dot_of(now.b[r] ^ SIGNS, high)) + 128.0 * block_sum;
                }
                total[r] += block_scale * (now.line[r].x * product + now.line[r].y * block_sum);
            }
        }
        total = subgroupAdd(total) * scale;
        finish(wg.z, group, lane, total);
        group = following;
    }
}
