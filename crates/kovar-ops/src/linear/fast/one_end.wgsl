fn finish(row_of_x: u32, group: u32, r: u32, total: vec2<f32>) {
    let row = group * ROWS + r;
    if (r < ROWS && row < p.n) {
        y[row_of_x * p.n + row] = select(total.x, total.y, r == 1u);
    }
}
