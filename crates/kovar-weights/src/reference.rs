//! Weights as f32, the slow and plain way: what kernels are tested against.

use std::ops::Range;

use half::{bf16, f16};

use crate::{Affine, LinearWeights, Tensor, TensorType, WeightsError};

/// The elements of an F32, F16 or BF16 tensor as f32. Exact.
///
/// # Errors
/// [`WeightsError::TypeMismatch`] for another type.
///
/// ```
/// use kovar_weights::{ModelDir, reference};
///
/// let dir = ModelDir::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/rustdoc-14m-mlx-4bit"))?;
/// let norm = reference::floats(&dir.tensor("model.norm.weight")?)?;
/// assert_eq!(norm.len(), 384);
/// # Ok::<(), kovar_weights::WeightsError>(())
/// ```
pub fn floats(tensor: &Tensor) -> Result<Vec<f32>, WeightsError> {
    float_range(tensor, 0..tensor.len())
}

/// The whole matrix, `n · k` values, row by row.
///
/// Quantised weights are `scale · q + bias` in f32: the product is rounded, then the sum. MLX does the same in the type of
/// the scales, so for F16 and BF16 its results have fewer digits than these.
///
/// # Errors
/// None for weights that a [`ModelDir`](crate::ModelDir) gave out; [`WeightsError::TypeMismatch`] is passed on.
///
/// ```
/// use kovar_weights::{ModelDir, reference};
///
/// let dir = ModelDir::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/rustdoc-14m-mlx-4bit"))?;
/// let k_proj = dir.linear("model.layers.0.self_attn.k_proj")?;
/// assert_eq!(reference::dequantize(&k_proj)?.len(), 128 * 384);
/// # Ok::<(), kovar_weights::WeightsError>(())
/// ```
pub fn dequantize(weights: &LinearWeights) -> Result<Vec<f32>, WeightsError> {
    let mut all = Vec::with_capacity(weights.n() * weights.k());
    for row in 0..weights.n() {
        all.extend(dequantize_row(weights, row)?);
    }
    Ok(all)
}

/// One row of the matrix, `k` values: a token's embedding, or the weights of one output. As [`dequantize`].
///
/// # Errors
/// [`WeightsError::RowOutOfRange`] if there is no such row.
pub fn dequantize_row(weights: &LinearWeights, row: usize) -> Result<Vec<f32>, WeightsError> {
    let (n, k) = (weights.n(), weights.k());
    if row >= n {
        return Err(WeightsError::RowOutOfRange { tensor: weights.weight().name().into(), row, rows: n });
    }
    match weights {
        LinearWeights::Dense(d) => float_range(d.weight(), row * k..(row + 1) * k),
        LinearWeights::Affine(a) => affine_row(a, row),
    }
}

fn affine_row(a: &Affine, row: usize) -> Result<Vec<f32>, WeightsError> {
    let row_bytes = a.weight().byte_len() / a.n();
    let stream = &a.weight().bytes()[row * row_bytes..][..row_bytes];
    let groups = a.k() / a.group_size() as usize;
    let scales = float_range(a.scales(), row * groups..(row + 1) * groups)?;
    let biases = float_range(a.biases(), row * groups..(row + 1) * groups)?;
    let group = |i: usize| i / a.group_size() as usize;
    let value = |i: usize| scales[group(i)] * f32::from(code(stream, a.bits(), i)) + biases[group(i)];
    Ok((0..a.k()).map(value).collect())
}

/// Value `i` of a stream of `bits`-bit numbers, least significant bit first. At most 8 bits, so two bytes hold it.
fn code(stream: &[u8], bits: u32, i: usize) -> u8 {
    let first = i * bits as usize;
    let (byte, shift) = (first / 8, first % 8);
    let low = stream[byte];
    let high = stream.get(byte + 1).copied().unwrap_or(0);
    let window = u16::from_le_bytes([low, high]) >> shift;
    (window & ((1 << bits) - 1)) as u8
}

fn float_range(tensor: &Tensor, elements: Range<usize>) -> Result<Vec<f32>, WeightsError> {
    let size = tensor.dtype().size();
    let bytes = &tensor.bytes()[elements.start * size..elements.end * size];
    match tensor.dtype() {
        TensorType::F32 => Ok(chunks(bytes).map(f32::from_le_bytes).collect()),
        TensorType::F16 => Ok(chunks(bytes).map(|b| f16::from_le_bytes(b).to_f32()).collect()),
        TensorType::BF16 => Ok(chunks(bytes).map(|b| bf16::from_le_bytes(b).to_f32()).collect()),
        _ => Err(tensor.wrong_type("F32, F16 or BF16")),
    }
}

fn chunks<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks::<N>().0.iter().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(stream: &[u8], bits: u32) -> Vec<u8> {
        (0..stream.len() * 8 / bits as usize).map(|i| code(stream, bits, i)).collect()
    }

    #[test]
    fn streams_written_by_hand_come_apart() {
        assert_eq!(codes(&[0xE4], 2), [0, 1, 2, 3]);
        assert_eq!(codes(&[0x88, 0xC6, 0xFA], 3), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(codes(&[0x10, 0x32], 4), [0, 1, 2, 3]);
        assert_eq!(codes(&[0x20, 0x88, 0x41, 0x8A, 0x39], 5), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(codes(&[0x40, 0x20, 0x0C], 6), [0, 1, 2, 3]);
        assert_eq!(codes(&[7, 255], 8), [7, 255]);
    }

    #[test]
    fn every_code_of_every_width_survives_packing() {
        for bits in Affine::BITS {
            let values: Vec<u8> = (0..64u32).map(|i| (i * 37 % (1 << bits)) as u8).collect();
            let mut stream = vec![0u8; 64 * bits as usize / 8];
            for (i, v) in values.iter().enumerate() {
                for bit in 0..bits as usize {
                    let at = i * bits as usize + bit;
                    stream[at / 8] |= (v >> bit & 1) << (at % 8);
                }
            }
            assert_eq!(codes(&stream, bits), values, "{bits} bits");
        }
    }
}
