// Words, or pairs of 16-bit floats, that depend on a seed and their place alone; threads stride over the grid.
@group(0) @binding(0) var<storage, read_write> y: array<u32>;

struct Constants {
    words: u32,
    seed: u32,
    mean: f32,
}
var<immediate> c: Constants;

// 0: bits, 1: f32, 2: f16, 3: bf16
override FORM: u32 = 0u;

const WIDTH = 256u;

// Chris Wellons, "Prospecting for hash functions": lowbias32.
fn hash(place: u32) -> u32 {
    var x = place ^ c.seed;
    x = (x ^ (x >> 16u)) * 0x7feb352du;
    x = (x ^ (x >> 15u)) * 0x846ca68bu;
    return x ^ (x >> 16u);
}

// The factor has 17 bits, so that one rounding is all there is.
fn number(place: u32) -> f32 {
    return c.mean * (f32(hash(place) >> 16u) * 0x1p-17 + 0.75);
}

fn word(i: u32) -> u32 {
    switch FORM {
        case 1u: { return bitcast<u32>(number(i)); }
        case 2u: { return pack2x16float(vec2<f32>(number(2u * i), number(2u * i + 1u))); }
        case 3u: {
            return bitcast<u32>(number(2u * i)) >> 16u | bitcast<u32>(number(2u * i + 1u)) & 0xffff0000u;
        }
        default: { return hash(i); }
    }
}

@compute @workgroup_size(WIDTH)
fn random(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let stride = groups.x * WIDTH;
    for (var i = id.x; i < c.words; i += stride) {
        y[i] = word(i);
    }
}
