// The product of two words: low, high.
fn multiply(a: u32, b: u32) -> vec2<u32> {
    let low = (a & 0xffffu) * (b & 0xffffu);
    let middle = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
    let other = (a & 0xffffu) * (b >> 16u) + (middle & 0xffffu);
    return vec2((other << 16u) | (low & 0xffffu), (a >> 16u) * (b >> 16u) + (middle >> 16u) + (other >> 16u));
}

// Cosine and sine, to 1e-7 for every angle below 2^31. The built-in ones promise 5e-4, and only between -pi and pi.
//
// The angle is mantissa * 2^exponent; its product with 2/pi, 64 bits after the point, is taken modulo 4 in integers.
fn cos_sin(angle: f32) -> vec2<f32> {
    let bits = bitcast<u32>(angle);
    let exponent = i32((bits >> 23u) & 0xffu) - 150;
    var quadrant = 0u;
    var r = angle;
    if (exponent >= -24) {
        let mantissa = (bits & 0x7fffffu) | 0x800000u;
        // 2/pi = 0xa2f9836e.4e441529 / 2^32
        let low = multiply(mantissa, 0x4e441529u);
        let high = multiply(mantissa, 0xa2f9836eu);
        let w1 = low.y + high.x;
        let w2 = high.y + select(0u, 1u, w1 < high.x);
        // Words of the product: w2 whole, then w1, low.x. Shift so that the top two bits are the quadrant.
        var turn = 0u;
        if (exponent <= 0) {
            // Whole part below 2^24: (w2, w1) >> -exponent, then << 30.
            let right = u32(-exponent);
            if (right == 0u) {
                turn = (w2 << 30u) | (w1 >> 2u);
            } else {
                let whole = w2 >> right;
                let part = (w2 << (32u - right)) | (w1 >> right);
                turn = (whole << 30u) | (part >> 2u);
            }
        } else {
            let left = u32(exponent);
            let whole = (w2 << left) | (w1 >> (32u - left));
            let part = (w1 << left) | (low.x >> (32u - left));
            turn = (whole << 30u) | (part >> 2u);
        }
        // Round to the nearest quadrant: the rest is signed, 2^30 a quarter turn.
        quadrant = (turn + 0x20000000u) >> 30u;
        let rest = bitcast<i32>(turn - (quadrant << 30u));
        r = f32(rest) * 1.4629180792671596e-9;
        if ((bits >> 31u) == 1u) {
            r = -r;
            quadrant = (4u - quadrant) & 3u;
        }
    }
    let r2 = r * r;
    let s = r + r * r2 * (-1.0 / 6.0 + r2 * (1.0 / 120.0 + r2 * (-1.0 / 5040.0 + r2 * (1.0 / 362880.0))));
    let k = 1.0 + r2 * (-0.5 + r2 * (1.0 / 24.0 + r2 * (-1.0 / 720.0 + r2 * (1.0 / 40320.0 - r2 / 3628800.0))));
    let swapped = select(vec2(k, s), vec2(-s, k), (quadrant & 1u) == 1u);
    return select(swapped, -swapped, (quadrant & 2u) == 2u);
}
