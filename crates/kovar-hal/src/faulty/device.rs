use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::gate::{Gate, Passage};
use super::ledger::Handle;
use super::lock;
use super::plan::{Call, Failure};
use super::recorder::{FaultyCommands, FaultyRecorder};
use crate::{
    BufferDesc, ClockPair, Device, DeviceInfo, HalError, PipelineDesc, RawBuffer, RawEvent, RawPipeline, Recorder,
    RecorderDesc, Result, SubmitDesc,
};

pub(super) struct FaultyDevice {
    gate: Arc<Gate>,
}

impl FaultyDevice {
    pub(super) fn new(gate: Arc<Gate>) -> FaultyDevice {
        FaultyDevice { gate }
    }

    fn inner(&self) -> &dyn Device {
        self.gate.inner.as_ref()
    }

    fn born(&self, handle: Handle, label: &str, bytes: u64) {
        lock(&self.gate.book.ledger).born(handle, label, bytes);
    }

    /// Whether a handle may be destroyed: one that is not alive must not reach the wrapped device.
    fn dies(&self, handle: Handle) -> bool {
        self.gate.check_idle(handle);
        lock(&self.gate.book.ledger).died(handle)
    }

    fn check_event(&self, event: RawEvent, what: &str) {
        lock(&self.gate.book.ledger).check(Handle::Event(event.0), what);
    }

    /// What of a submission breaks the contract.
    fn check_submission(&self, desc: &SubmitDesc<'_>, commands: &[&FaultyCommands]) {
        for (event, _) in desc.waits.iter().chain(desc.signals) {
            self.check_event(*event, desc.label);
        }
        for commands in commands {
            let last = commands.submission.load(Ordering::Acquire);
            if last > 0 && !commands.reusable {
                self.gate.misuse(format!("{:?} is submitted again, and was not recorded as reusable", commands.label));
            }
            if self.gate.is_in_flight(last) {
                self.gate.misuse(format!("{:?} is submitted while it runs", commands.label));
            }
            let mut ledger = lock(&self.gate.book.ledger);
            commands.uses.iter().flatten().for_each(|handle| ledger.check(*handle, &commands.label));
        }
    }
}

impl Drop for FaultyDevice {
    fn drop(&mut self) {
        self.gate.close();
    }
}

impl Device for FaultyDevice {
    fn info(&self) -> &DeviceInfo {
        self.inner().info()
    }

    fn memory_left(&self) -> Option<u64> {
        self.inner().memory_left()
    }

    fn create_buffer(&self, desc: &BufferDesc<'_>) -> Result<RawBuffer> {
        self.gate.enter(Call::CreateBuffer, desc.label, desc.size)?;
        let buffer = self.inner().create_buffer(desc)?;
        self.born(Handle::Buffer(buffer.id), desc.label, desc.size);
        Ok(buffer)
    }

    unsafe fn import_buffer(&self, memory: NonNull<u8>, len: u64, label: &str) -> Result<Option<RawBuffer>> {
        self.gate.enter(Call::ImportBuffer, label, len)?;
        // SAFETY: passed on from the caller, here and below.
        let buffer = unsafe { self.inner().import_buffer(memory, len, label) }?;
        if let Some(buffer) = buffer {
            self.born(Handle::Buffer(buffer.id), label, len);
        }
        Ok(buffer)
    }

    unsafe fn destroy_buffer(&self, buffer: RawBuffer) {
        if self.dies(Handle::Buffer(buffer.id)) {
            // SAFETY: as above.
            unsafe { self.inner().destroy_buffer(buffer) }
        }
    }

    unsafe fn update_residency(&self, add: &[RawBuffer], remove: &[RawBuffer]) -> Result<()> {
        self.gate.enter(Call::UpdateResidency, "residency", 0)?;
        for buffer in add.iter().chain(remove) {
            lock(&self.gate.book.ledger).check(Handle::Buffer(buffer.id), "update_residency");
        }
        // SAFETY: as above.
        unsafe { self.inner().update_residency(add, remove) }
    }

    fn create_pipeline(&self, desc: &PipelineDesc<'_>) -> Result<RawPipeline> {
        self.gate.enter(Call::CreatePipeline, desc.label, 0)?;
        let pipeline = self.inner().create_pipeline(desc)?;
        self.born(Handle::Pipeline(pipeline.0), desc.label, 0);
        Ok(pipeline)
    }

    unsafe fn destroy_pipeline(&self, pipeline: RawPipeline) {
        if self.dies(Handle::Pipeline(pipeline.0)) {
            // SAFETY: as above.
            unsafe { self.inner().destroy_pipeline(pipeline) }
        }
    }

    fn pipeline_cache(&self) -> Vec<u8> {
        self.inner().pipeline_cache()
    }

    fn load_pipeline_cache(&self, bytes: &[u8]) -> Result<()> {
        self.gate.enter(Call::LoadPipelineCache, "pipeline cache", bytes.len() as u64)?;
        self.inner().load_pipeline_cache(bytes)
    }

    fn create_event(&self, value: u64) -> Result<RawEvent> {
        self.gate.enter(Call::CreateEvent, "event", 0)?;
        let event = self.inner().create_event(value)?;
        self.born(Handle::Event(event.0), "event", 0);
        Ok(event)
    }

    unsafe fn destroy_event(&self, event: RawEvent) {
        if self.dies(Handle::Event(event.0)) {
            // SAFETY: as above.
            unsafe { self.inner().destroy_event(event) }
        }
    }

    unsafe fn event_value(&self, event: RawEvent) -> Result<u64> {
        self.gate.enter(Call::EventValue, "event", 0)?;
        self.check_event(event, "event_value");
        // SAFETY: as above.
        unsafe { self.inner().event_value(event) }
    }

    unsafe fn signal_event(&self, event: RawEvent, value: u64) -> Result<()> {
        self.gate.enter(Call::SignalEvent, "event", 0)?;
        self.check_event(event, "signal_event");
        // SAFETY: as above.
        unsafe { self.inner().signal_event(event, value) }
    }

    unsafe fn wait_event(&self, event: RawEvent, value: u64, timeout: Option<Duration>) -> Result<bool> {
        self.gate.enter(Call::WaitEvent, "event", 0)?;
        self.check_event(event, "wait_event");
        self.gate.wait(event, value, timeout)
    }

    fn create_recorder(&self, desc: &RecorderDesc<'_>) -> Result<Box<dyn Recorder>> {
        self.gate.enter(Call::CreateRecorder, desc.label, 0)?;
        let inner = self.inner().create_recorder(desc)?;
        Ok(Box::new(FaultyRecorder::new(inner, self.gate.clone(), desc.label, desc.reusable)))
    }

    unsafe fn submit(&self, desc: &SubmitDesc<'_>) -> Result<()> {
        let failure = self.gate.enter(Call::Submit, desc.label, 0)?;
        let ours: Option<Vec<&FaultyCommands>> =
            desc.commands.iter().map(|commands| commands.as_any().downcast_ref()).collect();
        let Some(ours) = ours else {
            let reason = "a command buffer of another device".into();
            return Err(HalError::Driver { call: "submit", reason });
        };
        self.check_submission(desc, &ours);
        let passage = Passage {
            label: desc.label.into(),
            number: 0,
            commands: ours.iter().map(|commands| commands.inner.clone()).collect(),
            waits: desc.waits.to_vec(),
            signals: desc.signals.to_vec(),
            uses: ours.iter().flat_map(|commands| commands.uses.iter().cloned()).collect(),
        };
        // Before the device runs them: a caller that sees the end sees the fault.
        let before: Vec<bool> = ours.iter().map(|commands| commands.faults.load(Ordering::Acquire)).collect();
        let faults = failure == Some(Failure::Fault);
        ours.iter().for_each(|commands| commands.faults.store(faults, Ordering::Release));
        match self.gate.submit(passage, failure == Some(Failure::Hang)) {
            Ok(number) => {
                ours.iter().for_each(|commands| commands.submission.store(number, Ordering::Release));
                Ok(())
            }
            Err(error) => {
                ours.iter().zip(before).for_each(|(commands, was)| commands.faults.store(was, Ordering::Release));
                Err(error)
            }
        }
    }

    fn clocks(&self) -> Option<ClockPair> {
        self.inner().clocks()
    }

    fn validation_messages(&self) -> Vec<String> {
        self.inner().validation_messages()
    }

    fn capture(&self, file: &Path) -> Result<Box<dyn Send + Sync>> {
        self.inner().capture(file)
    }
}
