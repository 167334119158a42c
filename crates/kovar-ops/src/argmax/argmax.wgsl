
// The first index of the largest element of each row; a workgroup takes a row.
@compute @workgroup_size(SG * SUBGROUPS)
fn argmax(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let row = group.y * 65535u + group.x;
    let best = best_of(row * c.width, 0u, select(0u, c.width, row < c.rows), subgroup, lane);
    if (subgroup == 0u && lane == 0u && row < c.rows) {
        y[row] = select(best.y, 0u, best.y == 0xffffffffu);
    }
}
