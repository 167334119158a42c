//! Translated kernels and the driver's pipelines, kept on disk for the next start.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use kovar_hal::{Backend, Code, ShaderFormat};
use serde::{Deserialize, Serialize};

use super::reflect::Reflection;
use super::source::{KernelSource, Specialization};
use super::store::{Found, Store, digest};
use crate::device::Core;
use crate::stats::Stats;

/// Version of the translator; a test holds it to the one in use.
const NAGA: &str = "30.0.1";
/// The translator's options are in this code: a change of it makes a change of keys.
const TRANSLATOR: [&str; 3] = [include_str!("translate.rs"), include_str!("reflect.rs"), include_str!("lint.rs")];
const KERNEL: &str = "kernel";
const PIPELINES: &str = "pipelines";

/// What translation makes of a kernel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Artefact {
    pub(super) reflection: Reflection,
    pub(super) code: Translation,
}

/// Code in the form of the device, with the name of its entry point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Translation {
    /// The device takes none, or takes it from elsewhere.
    None,
    Spirv {
        words: Vec<u32>,
        entry: String,
    },
    Msl {
        source: String,
        constants_index: u32,
        sizes_index: Option<u32>,
        sized: Vec<u32>,
        entry: String,
    },
}

impl Translation {
    pub(super) fn into_code(self) -> Option<(Code, String)> {
        match self {
            Translation::None => None,
            Translation::Spirv { words, entry } => Some((Code::Spirv(words), entry)),
            Translation::Msl { source, constants_index, sizes_index, sized, entry } => {
                Some((Code::Msl { source, constants_index, sizes_index, sized }, entry))
            }
        }
    }
}

/// Which form is wanted of the translator; none where a kernel brings its own.
pub(super) fn target(format: ShaderFormat, source: &KernelSource) -> ShaderFormat {
    match format {
        ShaderFormat::Spirv(..) if source.native_spirv.is_some() => ShaderFormat::None,
        ShaderFormat::Msl(..) if source.native_msl.is_some() => ShaderFormat::None,
        ShaderFormat::Cpu => ShaderFormat::None,
        format => format,
    }
}

/// A folder with what earlier starts compiled. What is damaged or foreign is ignored and written anew; what cannot be
/// written is compiled again next time: a cache never makes anything fail.
pub(crate) struct DiskCache {
    store: Store,
    translator: u128,
    /// The driver's pipelines as they were read.
    loaded: Mutex<u128>,
    /// Pipelines were made that may not be on disk.
    grown: AtomicBool,
}

impl DiskCache {
    /// Opens a folder, and gives the driver what it wrote there last time.
    pub(crate) fn open(folder: &Path, core: &Core) -> DiskCache {
        let translator = digest(&[NAGA, TRANSLATOR[0], TRANSLATOR[1], TRANSLATOR[2]].map(str::as_bytes));
        let cache = DiskCache {
            store: Store::open(folder),
            translator,
            loaded: Mutex::new(digest(&[])),
            grown: AtomicBool::new(false),
        };
        cache.load_pipelines(core);
        cache
    }

    /// Everything that translation depends on, in full.
    fn key(
        &self,
        target: ShaderFormat,
        subgroup: u32,
        source: &KernelSource,
        constants: Specialization<'_>,
    ) -> Vec<u8> {
        let values: Vec<String> =
            constants.iter().map(|(name, value)| format!("{name}={:016x}", value.to_bits())).collect();
        let translator = self.translator;
        let head = format!("{translator:032x}\n{target:?}\nSG={subgroup}\n{}\n", values.join("\n"));
        [head.as_bytes(), source.wgsl.as_bytes()].concat()
    }

    /// The translation of a kernel: from disk, else made, and then kept.
    pub(super) fn get<E>(
        &self,
        core: &Core,
        source: &KernelSource,
        constants: Specialization<'_>,
        subgroup: u32,
        translate: impl FnOnce() -> Result<Artefact, E>,
    ) -> Result<Artefact, E> {
        let info = core.hal.info();
        let key = self.key(target(info.shader, source), subgroup, source, constants);
        match self.load(core, &key, KERNEL).and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
            Some(artefact) => {
                core.counters.add(&Stats { cache_hits: 1, ..Stats::default() });
                Ok(artefact)
            }
            None => {
                let artefact = translate()?;
                self.save(core, &key, KERNEL, &serde_json::to_vec(&artefact).unwrap_or_default());
                Ok(artefact)
            }
        }
    }

    /// A pipeline was made.
    pub(super) fn pipeline_made(&self) {
        self.grown.store(true, Ordering::Relaxed);
    }

    fn load(&self, core: &Core, key: &[u8], kind: &str) -> Option<Vec<u8>> {
        match self.store.load(key, kind) {
            Found::Bytes(bytes) => Some(bytes),
            Found::Rejected => {
                core.counters.add(&Stats { cache_rejected: 1, ..Stats::default() });
                None
            }
            Found::Nothing => None,
        }
    }

    fn save(&self, core: &Core, key: &[u8], kind: &str, bytes: &[u8]) {
        if self.store.save(key, kind, bytes).is_err() {
            core.counters.add(&Stats { cache_unwritten: 1, ..Stats::default() });
        }
    }

    fn pipelines_key(core: &Core) -> Vec<u8> {
        let info = core.hal.info();
        format!("pipelines\n{}\n{}\n{}", info.backend, info.name, info.driver).into_bytes()
    }

    fn load_pipelines(&self, core: &Core) {
        let Some(bytes) = self.load(core, &Self::pipelines_key(core), PIPELINES) else { return };
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let found = digest(&[&bytes]);
        if found != *loaded {
            // What the driver does not take it compiles again.
            let _ = core.hal.load_pipeline_cache(&bytes);
            *loaded = found;
        }
    }

    /// Writes the driver's pipelines, together with what another process may have written meanwhile.
    pub(crate) fn save_pipelines(&self, core: &Core) {
        if !self.grown.swap(false, Ordering::Relaxed) {
            return;
        }
        self.load_pipelines(core);
        let bytes = core.hal.pipeline_cache();
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let now = digest(&[&bytes]);
        if !bytes.is_empty() && now != *loaded {
            self.save(core, &Self::pipelines_key(core), PIPELINES, &bytes);
            *loaded = now;
        }
    }

    /// Whether to write when the device closes. Metal has a cache of its own for each program, and compiles again what it
    /// is asked to write.
    pub(crate) fn saves_at_close(&self, core: &Core) -> bool {
        core.hal.info().backend != Backend::Metal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_the_translator_in_use() {
        let lock = include_str!("../../../../Cargo.lock");
        let at = lock.find("name = \"naga\"\n").unwrap();
        let version = lock[at..].lines().nth(1).unwrap();
        assert_eq!(version, format!("version = \"{NAGA}\""), "change NAGA to the version in Cargo.lock");
    }
}
