//! What a command touches, and what that does to its buffers.

use super::command::Slots;
use super::touch::Touch;
use crate::Kernel;
use crate::flight::Used;
use crate::hazard::{Access, Mode};
use crate::poison::Use;

/// Puts what the caller says of a slot in the place of its whole. The first of a slot stays in the order of the slots.
pub(super) fn narrow<'a>(slots: &impl Slots<'a>, touches: &[Touch], accesses: &mut Vec<Access>) {
    for slot in 0..accesses.len() {
        let Some(buffer) = slots.get(slot) else { continue };
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
#[inline]
pub(super) fn note(used: &mut [Used], kernel: &Kernel, accesses: &[Access], narrowed: bool) {
    let slots = &kernel.0.reflection.slots;
    for (index, access) in accesses.iter().enumerate() {
        let effect = &mut used[access.resource.0 as usize].effect;
        if access.mode == Mode::Read {
            effect.add(Use::Read, &access.range);
        } else if narrowed || slots.get(index).is_none_or(|slot| slot.updated) {
            effect.add(Use::Update, &access.range);
        } else {
            effect.add(Use::Write, &access.range);
        }
    }
}

pub(super) fn note_transfer(used: &mut [Used], accesses: &[Access]) {
    for access in accesses {
        let how = if access.mode == Mode::Read { Use::Read } else { Use::Write };
        used[access.resource.0 as usize].effect.add(how, &access.range);
    }
}
