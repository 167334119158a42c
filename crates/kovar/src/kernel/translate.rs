use std::collections::BTreeMap;

use naga::back::{self, msl, pipeline_constants::process_overrides, spv};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ModuleInfo, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};

use super::cache::Translation;
use super::lint;
use super::reflect::Reflection;
use super::source::{KernelSource, Specialization};
use crate::{Error, Trap};

/// Why a kernel is not translated.
#[derive(Debug)]
pub(super) enum Flaw {
    /// The compiler's message.
    Text(String),
    /// A trap that it would have fallen into.
    Trap { line: u32, trap: Trap },
}

impl From<String> for Flaw {
    fn from(message: String) -> Flaw {
        Flaw::Text(message)
    }
}

impl Flaw {
    #[cold]
    pub(super) fn of(self, source: &KernelSource) -> Error {
        let kernel = source.name.to_string();
        match self {
            Flaw::Text(message) => Error::Kernel { kernel, message },
            Flaw::Trap { line, trap } => Error::Trap { kernel, line, trap },
        }
    }
}

/// A checked module with all overrides resolved.
pub(crate) struct Translated<'a> {
    wgsl: &'a str,
    module: naga::Module,
    info: ModuleInfo,
    pub(crate) reflection: Reflection,
}

/// Name of the constant that gets the subgroup size of the device.
const SUBGROUP: &str = "SG";

/// Parses, validates, lints and specialises. Errors carry the source line.
pub(super) fn parse<'a>(wgsl: &'a str, constants: Specialization<'_>, subgroup: u32) -> Result<Translated<'a>, Flaw> {
    let module = naga::front::wgsl::parse_str(wgsl).map_err(|e| e.emit_to_string(wgsl))?;
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
    validator.subgroup_stages(ShaderStages::COMPUTE);
    validator.subgroup_operations(SubgroupOperationSet::all());
    let info = validator.validate(&module).map_err(|e| e.emit_to_string(wgsl))?;
    lint::check(wgsl, &module, &info)?;
    let known = |name: &str| module.overrides.iter().any(|(_, o)| o.name.as_deref() == Some(name));
    let mut values = back::PipelineConstants::default();
    for (name, value) in constants {
        if !known(name) {
            return Err(format!("has no override constant {name}").into());
        }
        values.insert((*name).to_string(), *value);
    }
    if known(SUBGROUP) && !values.contains_key(SUBGROUP) {
        values.insert(SUBGROUP.into(), f64::from(subgroup));
    }
    let (module, info) = process_overrides(&module, &info, None, &values).map_err(|e| e.to_string())?;
    let (module, info) = (module.into_owned(), info.into_owned());
    let reflection = Reflection::of(&module, &info)?;
    Ok(Translated { wgsl, module, info, reflection })
}

/// Kernels check their own bounds; a second check would cost a compare a load.
fn unchecked() -> BoundsCheckPolicies {
    let none = BoundsCheckPolicy::Unchecked;
    BoundsCheckPolicies { index: none, buffer: none, image_load: none, binding_array: none }
}

impl Translated<'_> {
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

    /// Indices of the constants and of the sizes of arrays, behind those of the slots.
    fn msl_indices(&self) -> [u32; 2] {
        let slots = self.reflection.slots.len() as u32;
        [slots, slots + 1]
    }

    /// Metal source, with what the translator says of it.
    fn msl_source(&self, version: (u8, u8)) -> Result<(String, msl::TranslationInfo), Flaw> {
        lint::check_metal(self.wgsl, &self.module, &self.info)?;
        let [constants_index, sizes_index] = self.msl_indices();
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
        msl::write_string(&self.module, &self.info, &options, &msl::PipelineOptions::default())
            .map_err(|e| e.to_string().into())
    }

    /// Metal source with the name of its entry point: buffer index = slot, then constants, then array sizes.
    pub(super) fn msl(&self, version: (u8, u8)) -> Result<Translation, Flaw> {
        let (source, info) = self.msl_source(version)?;
        let [constants_index, sizes_index] = self.msl_indices();
        let entry = match info.entry_point_names.into_iter().next() {
            Some(Ok(name)) => name,
            Some(Err(e)) => return Err(e.to_string().into()),
            None => return Err(String::from("has no entry point").into()),
        };
        let sized = (0..).zip(&self.reflection.slots).filter(|(_, slot)| slot.runtime_sized).map(|(i, _)| i).collect();
        let sizes_index = source.contains("_mslBufferSizes").then_some(sizes_index);
        Ok(Translation::Msl { source, constants_index, sizes_index, sized, entry })
    }
}

/// The Metal source of a kernel's WGSL, as it is given to the driver: for snapshots and for reading. `subgroup` is the
/// value of the constant `SG`; `version` that of the Metal language.
///
/// # Errors
/// [`Error::Kernel`] with the compiler's message, [`Error::Trap`] with what Metal would not take.
pub fn to_msl(
    source: &KernelSource,
    constants: Specialization<'_>,
    subgroup: u32,
    version: (u8, u8),
) -> crate::Result<String> {
    let parsed = parse(&source.wgsl, constants, subgroup);
    let made = parsed.and_then(|parsed| parsed.msl_source(version));
    made.map(|(msl, _)| msl).map_err(|flaw| flaw.of(source))
}
