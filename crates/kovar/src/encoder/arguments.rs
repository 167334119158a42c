//! Checks of a dispatch against its kernel and device.

use std::sync::Arc;

use kovar_hal::{Binding, Limits};
use smallvec::SmallVec;

use super::dispatch::{Dispatch, GridSize, MAX_SLOTS};
use super::touch::Touch;
use crate::hazard::Mode;
use crate::{Buffer, Error, Kernel, Misuse, Result, Slot};

pub(super) type Bindings = SmallVec<[Binding; MAX_SLOTS + 1]>;

/// Bytes of an indirect grid.
pub(super) const INDIRECT: u64 = 12;

/// Where a dispatch is recorded.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) limits: &'a Limits,
    pub(super) capturing: bool,
}

#[cold]
fn refuse(kernel: &Kernel, misuse: Misuse) -> Error {
    Error::Dispatch { kernel: kernel.name().into(), misuse }
}

/// Checks the size of the constants.
pub(super) fn constants(dispatch: &Dispatch<'_>) -> Result<()> {
    let wanted = dispatch.kernel.reflection().constants_bytes() as usize;
    if dispatch.constants.len() == wanted {
        return Ok(());
    }
    Err(refuse(dispatch.kernel, Misuse::Constants { given: dispatch.constants.len(), wanted }))
}

/// Threadgroup arguments that a kernel of Metal can have.
const GROUP_ARGUMENTS: usize = 31;

/// Checks threadgroup memory that a dispatch sizes itself: hand-written Metal code takes it, within the device's limit.
pub(super) fn group_memory(dispatch: &Dispatch<'_>, limits: &Limits) -> Result<()> {
    let (kernel, bytes) = (dispatch.kernel, dispatch.group_memory);
    if bytes.is_empty() {
        return Ok(());
    }
    // Metal takes multiples of 16.
    let total: u64 = bytes.iter().map(|len| u64::from(*len).next_multiple_of(16)).sum();
    let reason = if !kernel.0.native_msl {
        "only hand-written Metal code takes it by the dispatch; size it with an override".into()
    } else if bytes.len() > GROUP_ARGUMENTS || bytes.contains(&0) {
        format!("there are at most {GROUP_ARGUMENTS} threadgroup arguments, of one byte or more")
    } else if total > u64::from(limits.group_memory) {
        format!("this device has {} bytes", limits.group_memory)
    } else {
        return Ok(());
    };
    Err(refuse(kernel, Misuse::ThreadgroupMemory { bytes: total, reason }))
}

/// The bytes that a view gives to a slot: whole words, as far as the allocation has them.
fn binding(buffer: &Buffer) -> Binding {
    let len = buffer.byte_len().next_multiple_of(4).min(buffer.allocation.raw.len - buffer.offset);
    Binding { buffer: buffer.allocation.raw, offset: buffer.offset, len }
}

/// Checks buffers against the slots of a kernel, and adds the bindings in the order of the slots.
pub(super) fn bindings(
    kernel: &Kernel,
    bound: &[Option<&Buffer>; MAX_SLOTS],
    misbound: Option<usize>,
    context: Context<'_>,
    bindings: &mut Bindings,
) -> Result<()> {
    let wanted = &kernel.reflection().slots;
    let slots = wanted.len();
    if let Some(slot) = misbound {
        let misuse = if slot < slots { Misuse::BoundTwice { slot } } else { Misuse::NoSlot { slot, slots } };
        return Err(refuse(kernel, misuse));
    }
    if let Some(slot) = (slots..MAX_SLOTS).find(|slot| bound[*slot].is_some()) {
        return Err(refuse(kernel, Misuse::NoSlot { slot, slots }));
    }
    for (slot, wanted) in wanted.iter().enumerate() {
        let Some(buffer) = bound.get(slot).copied().flatten() else {
            return Err(refuse(kernel, Misuse::Unbound { slot, name: wanted.name.clone() }));
        };
        let binding = binding(buffer);
        if let Some(misuse) = misfit(kernel, slot, wanted, buffer, &binding, context) {
            return Err(refuse(kernel, misuse));
        }
        bindings.push(binding);
    }
    match aliased(kernel, bound, bindings) {
        Some(misuse) => Err(refuse(kernel, misuse)),
        None => Ok(()),
    }
}

/// What is wrong with a buffer in a slot.
fn misfit(
    kernel: &Kernel,
    slot: usize,
    wanted: &Slot,
    buffer: &Buffer,
    bound: &Binding,
    Context { limits, capturing }: Context<'_>,
) -> Option<Misuse> {
    let label = || buffer.label().to_string();
    let size = |reason: String| Some(Misuse::Size { slot, label: label(), bytes: bound.len, reason });
    let alignment = limits.storage_alignment;
    if !Arc::ptr_eq(&buffer.allocation.core, &kernel.0.core) {
        Some(Misuse::Foreign { slot, label: label() })
    } else if buffer.allocation.transient && !capturing {
        Some(Misuse::Transient { slot })
    } else if !capturing && buffer.is_mapped_against(wanted.access == Mode::Write) {
        Some(Misuse::Mapped { slot, label: label() })
    } else if !bound.offset.is_multiple_of(alignment) {
        Some(Misuse::Misaligned { slot, label: label(), offset: bound.offset, alignment })
    } else if bound.len > limits.binding {
        size(format!("this device binds at most {}", limits.binding))
    } else if bound.len < wanted.min_bytes {
        size(format!("the kernel wants at least {}", wanted.min_bytes))
    } else if wanted.access == Mode::Write && buffer.allocation.read_only {
        size("imported memory is read-only, and the kernel writes this slot".into())
    } else {
        None
    }
}

/// Two slots that overlap when one of them is written: what the kernel would see depends on the device.
fn aliased(kernel: &Kernel, bound: &[Option<&Buffer>; MAX_SLOTS], bindings: &Bindings) -> Option<Misuse> {
    let slots = &kernel.reflection().slots;
    for (written, _) in slots.iter().enumerate().filter(|(_, slot)| slot.access == Mode::Write) {
        let a = &bindings[written];
        for (other, b) in bindings.iter().enumerate() {
            let overlap = a.offset < b.offset + b.len && b.offset < a.offset + a.len;
            let same = || matches!((bound[written], bound[other]), (Some(a), Some(b)) if a.same_allocation(b));
            if other != written && overlap && same() {
                let label = bound[written].map_or(String::new(), |buffer| buffer.label().into());
                return Some(Misuse::Aliased { written, other, label });
            }
        }
    }
    None
}

/// Checks that what a dispatch is said to touch lies in its slots.
pub(super) fn touches(kernel: &Kernel, bound: &[Option<&Buffer>; MAX_SLOTS], touches: &[Touch]) -> Result<()> {
    for touch in touches {
        let (slot, slots) = (touch.slot, kernel.reflection().slots.len());
        let Some(buffer) = bound.get(slot).copied().flatten() else {
            return Err(refuse(kernel, Misuse::NoSlot { slot, slots }));
        };
        if touch.hull().is_none_or(|hull| hull.end > buffer.len()) {
            let (label, touch, len) = (buffer.label().into(), *touch, buffer.len());
            return Err(refuse(kernel, Misuse::Touch { slot, label, touch, len }));
        }
    }
    Ok(())
}

/// Checks the grid.
pub(super) fn grid(dispatch: &Dispatch<'_>, Context { limits, capturing }: Context<'_>) -> Result<kovar_hal::Grid> {
    let groups = match dispatch.grid {
        GridSize::None => return Err(refuse(dispatch.kernel, Misuse::NoGrid)),
        GridSize::Indirect(buffer) => {
            let misuse = |reason: &str| Misuse::Transfer(format!("indirect grid in {:?}: {reason}", buffer.label()));
            if !Arc::ptr_eq(&buffer.allocation.core, &dispatch.kernel.0.core) {
                return Err(refuse(dispatch.kernel, misuse("belongs to another device")));
            }
            if !capturing && buffer.is_mapped_against(false) {
                return Err(refuse(dispatch.kernel, misuse("is mapped by the host; drop the view first")));
            }
            if buffer.byte_len() < INDIRECT || !buffer.offset.is_multiple_of(4) {
                return Err(refuse(dispatch.kernel, misuse("wants 12 bytes at a multiple of 4")));
            }
            return Ok(kovar_hal::Grid::Indirect { buffer: buffer.allocation.raw, offset: buffer.offset });
        }
        GridSize::Groups(groups) => groups,
        GridSize::Threads(threads) => {
            let size = dispatch.kernel.reflection().workgroup;
            std::array::from_fn(|axis| threads[axis].div_ceil(size[axis].max(1)))
        }
    };
    if (0..3).any(|axis| groups[axis] > limits.groups[axis]) {
        return Err(refuse(dispatch.kernel, Misuse::Grid { groups, limit: limits.groups }));
    }
    Ok(kovar_hal::Grid::Groups(groups))
}
