use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

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

#[derive(Debug, Default)]
struct Lists {
    commands: Vec<NullCommand>,
    bindings: Vec<Binding>,
    constants: Vec<u8>,
}

/// Empty lists of command buffers that are gone, for the next ones: as a driver keeps the memory of its command pools.
#[derive(Debug, Default)]
pub(super) struct Shelf(Mutex<Vec<Lists>>);

/// Lists that are kept at most.
const KEPT: usize = 4;

/// A finished recording of the null device.
#[derive(Debug)]
pub struct NullCommandBuffer {
    lists: Lists,
    home: Arc<Shelf>,
}

impl NullCommandBuffer {
    /// What was recorded, in order.
    pub fn commands(&self) -> &[NullCommand] {
        &self.lists.commands
    }

    /// The bindings of all dispatches, one after the other.
    pub fn bindings(&self) -> &[Binding] {
        &self.lists.bindings
    }

    /// The inline constants of all dispatches, one after the other.
    pub fn constants(&self) -> &[u8] {
        &self.lists.constants
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

impl Drop for NullCommandBuffer {
    fn drop(&mut self) {
        let mut lists = std::mem::take(&mut self.lists);
        lists.commands.clear();
        lists.bindings.clear();
        lists.constants.clear();
        let mut kept = self.home.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(lists);
        }
    }
}

pub(super) struct NullRecorder(NullCommandBuffer);

impl NullRecorder {
    pub(super) fn new(home: &Arc<Shelf>) -> NullRecorder {
        let lists = home.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        NullRecorder(NullCommandBuffer { lists, home: home.clone() })
    }
}

impl Recorder for NullRecorder {
    unsafe fn dispatch(&mut self, command: &DispatchCommand<'_>) {
        let groups = match command.grid {
            Grid::Groups(groups) => Some(groups),
            Grid::Indirect { .. } => None,
        };
        self.0.lists.commands.push(NullCommand::Dispatch {
            pipeline: command.pipeline,
            first: self.0.lists.bindings.len() as u32,
            count: command.bindings.len() as u32,
            groups,
        });
        self.0.lists.bindings.extend_from_slice(command.bindings);
        self.0.lists.constants.extend_from_slice(command.constants);
    }

    unsafe fn copy(&mut self, _: RawBuffer, _: u64, _: RawBuffer, _: u64, len: u64) {
        self.0.lists.commands.push(NullCommand::Copy(len));
    }

    unsafe fn fill(&mut self, _: RawBuffer, _: u64, len: u64, _: u32) {
        self.0.lists.commands.push(NullCommand::Fill(len));
    }

    fn barrier(&mut self) {
        self.0.lists.commands.push(NullCommand::Barrier);
    }

    fn push_label(&mut self, _: &str) {}

    fn pop_label(&mut self) {}

    fn finish(self: Box<Self>) -> Result<Arc<dyn CommandBuffer>> {
        Ok(Arc::new(self.0))
    }
}
