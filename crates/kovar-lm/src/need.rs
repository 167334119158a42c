//! What a model needs of a device's memory, before any of it is taken.

use std::path::Path;

use kovar::{Backend, Device, DeviceOptions, MemoryNeed};
use kovar_weights::ModelDir;

use crate::cache::Cache;
use crate::workspace::{HeadRows, Rows};
use crate::{Config, Model, Result, SessionOptions};

impl Model {
    /// What the model of a folder needs with one session: all its tensors, the cache as it begins (it grows with the text),
    /// and the buffers that steps work in. A captured step has some rows of scratch more. Ask
    /// [`Device::admit`](kovar::Device::admit) whether that fits; loading does so by itself, with default options.
    ///
    /// # Errors
    /// What is wrong with the folder, [`LmError`](crate::LmError) says it in one line.
    pub fn memory_need(path: impl AsRef<Path>, options: &SessionOptions) -> Result<MemoryNeed> {
        let dir = ModelDir::open(path)?;
        of(&dir, &Config::from_json(dir.path(), dir.config())?, options)
    }
}

pub(crate) fn of(dir: &ModelDir, config: &Config, options: &SessionOptions) -> Result<MemoryNeed> {
    // The buffers themselves, made where nobody touches them: they cannot differ from those to come.
    let null = Device::open(&DeviceOptions::of(Backend::Null))?;
    let limit = options.limit(config);
    let _cache = Cache::new(&null, config, limit)?;
    let cache = null.memory_used();
    let _scratch = (Rows::new(&null, config, options.chunk.min(limit))?, HeadRows::new(&null, config, 1)?);
    Ok(MemoryNeed { weights: dir.total_bytes(), cache, scratch: null.memory_used() - cache })
}
