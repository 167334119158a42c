use std::collections::BTreeMap;

use naga::back::{self, msl, pipeline_constants::process_overrides, spv};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ModuleInfo, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};

use super::cache::Translation;
use super::reflect::Reflection;
use super::source::Specialization;

/// A checked module with all overrides resolved.
pub(crate) struct Translated {
    module: naga::Module,
    info: ModuleInfo,
    pub(crate) reflection: Reflection,
}

/// Name of the constant that gets the subgroup size of the device.
const SUBGROUP: &str = "SG";

/// Parses, validates and specialises. Errors carry the source line.
pub(crate) fn parse(wgsl: &str, constants: Specialization<'_>, subgroup: u32) -> Result<Translated, String> {
    let module = naga::front::wgsl::parse_str(wgsl).map_err(|e| e.emit_to_string(wgsl))?;
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
    validator.subgroup_stages(ShaderStages::COMPUTE);
    validator.subgroup_operations(SubgroupOperationSet::all());
    let info = validator.validate(&module).map_err(|e| e.emit_to_string(wgsl))?;
    let known = |name: &str| module.overrides.iter().any(|(_, o)| o.name.as_deref() == Some(name));
    let mut values = back::PipelineConstants::default();
    for (name, value) in constants {
        if !known(name) {
            return Err(format!("has no override constant {name}"));
        }
        values.insert((*name).to_string(), *value);
    }
    if known(SUBGROUP) && !values.contains_key(SUBGROUP) {
        values.insert(SUBGROUP.into(), f64::from(subgroup));
    }
    let (module, info) = process_overrides(&module, &info, None, &values).map_err(|e| e.to_string())?;
    let (module, info) = (module.into_owned(), info.into_owned());
    let reflection = Reflection::of(&module, &info)?;
    Ok(Translated { module, info, reflection })
}

/// Kernels check their own bounds; a second check would cost a compare a load.
fn unchecked() -> BoundsCheckPolicies {
    let none = BoundsCheckPolicy::Unchecked;
    BoundsCheckPolicies { index: none, buffer: none, image_load: none, binding_array: none }
}

impl Translated {
    pub(super) fn spirv(&self, version: (u8, u8)) -> Result<Translation, String> {
        let options = spv::Options {
            lang_version: version,
            flags: spv::WriterFlags::empty(),
            bounds_check_policies: unchecked(),
            force_loop_bounding: false,
            emit_int_div_checks: false,
            zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
            use_storage_input_output_16: false,
            ..Default::default()
        };
        let words = spv::write_vec(&self.module, &self.info, &options, None).map_err(|e| e.to_string())?;
        Ok(Translation::Spirv { words, entry: self.reflection.entry.clone() })
    }

    /// Metal source with the name of its entry point: buffer index = slot, then constants, then array sizes.
    pub(super) fn msl(&self, version: (u8, u8)) -> Result<Translation, String> {
        let constants_index = self.reflection.slots.len() as u32;
        let sizes_index = constants_index + 1;
        let mut resources = msl::EntryPointResources {
            resources: BTreeMap::new(),
            immediates_buffer: Some(constants_index as u8),
            sizes_buffer: Some(sizes_index as u8),
        };
        for (_, variable) in self.module.global_variables.iter() {
            if let Some(binding) = variable.binding {
                let target =
                    msl::BindTarget { buffer: Some(binding.binding as u8), mutable: true, ..Default::default() };
                resources.resources.insert(binding, target);
            }
        }
        let options = msl::Options {
            lang_version: version,
            per_entry_point_map: [(self.reflection.entry.clone(), resources)].into_iter().collect(),
            bounds_check_policies: unchecked(),
            force_loop_bounding: false,
            emit_int_div_checks: false,
            zero_initialize_workgroup_memory: false,
            fake_missing_bindings: false,
            ..Default::default()
        };
        let (source, info) = msl::write_string(&self.module, &self.info, &options, &msl::PipelineOptions::default())
            .map_err(|e| e.to_string())?;
        let entry = match info.entry_point_names.into_iter().next() {
            Some(Ok(name)) => name,
            Some(Err(e)) => return Err(e.to_string()),
            None => return Err("has no entry point".into()),
        };
        let sized = (0..).zip(&self.reflection.slots).filter(|(_, slot)| slot.runtime_sized).map(|(i, _)| i).collect();
        let sizes_index = source.contains("_mslBufferSizes").then_some(sizes_index);
        Ok(Translation::Msl { source, constants_index, sizes_index, sized, entry })
    }
}

/// The Metal source of some WGSL, as it is given to the driver: for snapshots and for reading. `subgroup` is the value
/// of the constant `SG`; `version` that of the Metal language.
///
/// # Errors
/// The compiler's message, with the source line.
pub fn to_msl(wgsl: &str, constants: Specialization<'_>, subgroup: u32, version: (u8, u8)) -> Result<String, String> {
    match parse(wgsl, constants, subgroup)?.msl(version)? {
        Translation::Msl { source, .. } => Ok(source),
        _ => Err("the translation is not MSL".into()),
    }
}
