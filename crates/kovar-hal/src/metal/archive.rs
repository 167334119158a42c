use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use objc2::rc::{Retained, autoreleasepool};
use objc2_foundation::{NSArray, NSString, NSURL};
use objc2_metal::{MTLBinaryArchive, MTLBinaryArchiveDescriptor, MTLComputePipelineDescriptor, MTLDevice};

use super::folder::Folder;
use super::list::Object;
use super::object::{Metal, Threaded};
use crate::{HalError, Result};

/// Name of an archive in its folder.
const FILE: &str = "pipelines.metallib";

/// The pipeline cache: binary archives, which Metal reads from files alone.
///
/// Metal has a cache of its own for every program, which needs none of this. Archives are for taking compiled code
/// elsewhere: nothing is written into one before it is asked for, because Metal compiles again what it writes.
#[derive(Default)]
pub(crate) struct Archives {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    loaded: Vec<Loaded>,
    /// Descriptors of living pipelines, by pipeline state.
    made: HashMap<Object, Threaded<Retained<MTLComputePipelineDescriptor>>>,
}

/// Metal may read the file for as long as the archive lives.
struct Loaded {
    archive: Threaded<Metal<dyn MTLBinaryArchive>>,
    _folder: Folder,
}

/// In a pool.
fn url(folder: &Folder) -> Retained<NSURL> {
    NSURL::fileURLWithPath(&NSString::from_str(&folder.file(FILE).to_string_lossy()))
}

impl Archives {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a pipeline that is about to be made look into the loaded archives. In a pool.
    pub(crate) fn offer(&self, desc: &MTLComputePipelineDescriptor) {
        let state = self.lock();
        if !state.loaded.is_empty() {
            let archives: Vec<_> = state.loaded.iter().map(|loaded| loaded.archive.0.clone()).collect();
            desc.setBinaryArchives(Some(&NSArray::from_retained_slice(&archives)));
        }
    }

    /// Remembers how a pipeline was made.
    pub(crate) fn made(&self, pipeline: Object, desc: Retained<MTLComputePipelineDescriptor>) {
        self.lock().made.insert(pipeline, Threaded(desc));
    }

    /// Forgets a pipeline that is destroyed.
    pub(crate) fn gone(&self, pipeline: Object) {
        self.lock().made.remove(&pipeline);
    }

    /// Reads an archive. Metal refuses one of another device or system, which then has no effect.
    pub(crate) fn load(&self, device: &Metal<dyn MTLDevice>, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let failed =
            |error: std::io::Error| HalError::Driver { call: "loading the pipeline cache", reason: error.to_string() };
        let folder = Folder::new().map_err(failed)?;
        std::fs::write(folder.file(FILE), bytes).map_err(failed)?;
        autoreleasepool(|_| {
            let desc = MTLBinaryArchiveDescriptor::new();
            desc.setUrl(Some(&url(&folder)));
            if let Ok(archive) = device.newBinaryArchiveWithDescriptor_error(&desc) {
                self.lock().loaded.push(Loaded { archive: Threaded(archive), _folder: folder });
            }
        });
        Ok(())
    }

    /// Writes the living pipelines. Empty if there are none or Metal cannot.
    pub(crate) fn bytes(&self, device: &Metal<dyn MTLDevice>) -> Vec<u8> {
        let state = self.lock();
        if state.made.is_empty() {
            return Vec::new();
        }
        autoreleasepool(|_| {
            let archive = device.newBinaryArchiveWithDescriptor_error(&MTLBinaryArchiveDescriptor::new()).ok()?;
            for desc in state.made.values() {
                archive.addComputePipelineFunctionsWithDescriptor_error(desc).ok()?;
            }
            let folder = Folder::new().ok()?;
            archive.serializeToURL_error(&url(&folder)).ok()?;
            std::fs::read(folder.file(FILE)).ok()
        })
        .unwrap_or_default()
    }
}
