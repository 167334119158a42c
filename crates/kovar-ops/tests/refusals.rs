//! What does not fit an op is refused, with the op and the argument named.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use kovar::{Error, Result};
use kovar_checks::ops::harness::cpu;

/// The message of the refusal by this op.
fn refusal(op: &str, result: Result<()>) -> String {
    match result {
        Err(Error::Op { op: named, message }) if named == op => message,
        other => panic!("{op}: {other:?}"),
    }
}

#[test]
fn argmax() {
    use kovar::DType;
    use kovar_ops::argmax::argmax;

    let device = &cpu();
    let mut enc = device.encoder().unwrap();
    let x = device.buffer(DType::F32, &[2, 5]).unwrap();
    let y = device.buffer(DType::U32, &[2]).unwrap();
    let flat = x.reshape(&[10]).unwrap();
    assert!(refusal("argmax", argmax(&mut enc, &flat, &y)).contains("[rows, n]"));
    assert!(refusal("argmax", argmax(&mut enc, &x, &y.view(0..1).unwrap())).contains("y ("));
    let ints = device.buffer(DType::I32, &[2, 5]).unwrap();
    assert!(refusal("argmax", argmax(&mut enc, &ints, &y)).contains("f32"));
    argmax(&mut enc, &x, &y).unwrap();
}

#[test]
fn attention() {
    use kovar::{Buffer, DType};
    use kovar_ops::attention::attention;

    let device = &cpu();
    let f32s = |shape: &[usize]| device.buffer(DType::F32, shape).unwrap();
    let p = device.buffer(DType::U32, &[1]).unwrap();
    let mut enc = device.encoder().unwrap();
    let (q, k, v, y) = (f32s(&[1, 6, 8]), f32s(&[4, 2, 8]), f32s(&[4, 2, 8]), f32s(&[1, 6, 8]));
    let mut refused = |q: &Buffer, k: &Buffer, v: &Buffer, p: &Buffer, y: &Buffer| {
        refusal("attention", attention(&mut enc, q, k, v, p, y, 1.0))
    };
    assert!(refused(&f32s(&[6, 8]), &k, &v, &p, &y).contains("[t, h, hd]"));
    assert!(refused(&q, &f32s(&[4, 4, 8]), &v, &p, &y).contains("divides the 6"));
    assert!(refused(&q, &f32s(&[4, 2, 4]), &v, &p, &y).contains("heads of 8"));
    assert!(refused(&q, &k, &f32s(&[5, 2, 8]), &p, &y).contains("values"));
    assert!(refused(&q, &k, &v, &q, &y).contains("position"));
    assert!(refused(&q, &k, &v, &p, &f32s(&[6, 1, 8])).contains("y ("));
    let odd = |n| (f32s(&[1, 2, n]), f32s(&[4, 2, n]), f32s(&[4, 2, n]), f32s(&[1, 2, n]));
    for n in [6, 260] {
        let (q, k, v, y) = odd(n);
        assert!(refused(&q, &k, &v, &p, &y).contains("multiple of 4 up to 256"));
    }
    attention(&mut enc, &q, &k, &v, &p, &y, 1.0).unwrap();
}

#[test]
fn cast() {
    use kovar::DType;
    use kovar_ops::cast::cast;

    let device = &cpu();
    let buffer = |dtype, n: usize| device.buffer(dtype, &[n]).unwrap();
    let mut enc = device.encoder().unwrap();
    let x = buffer(DType::F32, 4);
    assert!(refusal("cast", cast(&mut enc, &x, &buffer(DType::F16, 5))).contains("equal lengths"));
    assert!(refusal("cast", cast(&mut enc, &x, &buffer(DType::F32, 4))).contains("from f32 to f32"));
    assert!(refusal("cast", cast(&mut enc, &buffer(DType::F16, 4), &buffer(DType::BF16, 4))).contains("from f16"));
    cast(&mut enc, &x, &buffer(DType::BF16, 4)).unwrap();
}

#[test]
fn elementwise() {
    use kovar::{Buffer, CommandEncoder, DType, Result};
    use kovar_ops::activation::silu_mul;
    use kovar_ops::elementwise::add;

    type Binary = fn(&mut CommandEncoder, &Buffer, &Buffer, &Buffer) -> Result<()>;

    let device = &cpu();
    let f32s = |shape: &[usize]| device.buffer(DType::F32, shape).unwrap();
    let ints = device.buffer(DType::U32, &[4]).unwrap();
    let mut enc = device.encoder().unwrap();
    for (name, op) in [("add", add as Binary), ("silu_mul", silu_mul)] {
        let (a, y) = (f32s(&[4]), f32s(&[2, 2]));
        assert!(refusal(name, op(&mut enc, &a, &f32s(&[5]), &y)).contains("equal lengths"));
        assert!(refusal(name, op(&mut enc, &ints, &a, &y)).contains("f32"));
        assert!(refusal(name, op(&mut enc, &a, &a, &ints)).contains("y ("));
        op(&mut enc, &a, &a, &y).unwrap();
    }
}

#[test]
fn cache() {
    use kovar::DType;
    use kovar_ops::cache::write;

    let device = &cpu();
    let f32s = |shape: &[usize]| device.buffer(DType::F32, shape).unwrap();
    let position = device.buffer(DType::U32, &[1]).unwrap();
    let mut enc = device.encoder().unwrap();
    let (x, cache) = (f32s(&[1, 2, 8]), f32s(&[4, 2, 8]));
    let op = "cache::write";
    assert!(refusal(op, write(&mut enc, &x, &position, &f32s(&[4, 8, 2]))).contains("rows of [2, 8]"));
    assert!(refusal(op, write(&mut enc, &x, &position, &f32s(&[4, 16]))).contains("cache"));
    assert!(refusal(op, write(&mut enc, &f32s(&[16]), &position, &cache)).contains("x ("));
    assert!(refusal(op, write(&mut enc, &x, &x, &cache)).contains("position"));
    write(&mut enc, &x, &position, &cache).unwrap();
}

#[test]
fn random() {
    use kovar::DType;
    use kovar_ops::random::{bits, floats};

    let device = &cpu();
    let mut enc = device.encoder().unwrap();
    let odd = device.buffer(DType::BF16, &[3]).unwrap();
    assert!(refusal("random", floats(&mut enc, &odd, 1.0, 0)).contains("whole words"));
    assert!(refusal("random", bits(&mut enc, &odd, 0)).contains("whole words"));
    let ints = device.buffer(DType::U32, &[4]).unwrap();
    assert!(refusal("random::floats", floats(&mut enc, &ints, 1.0, 0)).contains("f32, f16 or bf16"));
}

#[test]
fn rotary() {
    use kovar::DType;
    use kovar_ops::rotary::rotary;

    let device = &cpu();
    let f32s = |shape: &[usize]| device.buffer(DType::F32, shape).unwrap();
    let position = device.buffer(DType::U32, &[1]).unwrap();
    let mut enc = device.encoder().unwrap();
    let (x, freqs, y) = (f32s(&[2, 3, 8]), f32s(&[4]), f32s(&[2, 3, 8]));
    assert!(refusal("rotary", rotary(&mut enc, &f32s(&[6, 8]), &freqs, &position, &y)).contains("[t, heads, hd]"));
    assert!(refusal("rotary", rotary(&mut enc, &x, &f32s(&[8]), &position, &y)).contains("freqs"));
    assert!(refusal("rotary", rotary(&mut enc, &x, &freqs, &f32s(&[1]), &y)).contains("position"));
    assert!(refusal("rotary", rotary(&mut enc, &x, &freqs, &position, &f32s(&[3, 2, 8]))).contains("y ("));
    assert!(refusal("rotary", rotary(&mut enc, &f32s(&[1, 1, 7]), &f32s(&[3]), &position, &y)).contains("y ("));
}

#[test]
fn norm() {
    use kovar::DType;
    use kovar_ops::norm::rms_norm;

    let device = &cpu();
    let f32s = |shape: &[usize]| device.buffer(DType::F32, shape).unwrap();
    let ints = device.buffer(DType::U32, &[4]).unwrap();
    let mut enc = device.encoder().unwrap();
    let (x, w, y) = (f32s(&[2, 4]), f32s(&[4]), f32s(&[2, 4]));
    assert!(refusal("rms_norm", rms_norm(&mut enc, &ints, &w, &y, 0.0)).contains("x ("));
    assert!(refusal("rms_norm", rms_norm(&mut enc, &x, &ints, &y, 0.0)).contains("weight"));
    assert!(refusal("rms_norm", rms_norm(&mut enc, &x, &f32s(&[3]), &y, 0.0)).contains("rows of 3"));
    assert!(refusal("rms_norm", rms_norm(&mut enc, &x, &w, &f32s(&[4]), 0.0)).contains("equal lengths"));
}

#[test]
fn linear() {
    use kovar::DType;
    use kovar_checks::ops::sample::{Random, Sample};
    use kovar_ops::{Precision, linear};

    let device = cpu();
    let sample = Sample::dense(&device, &mut Random(1), 3, 8, DType::F32);
    let buffer = |dtype, shape: &[usize]| device.buffer(dtype, shape).unwrap();
    let refused = |x, y| {
        let mut encoder = device.encoder().unwrap();
        linear::linear(&mut encoder, &sample.matrix, &x, &y, Precision::Fast).unwrap_err().to_string()
    };
    let message = refused(buffer(DType::F32, &[2, 7]), buffer(DType::F32, &[2, 3]));
    assert_eq!(message, "linear: x is [2, 7]: not rows of 8, as the matrix [3, 8] wants");
    let message = refused(buffer(DType::F32, &[2, 8]), buffer(DType::F32, &[2, 4]));
    assert_eq!(message, "linear: y is [2, 4], not [2, 3] for x [2, 8] and matrix [3, 8]");
    let message = refused(buffer(DType::F16, &[2, 8]), buffer(DType::F32, &[2, 3]));
    assert_eq!(message, "linear: x (\"buffer\") is f16, not f32");
}

#[test]
fn peaks() {
    use kovar::DType;
    use kovar_ops::peak;

    let device = &cpu();
    let mut enc = device.encoder().unwrap();
    let [odd, some] = [6, 256].map(|n| device.buffer(DType::F32, &[n]).unwrap());
    assert!(refusal("peak::read", peak::read(&mut enc, &odd, &some)).contains("multiple of 4"));
    assert!(refusal("peak::read", peak::read(&mut enc, &some, &odd)).contains("multiple of 256"));
    assert!(refusal("peak::dot", peak::dot(&mut enc, &some, 1)).contains("u32"));
    assert!(refusal("peak::matrix", peak::matrix(&mut enc, &some, &some, 1)).contains("matrix units"));
}
