// Weights of a dense matrix of f32, f16 or bf16, with rows of any length.
// Binding 0 and 1 belong to the kernel that this is put in front of, and so does the constant `p` with its `k`.
// Type of the weights: 0 f32, 1 f16, 2 bf16.
override STYPE: u32 = 0;
// Whether k is a multiple of 4, so that four weights never share a word with another row.
override ALIGNED: bool = true;

@group(0) @binding(2) var<storage, read> weights: array<u32>;

fn halves(word: u32) -> vec2<f32> {
    if (STYPE == 1u) { return unpack2x16float(word); }
    return vec2<f32>(bitcast<f32>(word << 16u), bitcast<f32>(word & 0xffff0000u));
}

fn weight1(row: u32, k: u32) -> f32 {
    if (k >= p.k) { return 0.0; }
    let at = row * p.k + k;
    if (STYPE == 0u) { return bitcast<f32>(weights[at]); }
    return halves(weights[at >> 1u] >> ((at & 1u) * 16u)).x;
}

// Four weights of a row from column `k` on, a multiple of 4; zero beyond the row.
fn weight4(row: u32, k: u32) -> vec4<f32> {
    if (!ALIGNED) {
        return vec4<f32>(weight1(row, k), weight1(row, k + 1u), weight1(row, k + 2u), weight1(row, k + 3u));
    }
    let at = row * p.k + k;
    if (STYPE == 0u) {
        return bitcast<vec4<f32>>(vec4<u32>(weights[at], weights[at + 1u], weights[at + 2u], weights[at + 3u]));
    }
    return vec4<f32>(halves(weights[at >> 1u]), halves(weights[(at >> 1u) + 1u]));
}
