// Rows of a table by token, widened to f32. A thread takes four columns; the grid's y and z number the tokens.
struct Params { count: u32, n: u32, k: u32 }
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> tokens: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let token = id.z * grid.y + id.y;
    let k = id.x * 4u;
    if (token >= p.count || k >= p.k) { return; }
    let w = weight4(min(tokens[token], p.n - 1u), k);
    for (var i = 0u; i < min(4u, p.k - k); i++) {
        y[token * p.k + k + i] = w[i];
    }
}
