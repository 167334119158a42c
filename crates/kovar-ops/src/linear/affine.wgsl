// Weights of an MLX affine quantised matrix: w = scale * code + bias.
// Binding 0 and 1 belong to the kernel that this is put in front of, and so does the constant `p` with its `k`.
override BITS: u32 = 4;
override GROUP: u32 = 64;
// Type of scales and biases: 0 f32, 1 f16, 2 bf16.
override STYPE: u32 = 0;

// A row is k·BITS/32 words, and k a multiple of 32: every row starts at a whole vector.
@group(0) @binding(2) var<storage, read> codes: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
@group(0) @binding(4) var<storage, read> biases: array<u32>;

fn widen(half: u32) -> f32 {
    if (STYPE == 1u) { return unpack2x16float(half).x; }
    return bitcast<f32>(half << 16u);
}

fn scale_at(i: u32) -> f32 {
    if (STYPE == 0u) { return bitcast<f32>(scales[i]); }
    return widen((scales[i >> 1u] >> ((i & 1u) * 16u)) & 0xffffu);
}

fn bias_at(i: u32) -> f32 {
    if (STYPE == 0u) { return bitcast<f32>(biases[i]); }
    return widen((biases[i >> 1u] >> ((i & 1u) * 16u)) & 0xffffu);
}

fn nibbles(word: u32) -> vec4<f32> {
    return vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u));
}

fn bytes(word: u32) -> vec4<f32> {
    return vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u));
}

// Four weights of a row from column `k` on, a multiple of 4.
fn weight4(row: u32, k: u32) -> vec4<f32> {
    let at = row * p.k + k;
    let group = at / GROUP;
    var q: vec4<f32>;
    if (BITS == 4u) {
        q = nibbles(codes[at >> 5u][(at >> 3u) & 3u] >> ((at & 4u) * 4u));
    } else {
        q = bytes(codes[at >> 4u][(at >> 2u) & 3u]);
    }
    return scale_at(group) * q + bias_at(group);
}
