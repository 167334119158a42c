// Between f32 and a 16-bit float, two elements a thread, in integer arithmetic: rounding to nearest even, infinities,
// NaN and subnormals do not depend on what the device does with them.
//
// FORM: 0 f32 to f16, 1 f32 to bf16, 2 f16 to f32, 3 bf16 to f32.
override FORM: u32 = 0;

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
var<immediate> n: u32;

const WIDTH = 256u;

fn shift_to_even(value: u32, shift: u32) -> u32 {
    let low = value & ((1u << shift) - 1u);
    let kept = value >> shift;
    let middle = 1u << (shift - 1u);
    return kept + select(0u, 1u, low > middle || (low == middle && (kept & 1u) == 1u));
}

fn to_f16(bits: u32) -> u32 {
    let sign = (bits >> 16u) & 0x8000u;
    let size = bits & 0x7fffffffu;
    if (size > 0x7f800000u) {
        return sign | 0x7e00u | ((size >> 13u) & 0x3ffu);
    }
    // 65520 and more rounds to infinity.
    if (size >= 0x477ff000u) {
        return sign | 0x7c00u;
    }
    // 2^-14 and more is normal: the exponent moves by 112, and a carry of the rounding into it is right.
    if (size >= 0x38800000u) {
        return sign | shift_to_even(size - (112u << 23u), 13u);
    }
    // At most half of the least subnormal, 2^-25, rounds to zero; the tie too, zero being even.
    if (size <= 0x33000000u) {
        return sign;
    }
    let exponent = size >> 23u;
    return sign | shift_to_even((size & 0x7fffffu) | 0x800000u, 126u - exponent);
}

fn to_bf16(bits: u32) -> u32 {
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return (bits >> 16u) | 0x40u;
    }
    return shift_to_even(bits, 16u);
}

fn from_f16(half: u32) -> u32 {
    let sign = (half & 0x8000u) << 16u;
    let exponent = (half >> 10u) & 0x1fu;
    let mantissa = half & 0x3ffu;
    if (exponent == 0x1fu) {
        return sign | 0x7f800000u | (mantissa << 13u) | select(0u, 0x400000u, mantissa != 0u);
    }
    if (exponent != 0u) {
        return sign | ((exponent + 112u) << 23u) | (mantissa << 13u);
    }
    if (mantissa == 0u) {
        return sign;
    }
    // Subnormal: mantissa * 2^-24; its top bit becomes the implicit one.
    let top = firstLeadingBit(mantissa);
    return sign | ((top + 103u) << 23u) | ((mantissa << (23u - top)) & 0x7fffffu);
}

@compute @workgroup_size(WIDTH)
fn cast_pairs(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let pairs = (n + 1u) / 2u;
    let stride = groups.x * WIDTH;
    for (var i = id.x; i < pairs; i += stride) {
        let both = 2u * i + 1u < n;
        if (FORM < 2u) {
            let a = x[2u * i];
            var b = 0u;
            if (both) {
                b = x[2u * i + 1u];
            }
            let pair = select(vec2(to_bf16(a), to_bf16(b)), vec2(to_f16(a), to_f16(b)), FORM == 0u);
            // The second half of the last word may belong to somebody else.
            if (both) {
                y[i] = pair.x | (pair.y << 16u);
            } else {
                y[i] = pair.x | (y[i] & 0xffff0000u);
            }
        } else {
            let word = x[i];
            var pair = vec2(word << 16u, word & 0xffff0000u);
            if (FORM == 2u) {
                pair = vec2(from_f16(word & 0xffffu), from_f16(word >> 16u));
            }
            y[2u * i] = pair.x;
            if (both) {
                y[2u * i + 1u] = pair.y;
            }
        }
    }
}
