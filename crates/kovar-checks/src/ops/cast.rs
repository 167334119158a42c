use half::{bf16, f16};
use kovar::{DType, Device, Element};
use kovar_ops::cast::cast;
use proptest::prelude::*;

use super::golden::Golden;
use super::harness::{for_any, run};

/// The cast, with elements behind the result that stay as they are.
fn converted<X: Element, Y: Element>(device: &Device, x: &[X], mark: Y) -> Vec<Y> {
    let n = x.len();
    let x = device.upload(x, &[n]).unwrap();
    let y = device.upload(&vec![mark; n + 3], &[n + 3]).unwrap();
    run(device, |enc| cast(enc, &x, &y.view(0..n)?));
    let mut all = y.read::<Y>().unwrap();
    let behind = all.split_off(n);
    assert_eq!(bytemuck::cast_slice::<Y, u8>(&behind), bytemuck::cast_slice::<Y, u8>(&[mark; 3]), "past the end");
    all
}

const MARK: f32 = 1.5;

fn to_f16(device: &Device, x: &[f32]) -> Vec<u16> {
    converted(device, x, f16::from_f32(MARK)).iter().map(|v| v.to_bits()).collect()
}

fn to_bf16(device: &Device, x: &[f32]) -> Vec<u16> {
    converted(device, x, bf16::from_f32(MARK)).iter().map(|v| v.to_bits()).collect()
}

fn same16(what: &str, x: &[f32], actual: &[u16], wanted: impl Fn(f32) -> u16, infinity: u16) {
    for (x, actual) in x.iter().zip(actual) {
        let wanted = wanted(*x);
        if x.is_nan() {
            assert!(actual & 0x7fff > infinity && (actual ^ wanted) & 0x8000 == 0, "{what}: {x} is {actual:#06x}");
        } else {
            assert_eq!(*actual, wanted, "{what}: {x:e} is {actual:#06x}, not {wanted:#06x}");
        }
    }
}

fn same32(what: &str, actual: &[f32], wanted: &[f32]) {
    assert_eq!(actual.len(), wanted.len());
    for (a, w) in actual.iter().zip(wanted) {
        assert!(a.to_bits() == w.to_bits() || (a.is_nan() && w.is_nan()), "{what}: {a:e}, not {w:e}");
    }
}

pub(super) fn agrees_with_mlx(device: &Device) {
    Golden::open("cast").each(|case| {
        let (x, y) = (case.tensor(device, "x"), case.tensor(device, "y"));
        let result = device.buffer(y.dtype(), y.shape()).unwrap();
        run(device, |enc| cast(enc, &x, &result));
        match y.dtype() {
            DType::F32 => same32(&format!("{device:?} {}", case.info), &result.read().unwrap(), &y.read().unwrap()),
            DType::F16 => assert_eq!(result.read::<f16>().unwrap(), y.read::<f16>().unwrap(), "{device:?}"),
            _ => assert_eq!(result.read::<bf16>().unwrap(), y.read::<bf16>().unwrap(), "{device:?}"),
        }
    });
}

pub(super) fn every_half_widens_to_its_value_and_back(device: &Device) {
    let (halves, brains): (Vec<f16>, Vec<bf16>) =
        (0..=u16::MAX).map(|bits| (f16::from_bits(bits), bf16::from_bits(bits))).unzip();
    let wide = converted(device, &halves, MARK);
    same32(&format!("{device:?} f16"), &wide, &halves.iter().map(|v| v.to_f32()).collect::<Vec<_>>());
    same16(&format!("{device:?}"), &wide, &to_f16(device, &wide), |x| f16::from_f32(x).to_bits(), 0x7c00);
    let wide = converted(device, &brains, MARK);
    same32(&format!("{device:?} bf16"), &wide, &brains.iter().map(|v| v.to_f32()).collect::<Vec<_>>());
    same16(&format!("{device:?}"), &wide, &to_bf16(device, &wide), |x| bf16::from_f32(x).to_bits(), 0x7f80);
}

pub(super) fn narrowing_rounds_to_nearest_even(device: &Device) {
    // Any bits; and the neighbourhood of the middle between two values of each narrow type.
    let near_middle = |shift: u32| {
        (any::<u32>(), -2i32..=2)
            .prop_map(move |(bits, off)| ((bits >> shift << shift) + (1 << (shift - 1))).wrapping_add_signed(off))
    };
    // Results around the subnormals of f16.
    let small = (0x3200_0000u32..0x3900_0000, any::<bool>()).prop_map(|(bits, minus)| bits | u32::from(minus) << 31);
    let large = (0x4770_0000u32..0x4790_0000, any::<bool>()).prop_map(|(bits, minus)| bits | u32::from(minus) << 31);
    let bits = prop_oneof![any::<u32>(), near_middle(13), near_middle(16), small, large];
    for_any(128, proptest::collection::vec(bits.prop_map(f32::from_bits), 1..600), |x| {
        let what = format!("{device:?}");
        same16(&what, &x, &to_f16(device, &x), |x| f16::from_f32(x).to_bits(), 0x7c00);
        same16(&what, &x, &to_bf16(device, &x), |x| bf16::from_f32(x).to_bits(), 0x7f80);
    });
}
