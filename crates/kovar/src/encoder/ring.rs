use kovar_hal::Binding;

use crate::{Buffer, DType, Device, Result};

/// Bytes of one block.
const BLOCK: usize = 64 << 10;

/// Memory for constants that do not fit into the command, as uniform blocks.
#[derive(Default)]
pub(super) struct Ring {
    block: Option<Buffer>,
    used: usize,
}

impl Ring {
    /// Writes constants: where they are, and in which block.
    pub(super) fn place(&mut self, device: &Device, constants: &[u8]) -> Result<(Binding, Buffer)> {
        let align = device.info().limits.uniform_alignment.max(16) as usize;
        let at = self.used.next_multiple_of(align);
        let (block, at) = match self.block.take().filter(|block| at + constants.len() <= block.len()) {
            Some(block) => (block, at),
            // From the pool: once a few recordings have run, constants allocate nothing.
            None => (device.scratch(DType::U8, &[BLOCK.max(constants.len().next_multiple_of(align))])?, 0),
        };
        block.view(at..at + constants.len())?.write_bytes(constants)?;
        self.used = at + constants.len();
        self.block = Some(block.clone());
        let binding = Binding { buffer: block.allocation.raw, offset: at as u64, len: constants.len() as u64 };
        Ok((binding, block))
    }
}
