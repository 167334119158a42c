// y[t] = the sum of every threads-th vector of x from t on: nothing but reading, with four loads of each thread under way.
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

// Vectors of x.
var<immediate> n: u32;

const WIDTH = 256u;

@compute @workgroup_size(WIDTH)
fn peak_read(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let stride = groups.x * WIDTH;
    var sums = array<vec4<f32>, 4>();
    var i = id.x;
    for (; i + 3u * stride < n; i += 4u * stride) {
        sums[0] += x[i];
        sums[1] += x[i + stride];
        sums[2] += x[i + 2u * stride];
        sums[3] += x[i + 3u * stride];
    }
    for (; i < n; i += stride) { sums[0] += x[i]; }
    let sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    y[id.x] = (sum.x + sum.y) + (sum.z + sum.w);
}
