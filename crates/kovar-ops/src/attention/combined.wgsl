// Parts of attention become one: x has, for each head of each row, SPLITS parts of a sum of HD elements, the maximum and the
// sum of the weights.
override HD: u32 = 64;
override SPLITS: u32 = 1;

// The largest of the maxima of a head whose parts begin here.
fn top_of(first: u32) -> f32 {
    var top = -1e30;
    for (var s = 0u; s < SPLITS; s++) {
        top = max(top, x[first + s * (HD / 4u + 1u) + HD / 4u].x);
    }
    return top;
}

// Four elements of the heads, one after the other.
fn combined(at: u32) -> vec4<f32> {
    let size = HD / 4u;
    let first = at / size * SPLITS * (size + 1u);
    let column = at % size;
    let top = top_of(first);
    var sum = 0.0;
    var total = vec4(0.0);
    for (var s = 0u; s < SPLITS; s++) {
        let part = first + s * (size + 1u);
        let ends = x[part + size];
        let weight = exp2(ends.x - top);
        sum += weight * ends.y;
        total += weight * x[part + column];
    }
    return total / sum;
}
