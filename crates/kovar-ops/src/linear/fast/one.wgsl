@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read> codes: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
@group(0) @binding(4) var<storage, read> biases: array<u32>;

fn codes_at(matrix: u32, at: u32) -> vec4<u32> {
    return codes[at];
}

// Scale and bias.
fn line_at(matrix: u32, i: u32) -> vec2<f32> {
    if (STYPE == 0u) { return vec2<f32>(bitcast<f32>(scales[i]), bitcast<f32>(biases[i])); }
    let shift = (i & 1u) * 16u;
    return vec2<f32>(widen((scales[i >> 1u] >> shift) & 0xffffu), widen((biases[i >> 1u] >> shift) & 0xffffu));
}

fn groups() -> u32 {
    return (p.n + ROWS - 1u) / ROWS;
}

// Matrix and row of one of a group. Rows beyond the last repeat it, so that loads need no check.
fn place(group: u32, r: u32) -> vec2<u32> {
    return vec2<u32>(0u, min(group * ROWS + r, p.n - 1u));
}
