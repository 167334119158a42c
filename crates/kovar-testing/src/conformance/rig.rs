//! An open device with helpers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kovar_hal::{
    Binding, BufferDesc, CommandBuffer, Device, DispatchCommand, Grid, HalError, MemoryKind, PipelineDesc, RawBuffer,
    RawEvent, RawPipeline, Recorder, RecorderDesc, Result, SubmitDesc, Timing,
};

use super::kernels::Kernel;

/// Long enough for a slow machine, short enough to fail in.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Resources that tests share, and what they made.
pub struct Rig {
    /// The device.
    pub device: Arc<dyn Device>,
    buffers: Mutex<Vec<RawBuffer>>,
    pipelines: Mutex<Vec<RawPipeline>>,
    events: Mutex<Vec<RawEvent>>,
    done: RawEvent,
    last: AtomicU64,
}

impl Rig {
    /// Helpers for a device.
    pub fn new(device: Arc<dyn Device>) -> Rig {
        let done = device.create_event(0).unwrap();
        Rig {
            device,
            buffers: Mutex::default(),
            pipelines: Mutex::default(),
            events: Mutex::new(vec![done]),
            done,
            last: AtomicU64::new(0),
        }
    }

    /// Destroys everything. The device must have ended all its work.
    pub fn finish(self) {
        self.run(Timing::Off, |_| {});
        // SAFETY: all of it came from the device, is destroyed once, and all submissions have ended.
        unsafe {
            self.buffers.lock().unwrap().drain(..).for_each(|buffer| self.device.destroy_buffer(buffer));
            self.pipelines.lock().unwrap().drain(..).for_each(|pipeline| self.device.destroy_pipeline(pipeline));
            self.events.lock().unwrap().drain(..).for_each(|event| self.device.destroy_event(event));
        }
        crate::assert_valid(self.device.as_ref());
    }

    /// A buffer of so many bytes, zero.
    pub fn buffer_of(&self, size: u64, memory: MemoryKind) -> RawBuffer {
        let buffer = self.device.create_buffer(&BufferDesc { size, memory, label: "test buffer" }).unwrap();
        self.buffers.lock().unwrap().push(buffer);
        buffer
    }

    /// A shared buffer with so many words of zero.
    pub fn zeros(&self, words: usize) -> RawBuffer {
        self.buffer_of(words as u64 * 4, MemoryKind::Shared)
    }

    /// A shared buffer with these words.
    pub fn words(&self, words: &[u32]) -> RawBuffer {
        let buffer = self.zeros(words.len());
        write(buffer, words);
        buffer
    }

    /// An event with this value.
    pub fn event(&self, value: u64) -> RawEvent {
        let event = self.device.create_event(value).unwrap();
        self.events.lock().unwrap().push(event);
        event
    }

    /// A kernel, made.
    pub fn pipeline(&self, kernel: &Kernel) -> RawPipeline {
        self.try_pipeline(kernel, None).unwrap()
    }

    /// The same, with a subgroup width where one is asked for.
    ///
    /// # Errors
    /// Those of the device.
    pub fn try_pipeline(&self, kernel: &Kernel, subgroup: Option<u32>) -> Result<RawPipeline> {
        let (code, entry) = kernel.code(self.device.info().shader);
        self.make(&PipelineDesc {
            label: kernel.name,
            code,
            entry: &entry,
            bindings: kernel.bindings,
            constants: kernel.constants,
            group_size: kernel.group_size,
            group_memory: kernel.group_memory,
            subgroup,
        })
    }

    /// A pipeline.
    ///
    /// # Errors
    /// Those of the device.
    pub fn make(&self, desc: &PipelineDesc<'_>) -> Result<RawPipeline> {
        let pipeline = self.device.create_pipeline(desc)?;
        self.pipelines.lock().unwrap().push(pipeline);
        Ok(pipeline)
    }

    /// Records.
    pub fn record(
        &self,
        timing: Timing,
        reusable: bool,
        body: impl FnOnce(&mut dyn Recorder),
    ) -> Arc<dyn CommandBuffer> {
        let desc = RecorderDesc { label: "test recording", timing, reusable };
        let mut recorder = self.device.create_recorder(&desc).unwrap();
        body(recorder.as_mut());
        recorder.finish().unwrap()
    }

    /// Submits behind everything before and says what value of [`Rig::wait`] tells of its end.
    pub fn submit(&self, commands: &Arc<dyn CommandBuffer>, waits: &[(RawEvent, u64)]) -> u64 {
        let value = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let signals = [(self.done, value)];
        let commands = std::slice::from_ref(commands);
        let desc = SubmitDesc { label: "test submission", commands, waits, signals: &signals };
        // SAFETY: commands came from this device, and a rig destroys resources only when all has ended.
        unsafe { self.device.submit(&desc) }.unwrap();
        value
    }

    /// Waits for a value of [`Rig::submit`]; the status is the recording's.
    pub fn wait(&self, value: u64) {
        // SAFETY: the event lives as long as the rig.
        assert!(unsafe { self.device.wait_event(self.done, value, Some(LIMIT)) }.unwrap(), "the work did not end");
    }

    /// Records, submits and waits.
    pub fn run(&self, timing: Timing, body: impl FnOnce(&mut dyn Recorder)) -> Arc<dyn CommandBuffer> {
        let commands = self.run_anyhow(timing, body);
        commands.status().unwrap();
        commands
    }

    /// As `run`, whatever the status.
    pub fn run_anyhow(&self, timing: Timing, body: impl FnOnce(&mut dyn Recorder)) -> Arc<dyn CommandBuffer> {
        let commands = self.record(timing, false, body);
        let value = self.submit(&commands, &[]);
        self.wait(value);
        commands
    }

    /// Any buffer's whole words, through a copy where the host sees it across a bus or not at all.
    pub fn read(&self, buffer: RawBuffer) -> Vec<u32> {
        if !buffer.host.is_null() && self.device.info().memory.unified {
            return read(buffer);
        }
        let copy = self.buffer_of((buffer.len / 4 * 4).max(1), MemoryKind::Readback);
        // SAFETY: both are alive and have so many bytes, or nothing is copied.
        self.run(Timing::Off, |recorder| unsafe { recorder.copy(buffer, 0, copy, 0, copy.len / 4 * 4) });
        let words = read(copy);
        self.buffers.lock().unwrap().retain(|kept| *kept != copy);
        // SAFETY: the copy has ended.
        unsafe { self.device.destroy_buffer(copy) };
        words
    }
}

/// Records one dispatch of so many workgroups over whole buffers.
pub fn dispatch(
    recorder: &mut dyn Recorder,
    pipeline: RawPipeline,
    buffers: &[RawBuffer],
    constants: &[u32],
    groups: u32,
) {
    let bindings: Vec<Binding> = buffers.iter().map(|b| whole(*b)).collect();
    dispatch_grid(recorder, pipeline, &bindings, constants, Grid::Groups([groups, 1, 1]));
}

/// Records one dispatch.
pub fn dispatch_grid(
    recorder: &mut dyn Recorder,
    pipeline: RawPipeline,
    bindings: &[Binding],
    constants: &[u32],
    grid: Grid,
) {
    let constants: Vec<u8> = constants.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let command =
        DispatchCommand { pipeline, bindings, constants: &constants, grid, group_memory: &[], label: "test dispatch" };
    // SAFETY: the cases keep buffers and pipelines until the end and place their barriers themselves.
    unsafe { recorder.dispatch(&command) };
}

/// All of a buffer.
pub fn whole(buffer: RawBuffer) -> Binding {
    Binding { buffer, offset: 0, len: buffer.len }
}

/// Writes words at the start of a buffer that the host sees.
pub fn write(buffer: RawBuffer, words: &[u32]) {
    assert!(!buffer.host.is_null() && words.len() as u64 * 4 <= buffer.len);
    // SAFETY: the host sees the buffer, which is long enough and not in use by the device.
    unsafe { std::ptr::copy_nonoverlapping(words.as_ptr().cast::<u8>(), buffer.host, words.len() * 4) };
}

/// The whole words of a buffer that the host sees.
pub fn read(buffer: RawBuffer) -> Vec<u32> {
    assert!(!buffer.host.is_null());
    let mut words = vec![0u32; buffer.len as usize / 4];
    // SAFETY: as in `write`.
    unsafe { std::ptr::copy_nonoverlapping(buffer.host, words.as_mut_ptr().cast::<u8>(), words.len() * 4) };
    words
}

/// Raises an event; the value is larger than the present one.
pub fn signal(rig: &Rig, event: RawEvent, to: u64) {
    // SAFETY: the rig keeps the event; values grow.
    unsafe { rig.device.signal_event(event, to) }.unwrap();
}

/// Waits for a value of an event; `false` if the time ran out.
pub fn wait(rig: &Rig, event: RawEvent, at_least: u64, limit: Option<Duration>) -> bool {
    // SAFETY: the rig keeps the event.
    unsafe { rig.device.wait_event(event, at_least, limit) }.unwrap()
}

/// Whether this is a failure of a pipeline with this label.
pub fn is_pipeline_error(result: Result<RawPipeline>, label: &str) -> bool {
    matches!(result, Err(HalError::Pipeline { label: named, .. }) if named == label)
}
