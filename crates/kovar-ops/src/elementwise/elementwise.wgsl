// y = a + b, element by element; threads stride over the grid.
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

var<immediate> n: u32;

const WIDTH = 256u;

@compute @workgroup_size(WIDTH)
fn add(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let stride = groups.x * WIDTH;
    for (var i = id.x; i < n; i += stride) {
        y[i] = a[i] + b[i];
    }
}
