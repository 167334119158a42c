// Rotates pairs (i, i + half) of each head by the angle position * freqs[i]; a thread takes a pair.
struct Constants {
    rows: u32,
    heads: u32,
    half: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> freqs: array<f32>;
@group(0) @binding(2) var<storage, read> position: u32;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
var<immediate> c: Constants;

const WIDTH = 256u;

@compute @workgroup_size(WIDTH)
fn rotary(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let pairs = c.rows * c.heads * c.half;
    let stride = groups.x * WIDTH;
    for (var pair = id.x; pair < pairs; pair += stride) {
        let i = pair % c.half;
        let head = pair / c.half;
        let row = head / c.heads;
        let turn = cos_sin(f32(position + row) * freqs[i]);
        let at = head * c.half * 2u + i;
        let a = x[at];
        let b = x[at + c.half];
        y[at] = a * turn.x - b * turn.y;
        y[at + c.half] = b * turn.x + a * turn.y;
    }
}
