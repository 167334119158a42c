@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;

fn put(at: u32, v: vec4<f32>) { y[at] = v; }
