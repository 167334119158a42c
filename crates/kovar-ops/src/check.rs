//! Checks of arguments, shared by the typed host functions.

use bytemuck::{Pod, Zeroable};
use kovar::{Buffer, DType, Error, Result};

/// Checks on behalf of one op, which their errors name.
#[derive(Clone, Copy)]
pub(crate) struct Check(pub(crate) &'static str);

/// How errors describe a buffer: its role, shape and type.
fn describe(role: &str, buffer: &Buffer) -> String {
    format!("{role} ({:?}) is {:?} {}", buffer.label(), buffer.shape(), buffer.dtype())
}

impl Check {
    /// The error of this op.
    #[cold]
    pub(crate) fn fail(self, message: impl Into<String>) -> Error {
        Error::Op { op: self.0, message: message.into() }
    }

    /// An error about one argument: what it is, and what was wanted.
    #[cold]
    pub(crate) fn unfit(self, role: &str, buffer: &Buffer, wanted: &str) -> Error {
        self.fail(format!("{}, wanted {wanted}", describe(role, buffer)))
    }

    /// The argument has this element type.
    pub(crate) fn dtype(self, role: &str, buffer: &Buffer, dtype: DType) -> Result<()> {
        if buffer.dtype() == dtype { Ok(()) } else { Err(self.unfit(role, buffer, &format!("{dtype}"))) }
    }

    /// Arguments of equal length, whatever their axes.
    pub(crate) fn same_len(self, role: &str, buffer: &Buffer, other_role: &str, other: &Buffer) -> Result<()> {
        if buffer.len() == other.len() {
            return Ok(());
        }
        let (a, b) = (describe(role, buffer), describe(other_role, other));
        Err(self.fail(format!("{a}, {b}: wanted equal lengths")))
    }

    /// The argument is [a, b, c] f32.
    pub(crate) fn axes3(self, role: &str, buffer: &Buffer, wanted: &str) -> Result<[usize; 3]> {
        match *buffer.shape() {
            [a, b, c] if buffer.dtype() == DType::F32 => Ok([a, b, c]),
            _ => Err(self.unfit(role, buffer, wanted)),
        }
    }

    /// The position of the first row: u32 [1].
    pub(crate) fn position(self, buffer: &Buffer) -> Result<()> {
        if buffer.dtype() == DType::U32 && buffer.len() == 1 {
            return Ok(());
        }
        Err(self.unfit("position", buffer, "u32 [1]"))
    }

    /// The length of an argument as kernels count. Their loops may step past the end, so one bit stays free.
    pub(crate) fn len32(self, role: &str, buffer: &Buffer) -> Result<u32> {
        let len = u32::try_from(buffer.len()).ok().filter(|n| *n < 1 << 31);
        len.ok_or_else(|| self.unfit(role, buffer, "fewer than 2^31 elements"))
    }
}

/// The constant `DTYPE` of the kernels: how the elements of a weight are stored.
pub(crate) fn float_code(dtype: DType) -> Option<f64> {
    match dtype {
        DType::F32 => Some(0.0),
        DType::F16 => Some(1.0),
        DType::BF16 => Some(2.0),
        _ => None,
    }
}

/// The constants of kernels that need only a length.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct Length {
    pub(crate) n: u32,
}
