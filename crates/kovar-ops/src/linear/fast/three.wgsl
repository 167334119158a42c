@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read> codes: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
@group(0) @binding(4) var<storage, read> biases: array<u32>;
@group(0) @binding(5) var<storage, read> codes1: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read> scales1: array<u32>;
@group(0) @binding(7) var<storage, read> biases1: array<u32>;
@group(0) @binding(8) var<storage, read> codes2: array<vec4<u32>>;
@group(0) @binding(9) var<storage, read> scales2: array<u32>;
@group(0) @binding(10) var<storage, read> biases2: array<u32>;
@group(0) @binding(11) var<storage, read_write> y1: array<f32>;
@group(0) @binding(12) var<storage, read_write> y2: array<f32>;
@group(0) @binding(13) var<storage, read> weight: array<u32>;

fn codes_at(matrix: u32, at: u32) -> vec4<u32> {
    if (matrix == 0u) { return codes[at]; }
    if (matrix == 1u) { return codes1[at]; }
    return codes2[at];
}

// Scale and bias.
fn line_at(matrix: u32, i: u32) -> vec2<f32> {
    let at = select(i >> 1u, i, STYPE == 0u);
    var line: vec2<u32>;
    if (matrix == 0u) {
        line = vec2<u32>(scales[at], biases[at]);
    } else if (matrix == 1u) {
        line = vec2<u32>(scales1[at], biases1[at]);
    } else {
        line = vec2<u32>(scales2[at], biases2[at]);
    }
    if (STYPE == 0u) { return bitcast<vec2<f32>>(line); }
    line = (line >> vec2<u32>((i & 1u) * 16u)) & vec2<u32>(0xffffu);
    return vec2<f32>(widen(line.x), widen(line.y));
}

fn groups_of(n: u32) -> u32 {
    return (n + ROWS - 1u) / ROWS;
}

// The groups of the first matrix, then those of the second and the third.
fn groups() -> u32 {
    return groups_of(p.n) + groups_of(p.n1) + groups_of(p.n2);
}

// Matrix of a group, its group within the matrix, and the rows of the matrix.
fn part(group: u32) -> vec3<u32> {
    let first = groups_of(p.n);
    let second = first + groups_of(p.n1);
    if (group < first) { return vec3<u32>(0u, group, p.n); }
    if (group < second) { return vec3<u32>(1u, group - first, p.n1); }
    return vec3<u32>(2u, group - second, p.n2);
}

fn place(group: u32, r: u32) -> vec2<u32> {
    let own = part(group);
    return vec2<u32>(own.x, min(own.y * ROWS + r, own.z - 1u));
}

fn finish(row_of_x: u32, group: u32, r: u32, total: vec2<f32>) {
    let own = part(group);
    let row = own.y * ROWS + r;
    if (r < ROWS && row < own.z) {
        let at = row_of_x * own.z + row;
        if (own.x == 0u) { y[at] = select(total.x, total.y, r == 1u); }
        if (own.x == 1u) { y1[at] = select(total.x, total.y, r == 1u); }
        if (own.x == 2u) { y2[at] = select(total.x, total.y, r == 1u); }
    }
}
