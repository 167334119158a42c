
// The best of each part of each row, as key and place; a workgroup takes a part.
@compute @workgroup_size(SG * SUBGROUPS)
fn argmax_parts(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let each = (c.width + c.parts - 1u) / c.parts;
    let begin = min(group.x * each, c.width);
    let best = best_of(group.y * c.width, begin, min(begin + each, c.width), subgroup, lane);
    if (subgroup == 0u && lane == 0u) {
        let at = (group.y * c.parts + group.x) * 2u;
        y[at] = best.x;
        y[at + 1u] = best.y;
    }
}
