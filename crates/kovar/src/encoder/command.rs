//! A dispatch on its way, whether it comes from the caller or from a record.

use kovar_hal::Grid;

use super::dispatch::{Dispatch, GridSize, MAX_SLOTS};
use super::record::DispatchRecord;
use super::touch::Touch;
use crate::profile::Cost;
use crate::{Buffer, Kernel, OpKind};

/// Buffers by slot: those of a dispatch, which may leave slots out, or those that a record is given.
pub(super) trait Slots<'b> {
    fn get(&self, slot: usize) -> Option<&'b Buffer>;

    /// A slot that was bound twice, or is none of so many.
    fn misbound(&self, slots: usize) -> Option<usize>;
}

/// A dispatch whose arguments fit, but for its buffers, which nobody has looked at yet. A trait, so that what a record packed
/// is read where it lies.
pub(super) trait Command<'b>: Slots<'b> {
    fn kernel(&self) -> &Kernel;
    fn touches(&self) -> &[Touch];
    fn constants(&self) -> &[u8];
    fn grid(&self) -> Grid;
    /// The buffer that the grid is read from.
    fn indirect(&self) -> Option<&'b Buffer>;
    /// Threadgroup memory that is not the kernel's own.
    fn memory(&self) -> &[u32];
    /// Empty if it goes by the name of its kernel.
    fn label(&self) -> &str;
    fn kind(&self) -> OpKind;
    fn cost(&self) -> Option<&Cost>;
    fn opaque(&self) -> bool;

    #[inline]
    fn name(&self) -> &str {
        match self.label() {
            "" => self.kernel().name(),
            label => label,
        }
    }
}

/// What the caller gave, with its grid in the device's terms.
#[derive(Clone, Copy)]
pub(super) struct Given<'d, 'b> {
    pub(super) dispatch: &'d Dispatch<'b>,
    pub(super) grid: Grid,
}

/// A record with its buffers.
#[derive(Clone, Copy)]
pub(super) struct Baked<'r, 'b> {
    pub(super) record: &'r DispatchRecord,
    pub(super) buffers: &'r [&'b Buffer],
}

impl<'b> Slots<'b> for Given<'_, 'b> {
    #[inline]
    fn get(&self, slot: usize) -> Option<&'b Buffer> {
        self.dispatch.slots.get(slot).copied().flatten()
    }

    #[inline]
    fn misbound(&self, slots: usize) -> Option<usize> {
        let Dispatch { misbound, past, slots: bound, .. } = self.dispatch;
        misbound.or_else(|| (slots..*past).find(|slot| bound[*slot].is_some()))
    }
}

impl<'b> Command<'b> for Given<'_, 'b> {
    #[inline]
    fn kernel(&self) -> &Kernel {
        self.dispatch.kernel
    }

    #[inline]
    fn touches(&self) -> &[Touch] {
        self.dispatch.touches
    }

    #[inline]
    fn constants(&self) -> &[u8] {
        self.dispatch.constants
    }

    #[inline]
    fn grid(&self) -> Grid {
        self.grid
    }

    #[inline]
    fn indirect(&self) -> Option<&'b Buffer> {
        match self.dispatch.grid {
            GridSize::Indirect(buffer) => Some(buffer),
            _ => None,
        }
    }

    #[inline]
    fn memory(&self) -> &[u32] {
        self.dispatch.group_memory
    }

    #[inline]
    fn label(&self) -> &str {
        self.dispatch.label
    }

    #[inline]
    fn kind(&self) -> OpKind {
        self.dispatch.kind
    }

    #[inline]
    fn cost(&self) -> Option<&Cost> {
        self.dispatch.cost
    }

    #[inline]
    fn opaque(&self) -> bool {
        self.dispatch.opaque
    }
}

impl<'b> Slots<'b> for Baked<'_, 'b> {
    #[inline]
    fn get(&self, slot: usize) -> Option<&'b Buffer> {
        self.buffers.get(slot).copied()
    }

    #[inline]
    fn misbound(&self, slots: usize) -> Option<usize> {
        let given = self.buffers.len();
        (given > slots).then_some(if given > MAX_SLOTS { MAX_SLOTS } else { slots })
    }
}

impl<'b> Command<'b> for Baked<'_, 'b> {
    #[inline]
    fn kernel(&self) -> &Kernel {
        &self.record.kernel
    }

    #[inline]
    fn touches(&self) -> &[Touch] {
        &self.record.touches
    }

    #[inline]
    fn constants(&self) -> &[u8] {
        &self.record.constants
    }

    #[inline]
    fn grid(&self) -> Grid {
        Grid::Groups(self.record.groups)
    }

    #[inline]
    fn indirect(&self) -> Option<&'b Buffer> {
        None
    }

    #[inline]
    fn memory(&self) -> &[u32] {
        &self.record.group_memory
    }

    #[inline]
    fn label(&self) -> &str {
        &self.record.label
    }

    #[inline]
    fn kind(&self) -> OpKind {
        self.record.kind
    }

    #[inline]
    fn cost(&self) -> Option<&Cost> {
        Some(&self.record.cost)
    }

    #[inline]
    fn opaque(&self) -> bool {
        self.record.opaque
    }
}
