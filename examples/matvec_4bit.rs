//! A matrix of 4-bit weights times a vector, against the same in f64 on the host.
//!
//! `cargo run --release -p kovar-lm --example matvec_4bit -- cpu` (or vulkan, vulkan:1, metal)

use kovar::{DType, Device, DeviceOptions};
use kovar_ops::linear::linear;
use kovar_ops::{AffineMatrix, Matrix, Precision};

const ROWS: usize = 1000;
const COLUMNS: usize = 1024;
/// Weights that share a scale and a bias.
const GROUP: usize = 64;

/// Codes of 4 bits, eight a word, with a scale and a bias a group: `weight = scale * code + bias`.
fn quantize(group: &[f32]) -> (Vec<u32>, f32, f32) {
    let low = group.iter().copied().fold(f32::INFINITY, f32::min);
    let high = group.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let scale = ((high - low) / 15.0).max(1e-7);
    let code = |weight: &f32| ((weight - low) / scale).round() as u32;
    let words = group.chunks(8).map(|eight| eight.iter().rev().fold(0, |word, w| word << 4 | code(w))).collect();
    (words, scale, low)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args().nth(1).unwrap_or("cpu".into());
    let device = Device::open(&DeviceOptions { device: Some(name.parse()?), ..DeviceOptions::default() })?;

    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let weights: Vec<f32> = (0..ROWS * COLUMNS).map(|_| random()).collect();
    let x: Vec<f32> = (0..COLUMNS).map(|_| random()).collect();
    let (mut codes, mut scales, mut biases) = (vec![], vec![], vec![]);
    for group in weights.chunks(GROUP) {
        let (words, scale, bias) = quantize(group);
        codes.extend(words);
        scales.push(scale);
        biases.push(bias);
    }

    let matrix = Matrix::Affine(AffineMatrix::new(
        device.upload(&codes, &[ROWS, COLUMNS / 8])?,
        device.upload(&scales, &[ROWS, COLUMNS / GROUP])?,
        device.upload(&biases, &[ROWS, COLUMNS / GROUP])?,
        4,
        GROUP as u32,
    )?);
    let (vector, result) = (device.upload(&x, &[1, COLUMNS])?, device.buffer(DType::F32, &[1, ROWS])?);
    let mut encoder = device.encoder()?;
    linear(&mut encoder, &matrix, &vector, &result, Precision::Exact)?;
    encoder.commit()?.wait()?;

    let weight = |at: usize| {
        let code = codes[at / 8] >> (4 * (at % 8)) & 15;
        f64::from(scales[at / GROUP]) * f64::from(code) + f64::from(biases[at / GROUP])
    };
    let (mut error, mut length) = (0.0, 0.0);
    for (row, got) in result.read::<f32>()?.into_iter().enumerate() {
        let wanted: f64 = (0..COLUMNS).map(|column| weight(row * COLUMNS + column) * f64::from(x[column])).sum();
        error += (f64::from(got) - wanted).powi(2);
        length += wanted.powi(2);
    }
    let error = (error / length).sqrt();
    println!("{}: [{ROWS}, {COLUMNS}] in {} bytes", device.info().name, matrix.byte_len());
    println!("relative error against f64: {error:.1e}");
    if error < 1e-5 { Ok(()) } else { Err("the product is wrong".into()) }
}
