// Of the parts of a row the best, and of equal ones that with the first place; a subgroup takes a row.
override SG: u32 = 32;

struct Constants {
    rows: u32,
    width: u32,
    parts: u32,
}

@group(0) @binding(0) var<storage, read> x: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
var<immediate> c: Constants;

@compute @workgroup_size(SG)
fn argmax_choose(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    var best = 0u;
    var place = 0xffffffffu;
    for (var i = lane; i < c.parts; i += SG) {
        let part = x[group.y * c.parts + i];
        if (part.x > best || (part.x == best && part.y < place)) {
            best = part.x;
            place = part.y;
        }
    }
    let most = subgroupMax(best);
    place = subgroupMin(select(0xffffffffu, place, best == most));
    if (lane == 0u) {
        y[group.y] = select(place, 0u, place == 0xffffffffu);
    }
}
