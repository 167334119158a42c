fn x_at(at: u32) -> Eight {
    return Eight(x[at], x[at + 1u]);
}

// The weight of the norm goes into what is rounded; the length of the row, which all blocks share, into the result.
fn weight_at(at: u32) -> vec4<f32> {
    if (DTYPE == 0u) {
        return bitcast<vec4<f32>>(vec4<u32>(
            weight[at * 4u], weight[at * 4u + 1u], weight[at * 4u + 2u], weight[at * 4u + 3u]));
    }
    let low = weight[at * 2u];
    let high = weight[at * 2u + 1u];
    if (DTYPE == 1u) { return vec4<f32>(unpack2x16float(low), unpack2x16float(high)); }
    return bitcast<vec4<f32>>(vec4<u32>(low << 16u, low & 0xffff0000u, high << 16u, high & 0xffff0000u));
}

fn squares_of(x: vec4<f32>) -> f32 {
    return dot(x, x);
}

fn factor(sum_of_squares: f32) -> f32 {
    return 1.0 / sqrt(sum_of_squares / f32(K) + p.eps);
}
