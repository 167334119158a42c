//! One tensor: a typed, shaped range of a mapped file.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::{MappedFile, WeightsError};

/// Element type of a tensor, as safetensors names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TensorType {
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned 8 bit.
    U8,
    /// Signed 8 bit.
    I8,
    /// 8-bit float, 4 exponent and 3 mantissa bits, no infinity.
    F8E4M3,
    /// 8-bit float, 5 exponent and 2 mantissa bits.
    F8E5M2,
    /// 8-bit power of two.
    F8E8M0,
    /// Unsigned 16 bit.
    U16,
    /// Signed 16 bit.
    I16,
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    BF16,
    /// Unsigned 32 bit. Packed quantised weights have this type.
    U32,
    /// Signed 32 bit.
    I32,
    /// IEEE single precision.
    F32,
    /// Unsigned 64 bit.
    U64,
    /// Signed 64 bit.
    I64,
    /// IEEE double precision.
    F64,
    /// Two f32: real and imaginary part.
    C64,
}

impl TensorType {
    const ALL: [(Self, &str, usize); 17] = [
        (Self::Bool, "BOOL", 1),
        (Self::U8, "U8", 1),
        (Self::I8, "I8", 1),
        (Self::F8E4M3, "F8_E4M3", 1),
        (Self::F8E5M2, "F8_E5M2", 1),
        (Self::F8E8M0, "F8_E8M0", 1),
        (Self::U16, "U16", 2),
        (Self::I16, "I16", 2),
        (Self::F16, "F16", 2),
        (Self::BF16, "BF16", 2),
        (Self::U32, "U32", 4),
        (Self::I32, "I32", 4),
        (Self::F32, "F32", 4),
        (Self::U64, "U64", 8),
        (Self::I64, "I64", 8),
        (Self::F64, "F64", 8),
        (Self::C64, "C64", 8),
    ];

    fn row(self) -> (&'static str, usize) {
        // ALL lists the variants in order; the test below holds it to that
        let (_, name, size) = Self::ALL[self as usize];
        (name, size)
    }

    /// Bytes an element.
    pub fn size(self) -> usize {
        self.row().1
    }

    /// The name in a safetensors header, such as `BF16`.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// The type of this name in a safetensors header, if it is known.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, n, _)| *n == name).map(|(t, _, _)| *t)
    }

    /// Whether weights that are not quantised, scales and biases may have this type: F32, F16 or BF16.
    pub fn is_weight_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::BF16)
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A tensor of a mapped file. Cheap to clone; keeps the file mapped.
///
/// It is row-major and little-endian, and was checked when the file was opened: [`bytes`](Self::bytes) is exactly as long
/// as type and shape say.
///
/// MLX does not pad its headers, so a tensor may begin at any byte of the file, odd ones included. Ask
/// [`alignment`](Self::alignment) before reading it as anything but bytes.
#[derive(Clone)]
pub struct Tensor {
    name: Arc<str>,
    dtype: TensorType,
    shape: Vec<usize>,
    file: Arc<MappedFile>,
    range: Range<usize>,
}

impl Tensor {
    /// The caller has checked that `range` lies in the file and is as long as type and shape say.
    pub(crate) fn new(
        name: Arc<str>,
        dtype: TensorType,
        shape: Vec<usize>,
        file: Arc<MappedFile>,
        range: Range<usize>,
    ) -> Self {
        Self { name, dtype, shape, file, range }
    }

    /// The name in the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    /// Element type.
    pub fn dtype(&self) -> TensorType {
        self.dtype
    }

    /// Extent of each axis, slowest first; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.range.len() / self.dtype.size()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Size in bytes.
    pub fn byte_len(&self) -> usize {
        self.range.len()
    }

    /// The file that holds it. A buffer that uses the bytes in place keeps a clone of this.
    pub fn file(&self) -> &Arc<MappedFile> {
        &self.file
    }

    /// Where it lies in the file, in bytes from the file's start.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Its bytes in the mapped file. See [`MappedFile`] about files that change while they are mapped.
    pub fn bytes(&self) -> &[u8] {
        &self.file.as_bytes()[self.range.clone()]
    }

    /// The largest power of two, up to 4096, that divides its address in memory.
    pub fn alignment(&self) -> usize {
        // the mapping itself begins on a page, and no page is smaller than 4096 bytes
        1 << self.range.start.trailing_zeros().min(12)
    }

    /// Itself, if it has this shape; `why` ends the sentence that says what was expected.
    pub(crate) fn with_shape(self, shape: &[usize], why: &str) -> Result<Self, WeightsError> {
        if self.shape == shape {
            return Ok(self);
        }
        Err(WeightsError::ShapeMismatch {
            tensor: self.name.to_string(),
            found: self.shape,
            expected: format!("{shape:?}{why}"),
        })
    }

    /// Itself, if it is F32, F16 or BF16.
    pub(crate) fn with_float(self) -> Result<Self, WeightsError> {
        if self.dtype.is_weight_float() {
            return Ok(self);
        }
        Err(self.wrong_type("F32, F16 or BF16"))
    }

    pub(crate) fn wrong_type(&self, expected: &str) -> WeightsError {
        WeightsError::TypeMismatch { tensor: self.name.to_string(), found: self.dtype, expected: expected.into() }
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} {}{:?} at {:?} of {}",
            self.name,
            self.dtype,
            self.shape,
            self.range,
            self.file.path().display()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_types_is_in_the_order_of_the_enum() {
        for (i, (t, name, _)) in TensorType::ALL.iter().enumerate() {
            assert_eq!(*t as usize, i, "{name}");
            assert_eq!(TensorType::from_name(name), Some(*t));
            assert_eq!(t.name(), *name);
        }
        assert_eq!(TensorType::from_name("F4"), None);
        assert_eq!(TensorType::from_name("bf16"), None);
    }
}
