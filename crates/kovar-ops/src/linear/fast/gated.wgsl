@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read> codes: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
@group(0) @binding(4) var<storage, read> biases: array<u32>;
@group(0) @binding(5) var<storage, read> codes1: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read> scales1: array<u32>;
@group(0) @binding(7) var<storage, read> biases1: array<u32>;
@group(0) @binding(8) var<storage, read> weight: array<u32>;

fn codes_at(matrix: u32, at: u32) -> vec4<u32> {
    if (matrix == 0u) { return codes[at]; }
    return codes1[at];
}

// Scale and bias.
fn line_at(matrix: u32, i: u32) -> vec2<f32> {
    let at = select(i >> 1u, i, STYPE == 0u);
    var line: vec2<u32>;
    if (matrix == 0u) {
        line = vec2<u32>(scales[at], biases[at]);
    } else {
        line = vec2<u32>(scales1[at], biases1[at]);
    }
    if (STYPE == 0u) { return bitcast<vec2<f32>>(line); }
    line = (line >> vec2<u32>((i & 1u) * 16u)) & vec2<u32>(0xffffu);
    return vec2<f32>(widen(line.x), widen(line.y));
}

// A group has a row of both matrices.
fn groups() -> u32 {
    return p.n;
}

fn place(group: u32, r: u32) -> vec2<u32> {
    return vec2<u32>(r, group);
}

fn finish(row_of_x: u32, group: u32, r: u32, total: vec2<f32>) {
    if (r == 0u) {
        let g = total.x;
        // e^88 is the largest power of e below infinity, which a GPU need not have.
        y[row_of_x * p.n + group] = g / (1.0 + exp(min(-g, 88.0))) * total.y;
    }
}
