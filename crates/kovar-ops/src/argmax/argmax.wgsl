// The first index of the largest element of each row; a workgroup takes a row.
//
// Elements are compared as integers in the order of floats, where NaN is least of all and the zeros are equal.
override SG: u32 = 32;
const SUBGROUPS = 16u;
// Elements that a thread has on their way at once.
const AHEAD = 16u;

struct Constants {
    rows: u32,
    width: u32,
}

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
var<immediate> c: Constants;

var<workgroup> keys: array<u32, 16>;
var<workgroup> places: array<u32, 16>;

fn key_of(bits: u32) -> u32 {
    let size = bits & 0x7fffffffu;
    if (size > 0x7f800000u) {
        return 0u;
    }
    return select(0x80000000u + size, 0x80000000u - size, bits > 0x80000000u);
}

@compute @workgroup_size(SG * SUBGROUPS)
fn argmax(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let row = group.y * 65535u + group.x;
    let at = row * c.width;
    let width = select(0u, c.width, row < c.rows);
    var best = 0u;
    var place = 0xffffffffu;
    for (var i = subgroup * SG + lane; i < width; i += SG * SUBGROUPS * AHEAD) {
        var bits: array<u32, AHEAD>;
        for (var j = 0u; j < AHEAD; j++) { bits[j] = x[at + min(i + j * SG * SUBGROUPS, width - 1u)]; }
        for (var j = 0u; j < AHEAD; j++) {
            let key = key_of(bits[j]);
            let there = i + j * SG * SUBGROUPS;
            if (key > best && there < width) {
                best = key;
                place = there;
            }
        }
    }
    let most = subgroupMax(best);
    place = subgroupMin(select(0xffffffffu, place, best == most));
    if (lane == 0u) {
        keys[subgroup] = most;
        places[subgroup] = place;
    }
    workgroupBarrier();
    if (subgroup == 0u && lane == 0u && row < c.rows) {
        best = 0u;
        place = 0xffffffffu;
        for (var i = 0u; i < SUBGROUPS; i++) {
            let key = keys[i];
            if (key > best || (key == best && places[i] < place)) {
                best = key;
                place = places[i];
            }
        }
        y[row] = select(place, 0u, place == 0xffffffffu);
    }
}
