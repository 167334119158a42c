fn x_at(at: u32) -> vec4<f32> {
    return combined(at);
}

fn weighed(v: vec4<f32>, at: u32) -> vec4<f32> {
    return v;
}

fn factor(sum_of_squares: f32) -> f32 {
    return 1.0;
}
