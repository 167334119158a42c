use std::any::Any;
use std::sync::Arc;

use super::completion::Latest;
use super::counters::Samples;
use super::device::Shared;
use super::list::{List, Object};
use crate::{CommandBuffer, Result, TimeSpan, Timing};

/// A list, and its latest execution.
pub(crate) struct MetalCommandBuffer {
    pub(crate) list: List,
    samples: Samples,
    /// Addresses of the sample buffers.
    pub(crate) sample_objects: Vec<Object>,
    pub(crate) latest: Latest,
    shared: Arc<Shared>,
}

impl MetalCommandBuffer {
    pub(crate) fn new(shared: Arc<Shared>, list: List) -> Result<MetalCommandBuffer> {
        let samples = match &shared.timestamps {
            Some(set) if list.timed_passes > 0 => Samples::new(&shared.device, set, &list)?,
            _ => Samples::default(),
        };
        let sample_objects: Vec<_> = samples.0.iter().map(|buffer| Object(&raw const ***buffer as usize)).collect();
        shared.live(&sample_objects, true);
        Ok(MetalCommandBuffer { list, samples, sample_objects, latest: Latest::default(), shared })
    }
}

impl CommandBuffer for MetalCommandBuffer {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn status(&self) -> Result<()> {
        self.latest.result().fault.map_or(Ok(()), Err)
    }

    fn time(&self) -> Option<TimeSpan> {
        self.latest.result().span.filter(|_| self.list.timing != Timing::Off)
    }

    fn times(&self) -> Vec<Option<TimeSpan>> {
        match self.latest.result().span {
            Some(_) => self.samples.spans(&self.list, &self.shared.calibrate()),
            None => vec![None; self.list.timed.len()],
        }
    }
}

impl Drop for MetalCommandBuffer {
    fn drop(&mut self) {
        self.shared.live(&self.sample_objects, false);
    }
}
