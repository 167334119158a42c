//! What a command touches, and what that does to its buffers.

use super::node::Accesses;
use super::touch::Touch;
use crate::flight::Used;
use crate::hazard::{Access, Mode};
use crate::poison::Use;
use crate::{Buffer, Kernel};

/// Puts what the caller says of a slot in the place of its whole. The first of a slot stays in the order of the slots.
pub(super) fn narrow(slots: &[Option<&Buffer>], touches: &[Touch], accesses: &mut Accesses) {
    for (slot, buffer) in slots.iter().enumerate() {
        let Some(buffer) = buffer.filter(|_| !touches.is_empty()) else { continue };
        let of_slot = touches.iter().filter(|touch| touch.slot == slot);
        for (number, (range, rows)) in of_slot.filter_map(|touch| touch.bytes(buffer)).enumerate() {
            let access = Access { range, rows, ..accesses[slot].clone() };
            match number {
                0 => accesses[slot] = access,
                _ => accesses.push(access),
            }
        }
    }
}

/// Notes what a dispatch does to its buffers. It overwrites what is bound, unless it reads it too or was said to touch a part.
pub(super) fn note(used: &mut [Used], kernel: &Kernel, accesses: &[Access], narrowed: bool) {
    let slots = &kernel.0.reflection.slots;
    for (index, access) in accesses.iter().enumerate() {
        let overwrites = !narrowed && slots.get(index).is_some_and(|slot| !slot.updated);
        let how = match access.mode {
            Mode::Read => Use::Read,
            Mode::Write if overwrites => Use::Write,
            Mode::Write => Use::Update,
        };
        used[access.resource.0 as usize].effect.add(how, &access.range);
    }
}

pub(super) fn note_transfer(used: &mut [Used], accesses: &[Access]) {
    for access in accesses {
        let how = if access.mode == Mode::Read { Use::Read } else { Use::Write };
        used[access.resource.0 as usize].effect.add(how, &access.range);
    }
}
