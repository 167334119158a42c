// cache[position + row] = x[row]; rows past the end of the cache are dropped.
struct Constants {
    rows: u32,
    width: u32,
    capacity: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> position: u32;
@group(0) @binding(2) var<storage, read_write> cache: array<f32>;
var<immediate> c: Constants;

const WIDTH = 256u;

@compute @workgroup_size(WIDTH)
fn write_cache(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let first = min(position, c.capacity);
    let n = min(c.rows, c.capacity - first) * c.width;
    let stride = groups.x * WIDTH;
    for (var i = id.x; i < n; i += stride) {
        cache[first * c.width + i] = x[i];
    }
}
