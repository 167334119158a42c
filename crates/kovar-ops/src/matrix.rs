use kovar::{Buffer, DType, Error, Result};

/// A weight matrix [n, k] as it is on disk; `y = x Wᵀ`.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "a model has some hundreds, nearly all of them quantised")]
pub enum Matrix {
    /// f32, f16 or bf16.
    Dense(DenseMatrix),
    /// MLX affine quantised.
    Affine(AffineMatrix),
}

/// A dense matrix [n, k] of f32, f16 or bf16.
#[derive(Debug, Clone)]
pub struct DenseMatrix {
    weight: Buffer,
}

/// An MLX affine quantised matrix [n, k]: `w = scale · q + bias`, one scale and bias for `group` values of a row.
///
/// Codes are one LSB-first bit stream a row in u32 words; see MLX, `mlx.core.quantize`.
#[derive(Debug, Clone)]
pub struct AffineMatrix {
    codes: Buffer,
    scales: Buffer,
    biases: Buffer,
    bits: u32,
    group: u32,
    k: usize,
}

fn wrong(message: String) -> Error {
    Error::Op { op: "matrix", message }
}

fn is_float(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
}

impl DenseMatrix {
    /// Checks that the buffer is [n, k] of a float type.
    ///
    /// # Errors
    /// [`Error::Op`] naming shape and type.
    pub fn new(weight: Buffer) -> Result<DenseMatrix> {
        if weight.shape().len() != 2 || !is_float(weight.dtype()) {
            let (shape, dtype) = (weight.shape(), weight.dtype());
            return Err(wrong(format!("{:?} is {shape:?} {dtype}, not [n, k] of f32, f16 or bf16", weight.label())));
        }
        Ok(DenseMatrix { weight })
    }

    /// The elements, [n, k].
    pub fn weight(&self) -> &Buffer {
        &self.weight
    }
}

impl AffineMatrix {
    /// Checks codes u32 [n, k·bits/32] against scales and biases [n, k/group] of one float type.
    ///
    /// # Errors
    /// [`Error::Op`] naming what does not fit.
    pub fn new(codes: Buffer, scales: Buffer, biases: Buffer, bits: u32, group: u32) -> Result<AffineMatrix> {
        let name = codes.label().to_string();
        if !matches!(bits, 4 | 8) || !matches!(group, 32 | 64 | 128) {
            return Err(wrong(format!("{name:?} has {bits} bits in groups of {group}; 4 and 8 in 32, 64, 128 work")));
        }
        let (&[n, words], &[rows, groups]) = (codes.shape(), scales.shape()) else {
            return Err(wrong(format!(
                "{name:?}: codes {:?} and scales {:?} are not matrices",
                codes.shape(),
                scales.shape()
            )));
        };
        let k = words * 32 / bits as usize;
        let same = scales.shape() == biases.shape() && scales.dtype() == biases.dtype();
        if codes.dtype() != DType::U32
            || !is_float(scales.dtype())
            || !same
            || rows != n
            || groups * group as usize != k
        {
            return Err(wrong(format!(
                "{name:?}: codes {:?} {}, scales {:?} {}, biases {:?} {} do not go together at {bits} bits, group {group}",
                codes.shape(),
                codes.dtype(),
                scales.shape(),
                scales.dtype(),
                biases.shape(),
                biases.dtype(),
            )));
        }
        Ok(AffineMatrix { codes, scales, biases, bits, group, k })
    }

    /// The codes, u32 [n, k·bits/32].
    pub fn codes(&self) -> &Buffer {
        &self.codes
    }

    /// The scales, [n, k/group].
    pub fn scales(&self) -> &Buffer {
        &self.scales
    }

    /// The biases, [n, k/group].
    pub fn biases(&self) -> &Buffer {
        &self.biases
    }

    /// Bits of a code: 4 or 8.
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// Values that share a scale: 32, 64 or 128.
    pub fn group(&self) -> u32 {
        self.group
    }
}

impl Matrix {
    /// Rows: length of the result.
    pub fn n(&self) -> usize {
        match self {
            Matrix::Dense(m) => m.weight.shape()[0],
            Matrix::Affine(m) => m.codes.shape()[0],
        }
    }

    /// Columns: length of the input.
    pub fn k(&self) -> usize {
        match self {
            Matrix::Dense(m) => m.weight.shape()[1],
            Matrix::Affine(m) => m.k,
        }
    }

    /// Bytes that a product with one vector reads.
    pub fn byte_len(&self) -> u64 {
        match self {
            Matrix::Dense(m) => m.weight.byte_len(),
            Matrix::Affine(m) => m.codes.byte_len() + m.scales.byte_len() + m.biases.byte_len(),
        }
    }
}
