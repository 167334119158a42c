// y = x Wᵀ for one or few rows of x, which each workgroup rounds to 8 bits in blocks of 32 for itself. Then it takes
// SUBGROUPS groups of ROWS rows of W at a time, each by SPLIT subgroups, with the codes of the next step on their way while
// one is worked on.
struct Params { m: u32, n: u32, k: u32, n1: u32, n2: u32, eps: f32 }
var<immediate> p: Params;
override SG: u32 = 32;
// Length of a row of x.
override K: u32 = 1024;
// Groups of rows that a workgroup takes at a time, rows of each: one or two, and subgroups that share them.
override SUBGROUPS: u32 = 8;
override ROWS: u32 = 2;
override SPLIT: u32 = 1;
override BITS: u32 = 4;
override GROUP: u32 = 64;
// Type of scales and biases: 0 f32, 1 f16, 2 bf16.
override STYPE: u32 = 0;
// Type of a norm's weights, likewise. Here, as the translator wants all overrides before arrays that they size.
override DTYPE: u32 = 0;

// Blocks of x by word: eight words of codes each. The eight more between two words keep the lanes that write a block in
// different banks.
var<workgroup> words: array<u32, 8 * (K / 32 + 8)>;
var<workgroup> block_scales: array<f32, K / 32>;
var<workgroup> block_sums: array<f32, K / 32>;
var<workgroup> squares: array<f32, 32>;

fn widen(half: u32) -> f32 {
    if (STYPE == 1u) { return unpack2x16float(half).x; }
    return bitcast<f32>(half << 16u);
}

// Added to a number, it rounds that to an integer, ties to even, and leaves it in the lowest bits: 3 · 2²². Conversions take
// longer on GPUs.
const INTEGER = vec4<f32>(12582912.0);

fn pack(codes: vec4<f32>) -> u32 {
    let c = bitcast<vec4<u32>>(codes) & vec4<u32>(255u);
    return c.x | (c.y << 8u) | (c.z << 16u) | (c.w << 24u);
}

fn largest_bits(v: vec4<f32>) -> u32 {
    // As integers, magnitudes are in the same order, and NaN is the largest.
    let bits = bitcast<vec4<u32>>(v) & vec4<u32>(0x7fffffffu);
    return max(max(bits.x, bits.y), max(bits.z, bits.w));
}

// In a function of its own: naga's Metal writer names a packed operand after itself, and twice in one scope is an error.
fn bytes_sum(x: u32) -> i32 {
    return dot4I8Packed(0x01010101u, x);
}

struct Eight {
    a: vec4<f32>,
    b: vec4<f32>,
}

// Eight elements of x, and what they are multiplied with before they are rounded.
struct Input {
    x: Eight,
    weight_a: vec4<f32>,
    weight_b: vec4<f32>,
}

fn input_at(row: u32, part: u32) -> Input {
    let within = min(part, K / 8u - 1u) * 2u;
    let at = row * (K / 4u) + within;
    return Input(x_at(at), weight_at(within), weight_at(within + 1u));
}

// Rounds row `row` of x, of which the thread has its first part; four lanes share a block. Gives the thread's part of the
// sum of squares.
fn round_row(row: u32, thread: u32, first: Input) -> f32 {
    let threads = SG * SUBGROUPS * SPLIT;
    let pitch = K / 32u + 8u;
    var sum_of_squares = 0.0;
    var next = first;
    for (var base = 0u; base < K / 8u; base += threads) {
        let part = base + thread;
        let there = part < K / 8u;
        var a = next.x.a;
        var b = next.x.b;
        if (there) { sum_of_squares += squares_of(a) + squares_of(b); }
        a *= next.weight_a;
        b *= next.weight_b;
        if (base + threads < K / 8u) { next = input_at(row, part + threads); }
        var bits = max(largest_bits(a), largest_bits(b));
        bits = max(bits, subgroupShuffleXor(bits, 1u));
        bits = max(bits, subgroupShuffleXor(bits, 2u));
        let largest = bitcast<f32>(bits);
        // A block of the smallest subnormals has a quotient beyond f32: it is as good as zero.
        var inverse = 0.0;
        if (largest > 1e-36) { inverse = 127.0 / largest; }
        a = a * inverse + INTEGER;
        b = b * inverse + INTEGER;
        // Codes of 4 bits lie with even elements in the lower halves of bytes.
        var first = pack(a);
        var second = pack(b);
        if (BITS == 4u) {
            first = pack(vec4<f32>(a.x, a.z, b.x, b.z));
            second = pack(vec4<f32>(a.y, a.w, b.y, b.w));
        }
        var sum = bytes_sum(first) + bytes_sum(second);
        sum += subgroupShuffleXor(sum, 1u);
        sum += subgroupShuffleXor(sum, 2u);
        if (there) {
            let block = part / 4u;
            let lane = part % 4u;
            if (BITS == 4u) {
                words[lane * pitch + block] = first;
                words[(lane + 4u) * pitch + block] = second;
            } else {
                words[lane * 2u * pitch + block] = first;
                words[(lane * 2u + 1u) * pitch + block] = second;
            }
            if (lane == 0u) {
                block_scales[block] = largest / 127.0;
                block_sums[block] = f32(sum);
            }
        }
    }
    return sum_of_squares;
}
