//! Whether a device can take a kernel: found out when the kernel is made, not when the driver fails.

use kovar_hal::{DeviceInfo, ShaderFormat};

use super::reflect::{ConstantsKind, Reflection};
use super::source::KernelSource;
use crate::encoder::MAX_SLOTS;
use crate::{Error, Misfit, Result};

#[cold]
fn refuse(source: &KernelSource, misfit: Misfit) -> Error {
    Error::Unfit { kernel: source.name.to_string(), misfit }
}

/// The subgroup width that a kernel gets.
pub(super) fn subgroup(source: &KernelSource, info: &DeviceInfo) -> Result<u32> {
    let has = info.subgroup;
    match source.subgroup {
        None => Ok(has.size),
        // A Rust function has no subgroups.
        Some(wanted) if info.shader == ShaderFormat::Cpu || wanted == has.size => Ok(wanted),
        Some(wanted) if has.selectable && wanted.is_power_of_two() && (has.min..=has.max).contains(&wanted) => {
            Ok(wanted)
        }
        Some(wanted) => Err(refuse(source, Misfit::Subgroup { wanted, min: has.min, max: has.max })),
    }
}

/// Holds what was read off a kernel against the device's limits and the kernel's own hints.
pub(super) fn check(source: &KernelSource, reflection: &Reflection, subgroup: u32, info: &DeviceInfo) -> Result<()> {
    let (limits, size) = (&info.limits, reflection.workgroup);
    let threads: u64 = size.iter().map(|axis| u64::from(*axis)).product();
    let memory: u64 = reflection.workgroup_memory.iter().map(|bytes| u64::from(*bytes)).sum();
    let slots = reflection.slots.len();
    let most_slots = MAX_SLOTS.min(limits.bindings as usize);
    let immediate = match reflection.constants {
        ConstantsKind::Immediate { bytes } => bytes,
        ConstantsKind::None | ConstantsKind::Uniform { .. } => 0,
    };
    let misfit = if (0..3).any(|axis| size[axis] > limits.group_size[axis]) {
        Misfit::GroupSize { size, limit: limits.group_size }
    } else if threads > u64::from(limits.group_threads) {
        Misfit::GroupThreads { threads, limit: limits.group_threads }
    } else if memory > u64::from(limits.group_memory) {
        Misfit::GroupMemory { bytes: memory, limit: limits.group_memory }
    } else if immediate > limits.constants {
        Misfit::Constants { bytes: immediate, limit: limits.constants }
    } else if slots > most_slots {
        Misfit::Slots { slots, limit: most_slots }
    } else if source.whole_subgroups && !size[0].is_multiple_of(subgroup.max(1)) {
        Misfit::PartialSubgroup { size, subgroup }
    } else {
        return Ok(());
    };
    Err(refuse(source, misfit))
}
