use std::borrow::Cow;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use kovar_hal::{BindingKind, Code, PipelineDesc, ShaderFormat};
use rustc_hash::{FxHashMap, FxHasher};
use smallvec::SmallVec;

use super::cache::{self, Artefact, DiskCache, Translation};
use super::reflect::{ConstantsKind, Reflection};
use super::source::{KernelSource, Specialization};
use super::translate::Flaw;
use super::{Kernel, KernelInner, fit, translate};
use crate::device::Core;
use crate::hazard::Mode;
use crate::stats::{KernelStats, Stats};
use crate::{Error, Result};

/// Name of the entry point of hand-written SPIR-V.
const NATIVE_SPIRV_ENTRY: &str = "main";
/// Name of the entry point of hand-written MSL, where `main` is taken.
const NATIVE_MSL_ENTRY: &str = "main_";

/// A source and the values of its constants. A static source is known by its address, any other by its text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    name: u64,
    source: u64,
    constants: SmallVec<[(u64, u64); 4]>,
    hints: (Option<u32>, bool, &'static [usize]),
}

fn hash(text: &str) -> u64 {
    let mut hasher = FxHasher::default();
    text.hash(&mut hasher);
    hasher.finish()
}

impl Key {
    fn new(source: &KernelSource, constants: Specialization<'_>) -> Key {
        let identity = |text: &Cow<'static, str>| match text {
            Cow::Borrowed(text) => text.as_ptr() as u64,
            Cow::Owned(text) => hash(text),
        };
        let hints = (source.subgroup, source.whole_subgroups, source.unaligned);
        let (name, source) = (identity(&source.name), identity(&source.wgsl));
        let constants = constants.iter().map(|(name, value)| (hash(name), value.to_bits())).collect();
        Key { name, source, constants, hints }
    }
}

/// The kernels of a device, each compiled once, when first asked for.
#[derive(Default)]
pub(crate) struct Registry {
    kernels: RwLock<FxHashMap<Key, Kernel>>,
    /// Held while compiling, so that two threads do not compile the same kernel.
    compiling: Mutex<()>,
    cache: Option<DiskCache>,
}

impl Registry {
    pub(crate) fn new(cache: Option<DiskCache>) -> Registry {
        Registry { cache, ..Registry::default() }
    }

    /// What each kernel has done, the busiest first.
    pub(crate) fn stats(&self) -> Vec<KernelStats> {
        let kernels = self.kernels.read().unwrap_or_else(PoisonError::into_inner);
        let of = |Kernel(kernel): &Kernel| KernelStats {
            name: kernel.name.to_string(),
            constants: kernel.constants.iter().map(|(name, value)| (name.to_string(), *value)).collect(),
            dispatches: kernel.dispatches.load(Ordering::Relaxed),
        };
        let mut stats: Vec<KernelStats> = kernels.values().map(of).collect();
        let values = |a: &KernelStats| a.constants.iter().map(|(_, value)| value.to_bits()).collect::<Vec<_>>();
        stats.sort_by(|a, b| {
            let busier = b.dispatches.cmp(&a.dispatches);
            busier.then_with(|| a.name.cmp(&b.name)).then_with(|| values(a).cmp(&values(b)))
        });
        stats
    }

    /// Writes what the driver compiled to disk.
    pub(crate) fn save(&self, core: &Core) {
        if let Some(cache) = &self.cache {
            cache.save_pipelines(core);
        }
    }

    /// The same, when the device closes.
    pub(crate) fn close(&self, core: &Core) {
        if let Some(cache) = self.cache.as_ref().filter(|cache| cache.saves_at_close(core)) {
            cache.save_pipelines(core);
        }
    }

    pub(crate) fn get(&self, core: &Arc<Core>, source: &KernelSource, constants: Specialization<'_>) -> Result<Kernel> {
        let key = Key::new(source, constants);
        let find = || self.kernels.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(kernel) = find() {
            return Ok(kernel);
        }
        let _compiling = self.compiling.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernel) = find() {
            return Ok(kernel);
        }
        let kernel = compile(core, self.cache.as_ref(), source, constants)?;
        self.kernels.write().unwrap_or_else(PoisonError::into_inner).insert(key, kernel.clone());
        Ok(kernel)
    }
}

/// Translates a kernel, or finds its translation on disk.
fn translate(
    core: &Core,
    cache: Option<&DiskCache>,
    source: &KernelSource,
    constants: Specialization<'_>,
    subgroup: u32,
) -> Result<Artefact, Flaw> {
    let info = core.hal.info();
    let translate = || {
        core.counters.add(&Stats { kernels_translated: 1, ..Stats::default() });
        let translated = translate::parse(&source.wgsl, constants, subgroup)?;
        let code = match cache::target(info.shader, source) {
            ShaderFormat::Spirv(major, minor) => translated.spirv((major, minor))?,
            ShaderFormat::Msl(major, minor) => translated.msl((major, minor))?,
            ShaderFormat::Cpu | ShaderFormat::None => Translation::None,
        };
        Ok(Artefact { reflection: translated.reflection, code })
    };
    match cache {
        Some(cache) => cache.get(core, source, constants, subgroup, translate),
        None => translate(),
    }
}

fn compile(
    core: &Arc<Core>,
    cache: Option<&DiskCache>,
    source: &KernelSource,
    constants: Specialization<'_>,
) -> Result<Kernel> {
    let info = core.hal.info();
    let width = fit::subgroup(source, info)?;
    let Artefact { reflection, code } =
        translate(core, cache, source, constants, width).map_err(|flaw| flaw.of(source))?;
    fit::check(source, &reflection, width, info)?;
    let (code, entry) = match code.into_code() {
        Some(translated) => translated,
        None => own_code(core, source, constants, &reflection)?,
    };
    let mut bindings: Vec<BindingKind> = reflection
        .slots
        .iter()
        .map(|slot| if slot.access == Mode::Write { BindingKind::Write } else { BindingKind::Read })
        .collect();
    let immediate = match reflection.constants {
        ConstantsKind::Uniform { .. } => {
            bindings.push(BindingKind::Uniform);
            0
        }
        ConstantsKind::Immediate { bytes } => bytes,
        ConstantsKind::None => 0,
    };
    // A width is asked for where the kernel wants it, or where it costs nothing: its workgroups are then full subgroups.
    let asked = source.subgroup.is_some() || reflection.workgroup[0].is_multiple_of(width);
    let subgroup = (info.subgroup.selectable && asked).then_some(width);
    let pipeline = core.hal.create_pipeline(&PipelineDesc {
        label: &source.name,
        code,
        entry: &entry,
        bindings: &bindings,
        constants: immediate,
        group_size: reflection.workgroup,
        group_memory: &reflection.workgroup_memory,
        subgroup,
    })?;
    core.counters.add(&Stats { kernels_compiled: 1, ..Stats::default() });
    if let Some(cache) = cache {
        cache.pipeline_made();
    }
    Ok(Kernel(Arc::new(KernelInner {
        core: core.clone(),
        name: source.name.as_ref().into(),
        pipeline,
        native_msl: source.native_msl.is_some() && matches!(info.shader, ShaderFormat::Msl(..)),
        reflection,
        constants: constants.iter().map(|(name, value)| ((*name).into(), *value)).collect(),
        unaligned: if info.shader == ShaderFormat::Cpu { source.unaligned } else { &[] },
        dispatches: AtomicU64::new(0),
    })))
}

/// The code that a kernel brings itself.
fn own_code(
    core: &Core,
    source: &KernelSource,
    constants: Specialization<'_>,
    reflection: &Reflection,
) -> Result<(Code, String)> {
    let info = core.hal.info();
    let no_form = |reason| Error::NoForm { kernel: source.name.to_string(), backend: info.backend, reason };
    let missing = || no_form("it has no native code".into());
    Ok(match info.shader {
        ShaderFormat::Spirv(..) => {
            let words = source.native_spirv.as_ref().ok_or_else(missing)?;
            (Code::Spirv(words.to_vec()), NATIVE_SPIRV_ENTRY.into())
        }
        ShaderFormat::Msl(..) => {
            let source = source.native_msl.as_ref().ok_or_else(missing)?.to_string();
            let constants_index = reflection.slots.len() as u32;
            (Code::Msl { source, constants_index, sizes_index: None, sized: vec![] }, NATIVE_MSL_ENTRY.into())
        }
        ShaderFormat::Cpu => {
            let factory = source.cpu.ok_or_else(|| no_form("add a Rust function with `with_cpu`".into()))?;
            (Code::Cpu(factory(constants).map_err(no_form)?), reflection.entry.clone())
        }
        ShaderFormat::None => (Code::None, reflection.entry.clone()),
    })
}
