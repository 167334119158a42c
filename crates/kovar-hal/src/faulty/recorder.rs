use std::any::Any;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::gate::Gate;
use super::ledger::Handle;
use super::lock;
use super::plan::Call;
use crate::{CommandBuffer, DispatchCommand, Grid, HalError, RawBuffer, Recorder, Result, TimeSpan};

pub(super) struct FaultyRecorder {
    /// Taken by `finish`.
    inner: Option<Box<dyn Recorder>>,
    gate: Arc<Gate>,
    label: String,
    reusable: bool,
    uses: HashSet<Handle>,
}

impl FaultyRecorder {
    pub(super) fn new(inner: Box<dyn Recorder>, gate: Arc<Gate>, label: &str, reusable: bool) -> FaultyRecorder {
        lock(&gate.book.ledger).recorders += 1;
        FaultyRecorder { inner: Some(inner), gate, label: label.into(), reusable, uses: HashSet::new() }
    }

    fn use_range(&mut self, buffer: RawBuffer, offset: u64, len: u64) {
        lock(&self.gate.book.ledger).check_range(buffer, offset, len, &self.label);
        self.uses.insert(Handle::Buffer(buffer.id));
    }

    fn inner(&mut self) -> Option<&mut (dyn Recorder + 'static)> {
        self.inner.as_deref_mut()
    }
}

impl Drop for FaultyRecorder {
    fn drop(&mut self) {
        lock(&self.gate.book.ledger).recorders -= 1;
    }
}

impl Recorder for FaultyRecorder {
    unsafe fn dispatch(&mut self, command: &DispatchCommand<'_>) {
        let pipeline = Handle::Pipeline(command.pipeline.0);
        {
            let mut ledger = lock(&self.gate.book.ledger);
            ledger.check(pipeline, &self.label);
            command.bindings.iter().for_each(|binding| ledger.check_binding(binding, &self.label));
        }
        self.uses.insert(pipeline);
        self.uses.extend(command.bindings.iter().map(|binding| Handle::Buffer(binding.buffer.id)));
        if let Grid::Indirect { buffer, offset } = command.grid {
            self.use_range(buffer, offset, 12);
        }
        // SAFETY: passed on from the caller, here and below.
        self.inner().into_iter().for_each(|inner| unsafe { inner.dispatch(command) });
    }

    unsafe fn copy(&mut self, source: RawBuffer, from: u64, destination: RawBuffer, to: u64, len: u64) {
        self.use_range(source, from, len);
        self.use_range(destination, to, len);
        // SAFETY: as above.
        self.inner().into_iter().for_each(|inner| unsafe { inner.copy(source, from, destination, to, len) });
    }

    unsafe fn fill(&mut self, buffer: RawBuffer, offset: u64, len: u64, word: u32) {
        self.use_range(buffer, offset, len);
        // SAFETY: as above.
        self.inner().into_iter().for_each(|inner| unsafe { inner.fill(buffer, offset, len, word) });
    }

    fn barrier(&mut self) {
        self.inner().into_iter().for_each(|inner| inner.barrier());
    }

    fn push_label(&mut self, label: &str) {
        self.inner().into_iter().for_each(|inner| inner.push_label(label));
    }

    fn pop_label(&mut self) {
        self.inner().into_iter().for_each(|inner| inner.pop_label());
    }

    fn finish(mut self: Box<Self>) -> Result<Arc<dyn CommandBuffer>> {
        self.gate.enter(Call::Finish, &self.label, 0)?;
        let Some(inner) = self.inner.take() else {
            return Err(HalError::Driver { call: "finish", reason: "finished before".into() });
        };
        let inner = inner.finish()?;
        lock(&self.gate.book.ledger).commands += 1;
        Ok(Arc::new(FaultyCommands {
            inner,
            gate: self.gate.clone(),
            label: self.label.clone(),
            reusable: self.reusable,
            uses: Arc::new([std::mem::take(&mut self.uses)]),
            submission: AtomicU64::new(0),
            faults: AtomicBool::new(false),
        }))
    }
}

pub(super) struct FaultyCommands {
    pub(super) inner: Arc<dyn CommandBuffer>,
    gate: Arc<Gate>,
    pub(super) label: String,
    pub(super) reusable: bool,
    pub(super) uses: Arc<[HashSet<Handle>]>,
    /// The last submission that ran them; 0 for none.
    pub(super) submission: AtomicU64,
    /// Their last execution faults.
    pub(super) faults: AtomicBool,
}

impl CommandBuffer for FaultyCommands {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn status(&self) -> Result<()> {
        if self.faults.load(Ordering::Acquire) {
            return Err(HalError::Fault { label: self.label.clone(), reason: "injected".into() });
        }
        self.inner.status()
    }

    fn time(&self) -> Option<TimeSpan> {
        self.inner.time()
    }

    fn times(&self) -> Vec<Option<TimeSpan>> {
        self.inner.times()
    }
}

impl Drop for FaultyCommands {
    fn drop(&mut self) {
        if self.gate.is_in_flight(self.submission.load(Ordering::Acquire)) {
            self.gate.misuse(format!("command buffer {:?} is dropped while it runs", self.label));
        }
        lock(&self.gate.book.ledger).commands -= 1;
    }
}
