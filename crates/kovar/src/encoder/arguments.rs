//! Checks of a dispatch against its kernel and device.

use std::sync::Arc;

use kovar_hal::{Binding, Limits};

use super::command::Slots;
use super::dispatch::{Dispatch, GridSize};
use super::touch::Touch;
use crate::buffer::Allocation;
use crate::hazard::{Access, Mode, ResourceId};
use crate::{Buffer, Error, Kernel, Misuse, Result, Slot};

/// In place of the number of an allocation that has none yet.
pub(super) const STRANGER: ResourceId = ResourceId(u32::MAX);

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
#[inline]
fn binding(buffer: &Buffer) -> Binding {
    let len = buffer.byte_len().next_multiple_of(4).min(buffer.allocation.raw.len - buffer.offset);
    Binding { buffer: buffer.allocation.raw, offset: buffer.offset, len }
}

/// Checks buffers against the slots of a kernel, and lists what is bound and what the kernel does with it, in the order of
/// the slots. `number` gives that of an allocation which has been met; [`STRANGER`] stands for others. Whether there are some.
#[inline(always)]
pub(super) fn buffers<'a>(
    kernel: &Kernel,
    bound: &impl Slots<'a>,
    context: Context<'_>,
    number: impl Fn(&Allocation) -> Option<ResourceId>,
    (bindings, accesses): (&mut Vec<Binding>, &mut Vec<Access>),
) -> Result<bool> {
    bindings.clear();
    accesses.clear();
    let (mut twice, mut strangers) = (false, false);
    let wanted = &kernel.reflection().slots;
    let slots = wanted.len();
    if let Some(slot) = bound.misbound(slots) {
        let misuse = if slot < slots { Misuse::BoundTwice { slot } } else { Misuse::NoSlot { slot, slots } };
        return Err(refuse(kernel, misuse));
    }
    for (slot, wanted) in wanted.iter().enumerate() {
        let Some(buffer) = bound.get(slot) else {
            return Err(unbound(kernel, slot));
        };
        let binding = binding(buffer);
        if let Some(wrong) = Wrong::of(kernel, (slot, wanted), buffer, &binding, context) {
            return Err(wrong.tell(kernel, slot, buffer, context.limits));
        }
        let resource = number(&buffer.allocation);
        strangers |= resource.is_none();
        twice |= bindings.iter().any(|before| before.buffer.id == binding.buffer.id);
        let range = binding.offset..binding.offset + binding.len;
        bindings.push(binding);
        accesses.push(Access::new(resource.unwrap_or(STRANGER), range, wanted.access));
    }
    match if twice { aliased(kernel, bound, bindings) } else { None } {
        Some(misuse) => Err(refuse(kernel, misuse)),
        None => Ok(strangers),
    }
}

#[cold]
fn unbound(kernel: &Kernel, slot: usize) -> Error {
    refuse(kernel, Misuse::Unbound { slot, name: kernel.reflection().slots[slot].name.clone() })
}

/// What is wrong with a buffer in a slot.
#[derive(Clone, Copy)]
enum Wrong {
    Foreign,
    Transient,
    Mapped,
    Misaligned,
    TooLong,
    TooShort,
    ReadOnly,
}

impl Wrong {
    #[inline]
    fn of(
        kernel: &Kernel,
        (slot, wanted): (usize, &Slot),
        buffer: &Buffer,
        bound: &Binding,
        context: Context<'_>,
    ) -> Option<Wrong> {
        let Context { limits, capturing } = context;
        let writes = wanted.access == Mode::Write;
        if !Arc::ptr_eq(&buffer.allocation.core, &kernel.0.core) {
            Some(Wrong::Foreign)
        } else if buffer.allocation.transient && !capturing {
            Some(Wrong::Transient)
        } else if !capturing && buffer.is_mapped_against(writes) {
            Some(Wrong::Mapped)
        } else if bound.offset & (limits.storage_alignment - 1) != 0 && !kernel.0.unaligned.contains(&slot) {
            Some(Wrong::Misaligned)
        } else if bound.len > limits.binding {
            Some(Wrong::TooLong)
        } else if bound.len < wanted.min_bytes {
            Some(Wrong::TooShort)
        } else if writes && buffer.allocation.read_only {
            Some(Wrong::ReadOnly)
        } else {
            None
        }
    }

    #[cold]
    fn tell(self, kernel: &Kernel, slot: usize, buffer: &Buffer, limits: &Limits) -> Error {
        let (bound, label) = (binding(buffer), buffer.label().to_string());
        let size = |label, reason: String| Misuse::Size { slot, label, bytes: bound.len, reason };
        let alignment = limits.storage_alignment;
        let misuse = match self {
            Wrong::Foreign => Misuse::Foreign { slot, label },
            Wrong::Transient => Misuse::Transient { slot },
            Wrong::Mapped => Misuse::Mapped { slot, label },
            Wrong::Misaligned => Misuse::Misaligned { slot, label, offset: bound.offset, alignment },
            Wrong::TooLong => size(label, format!("this device binds at most {}", limits.binding)),
            Wrong::TooShort => {
                size(label, format!("the kernel wants at least {}", kernel.reflection().slots[slot].min_bytes))
            }
            Wrong::ReadOnly => size(label, "imported memory is read-only, and the kernel writes this slot".into()),
        };
        refuse(kernel, misuse)
    }
}

/// Two slots that overlap when one of them is written: what the kernel would see depends on the device.
#[cold]
fn aliased<'a>(kernel: &Kernel, bound: &impl Slots<'a>, bindings: &[Binding]) -> Option<Misuse> {
    let slots = &kernel.reflection().slots;
    for (written, _) in slots.iter().enumerate().filter(|(_, slot)| slot.access == Mode::Write) {
        let a = &bindings[written];
        for (other, b) in bindings.iter().enumerate() {
            let overlap = a.offset < b.offset + b.len && b.offset < a.offset + a.len;
            let same = || bound.get(written).zip(bound.get(other)).is_some_and(|(a, b)| a.same_allocation(b));
            if other != written && overlap && same() {
                let label = bound.get(written).map_or(String::new(), |buffer| buffer.label().into());
                return Some(Misuse::Aliased { written, other, label });
            }
        }
    }
    None
}

/// Checks that what a dispatch is said to touch lies in its slots.
pub(super) fn touches<'a>(kernel: &Kernel, bound: &impl Slots<'a>, touches: &[Touch]) -> Result<()> {
    for touch in touches {
        let (slot, slots) = (touch.slot, kernel.reflection().slots.len());
        let Some(buffer) = bound.get(slot) else {
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
