struct Constants {
    // Of y, in fours.
    n: u32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
var<immediate> c: Constants;

const WIDTH = 64u;

@compute @workgroup_size(WIDTH)
fn attention_combine(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    for (var at = id.x; at < c.n; at += groups.x * WIDTH) {
        y[at] = combined(at);
    }
}
