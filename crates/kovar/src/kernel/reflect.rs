use naga::valid::{GlobalUse, ModuleInfo};
use naga::{AddressSpace, Module, TypeInner};
use serde::{Deserialize, Serialize};

use crate::hazard::Mode;

/// A buffer that a kernel takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Its name in the source.
    pub name: String,
    /// What the kernel does with it, read off the code, not off its declaration.
    pub access: Mode,
    /// Whether a kernel that writes it may read it as well.
    pub updated: bool,
    /// Bytes that must be there at least: the fixed part of the type and one element of a run-time sized array.
    pub min_bytes: u64,
    /// Whether it ends in a run-time sized array.
    pub runtime_sized: bool,
}

/// How a kernel takes its constants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConstantsKind {
    /// It takes none.
    None,
    /// Inline with the dispatch: push constants, `setBytes`.
    Immediate {
        /// Their size.
        bytes: u32,
    },
    /// Through a uniform block, which the encoder places in its constant ring.
    Uniform {
        /// Its binding, after the last slot.
        slot: u32,
        /// Its size.
        bytes: u32,
    },
}

/// What the code of a kernel says of its interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reflection {
    /// Name of the entry point.
    pub entry: String,
    /// Buffers, in the order of their bindings.
    pub slots: Vec<Slot>,
    /// Constants.
    pub constants: ConstantsKind,
    /// Threads of a workgroup.
    pub workgroup: [u32; 3],
    /// Bytes of each workgroup variable that the kernel uses, in order.
    pub workgroup_memory: Vec<u32>,
}

impl Reflection {
    /// Bytes of constants.
    pub fn constants_bytes(&self) -> u32 {
        match self.constants {
            ConstantsKind::None => 0,
            ConstantsKind::Immediate { bytes } | ConstantsKind::Uniform { bytes, .. } => bytes,
        }
    }

    /// Reads a module whose overrides have been resolved.
    pub(crate) fn of(module: &Module, info: &ModuleInfo) -> Result<Reflection, String> {
        let [entry] = module.entry_points.as_slice() else {
            return Err(format!("has {} entry points, wants exactly one", module.entry_points.len()));
        };
        if entry.stage != naga::ShaderStage::Compute {
            return Err(format!("entry point {} is not @compute", entry.name));
        }
        let uses = info.get_entry_point(0);
        let layouts = module.to_ctx();
        let mut reflection = Reflection {
            entry: entry.name.clone(),
            slots: Vec::new(),
            constants: ConstantsKind::None,
            workgroup: entry.workgroup_size,
            workgroup_memory: Vec::new(),
        };
        let mut bound = Vec::new();
        for (handle, variable) in module.global_variables.iter() {
            let name = variable.name.clone().unwrap_or_default();
            let used = uses[handle];
            let bytes = module.types[variable.ty].inner.size(layouts);
            match variable.space {
                AddressSpace::Storage { .. } => {
                    let binding = variable.binding.ok_or_else(|| format!("{name} has no binding"))?;
                    if binding.group != 0 {
                        return Err(format!("{name} is in group {}, buffers belong to group 0", binding.group));
                    }
                    let access = if used.contains(GlobalUse::WRITE) { Mode::Write } else { Mode::Read };
                    let updated = used.contains(GlobalUse::WRITE | GlobalUse::READ);
                    let runtime_sized = ends_open(module, variable.ty);
                    bound.push((
                        binding.binding,
                        Slot { name, access, updated, min_bytes: u64::from(bytes), runtime_sized },
                    ));
                }
                AddressSpace::Uniform => {
                    let binding = variable.binding.ok_or_else(|| format!("{name} has no binding"))?;
                    reflection.constants_are(ConstantsKind::Uniform { slot: binding.binding, bytes })?;
                }
                AddressSpace::Immediate => reflection.constants_are(ConstantsKind::Immediate { bytes })?,
                AddressSpace::WorkGroup if !used.is_empty() => reflection.workgroup_memory.push(bytes),
                AddressSpace::WorkGroup | AddressSpace::Private => {}
                other => return Err(format!("{name} is in address space {other:?}, which kernels do not have")),
            }
        }
        bound.sort_by_key(|(binding, _)| *binding);
        for (expected, (binding, slot)) in bound.into_iter().enumerate() {
            if binding as usize != expected {
                return Err(format!("{} is binding {binding}, the next free one is {expected}", slot.name));
            }
            reflection.slots.push(slot);
        }
        if let ConstantsKind::Uniform { slot, .. } = reflection.constants
            && slot as usize != reflection.slots.len()
        {
            return Err(format!(
                "the uniform block is binding {slot}, it comes after the {} buffers",
                reflection.slots.len()
            ));
        }
        Ok(reflection)
    }

    fn constants_are(&mut self, kind: ConstantsKind) -> Result<(), String> {
        if self.constants != ConstantsKind::None {
            return Err("has two blocks of constants, wants at most one immediate or uniform".into());
        }
        self.constants = kind;
        Ok(())
    }
}

fn ends_open(module: &Module, ty: naga::Handle<naga::Type>) -> bool {
    match &module.types[ty].inner {
        TypeInner::Array { size: naga::ArraySize::Dynamic, .. } => true,
        TypeInner::Struct { members, .. } => members.last().is_some_and(|m| ends_open(module, m.ty)),
        _ => false,
    }
}
