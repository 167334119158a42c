// y = silu(gate) * up = gate / (1 + e^-gate) * up; threads stride over the grid.
@group(0) @binding(0) var<storage, read> gate: array<f32>;
@group(0) @binding(1) var<storage, read> up: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

var<immediate> n: u32;

const WIDTH = 256u;

@compute @workgroup_size(WIDTH)
fn silu_mul(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let stride = groups.x * WIDTH;
    for (var i = id.x; i < n; i += stride) {
        let g = gate[i];
        // e^88 is the largest power of e below infinity, which a GPU need not have.
        y[i] = g / (1.0 + exp(min(-g, 88.0))) * up[i];
    }
}
