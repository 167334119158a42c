fn x_at(at: u32) -> Eight {
    let size = HD / 4u;
    if (size % 2u == 1u) { return Eight(combined(at), combined(at + 1u)); }
    // Of one head: its weights are the same for both.
    let first = at / size * SPLITS * (size + 1u);
    let column = at % size;
    let top = top_of(first);
    var sum = 0.0;
    var total = Eight(vec4<f32>(0.0), vec4<f32>(0.0));
    for (var s = 0u; s < SPLITS; s++) {
        let part = first + s * (size + 1u);
        let ends = x[part + size];
        let weight = exp2(ends.x - top);
        sum += weight * ends.y;
        total.a += weight * x[part + column];
        total.b += weight * x[part + column + 1u];
    }
    return Eight(total.a / sum, total.b / sum);
}

fn weight_at(at: u32) -> vec4<f32> {
    return vec4<f32>(1.0);
}

fn squares_of(x: vec4<f32>) -> f32 {
    return 0.0;
}

fn factor(sum_of_squares: f32) -> f32 {
    return 1.0;
}
