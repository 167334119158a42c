// Elements are compared as integers in the order of floats, where NaN is least of all and the zeros are equal.
override SG: u32 = 32;
const SUBGROUPS = 16u;
// Elements that a thread has on their way at once.
const AHEAD = 16u;

struct Constants {
    rows: u32,
    width: u32,
    parts: u32,
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

// Key and place of the best of the elements from begin to end of a row that starts at `at`; the same in all threads.
fn best_of(at: u32, begin: u32, end: u32, subgroup: u32, lane: u32) -> vec2<u32> {
    var best = 0u;
    var place = 0xffffffffu;
    for (var i = begin + subgroup * SG + lane; i < end; i += SG * SUBGROUPS * AHEAD) {
        var bits: array<u32, AHEAD>;
        for (var j = 0u; j < AHEAD; j++) { bits[j] = x[at + min(i + j * SG * SUBGROUPS, end - 1u)]; }
        for (var j = 0u; j < AHEAD; j++) {
            let key = key_of(bits[j]);
            let there = i + j * SG * SUBGROUPS;
            if (key > best && there < end) {
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
    best = 0u;
    place = 0xffffffffu;
    for (var i = 0u; i < SUBGROUPS; i++) {
        let key = keys[i];
        if (key > best || (key == best && places[i] < place)) {
            best = key;
            place = places[i];
        }
    }
    return vec2(best, place);
}
