use std::any::Any;
use std::sync::Arc;

use crate::{Binding, CommandBuffer, DispatchCommand, Grid, RawBuffer, RawPipeline, Recorder, Result, TimeSpan};

/// One recorded command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NullCommand {
    /// A kernel with its bindings, see [`NullCommandBuffer::bindings`].
    Dispatch {
        /// The pipeline.
        pipeline: RawPipeline,
        /// Index of the first binding.
        first: u32,
        /// Number of bindings.
        count: u32,
        /// Workgroups, or `None` for an indirect grid.
        groups: Option<[u32; 3]>,
    },
    /// A barrier.
    Barrier,
    /// A copy of so many bytes.
    Copy(u64),
    /// A fill of so many bytes.
    Fill(u64),
}

/// A finished recording of the null device.
#[derive(Debug, Default)]
pub struct NullCommandBuffer {
    commands: Vec<NullCommand>,
    bindings: Vec<Binding>,
    constants: Vec<u8>,
}

impl NullCommandBuffer {
    /// What was recorded, in order.
    pub fn commands(&self) -> &[NullCommand] {
        &self.commands
    }

    /// The bindings of all dispatches, one after the other.
    pub fn bindings(&self) -> &[Binding] {
        &self.bindings
    }

    /// The inline constants of all dispatches, one after the other.
    pub fn constants(&self) -> &[u8] {
        &self.constants
    }
}

impl CommandBuffer for NullCommandBuffer {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn status(&self) -> Result<()> {
        Ok(())
    }

    fn time(&self) -> Option<TimeSpan> {
        None
    }

    fn times(&self) -> Vec<Option<TimeSpan>> {
        Vec::new()
    }
}

#[derive(Default)]
pub(crate) struct NullRecorder(NullCommandBuffer);

impl Recorder for NullRecorder {
    unsafe fn dispatch(&mut self, command: &DispatchCommand<'_>) {
        let groups = match command.grid {
            Grid::Groups(groups) => Some(groups),
            Grid::Indirect { .. } => None,
        };
        self.0.commands.push(NullCommand::Dispatch {
            pipeline: command.pipeline,
            first: self.0.bindings.len() as u32,
            count: command.bindings.len() as u32,
            groups,
        });
        self.0.bindings.extend_from_slice(command.bindings);
        self.0.constants.extend_from_slice(command.constants);
    }

    unsafe fn copy(&mut self, _: RawBuffer, _: u64, _: RawBuffer, _: u64, len: u64) {
        self.0.commands.push(NullCommand::Copy(len));
    }

    unsafe fn fill(&mut self, _: RawBuffer, _: u64, len: u64, _: u32) {
        self.0.commands.push(NullCommand::Fill(len));
    }

    fn barrier(&mut self) {
        self.0.commands.push(NullCommand::Barrier);
    }

    fn push_label(&mut self, _: &str) {}

    fn pop_label(&mut self) {}

    fn finish(self: Box<Self>) -> Result<Arc<dyn CommandBuffer>> {
        Ok(Arc::new(self.0))
    }
}
