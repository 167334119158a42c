//! An open device with helpers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kovar_hal::faulty::{Faulty, Live};
use kovar_hal::{
    Adapter, Backend, Binding, BufferDesc, CommandBuffer, CpuChecks, CpuSchedule, Device, DispatchCommand, Grid,
    HalError, MemoryKind, OpenOptions, PipelineDesc, RawBuffer, RawEvent, RawPipeline, Recorder, RecorderDesc, Result,
    SubmitDesc, Timing,
};
use kovar_testing::{Subject, subjects};

use crate::kernels::Kernel;

/// Long enough for a slow machine, short enough to fail in.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Runs a case on every device, then looks whether the device still works and what validation says.
pub fn each(test: &str, case: impl Fn(&Rig)) {
    for subject in subjects(test) {
        with(&subject, &case);
    }
}

/// Runs a case on the devices of one backend.
pub fn each_of(test: &str, backend: Backend, case: impl Fn(&Rig)) {
    for subject in subjects(test).iter().filter(|subject| subject.adapter.info().backend == backend) {
        with(subject, &case);
    }
}

fn with(subject: &Subject, case: impl Fn(&Rig)) {
    println!("--- {} ({})", subject.name, subject.adapter.info().name);
    run(subject.open(), &case);
    if subject.adapter.info().backend == Backend::Cpu {
        // The CPU has more than one way through: a single worker, more workers than cores, a chosen order.
        for (threads, schedule) in
            [(Some(1), CpuSchedule::Parallel), (Some(7), CpuSchedule::Parallel), (None, CpuSchedule::Shuffled(1))]
        {
            println!("--- {}, threads {threads:?}, {schedule:?}", subject.name);
            run(subject.open_with(&OpenOptions { threads, schedule, ..OpenOptions::default() }), &case);
        }
        println!("--- {}, watched for races, through the wrapper that injects faults", subject.name);
        let (adapter, faults) = Faulty::new(kovar_hal::cpu::adapter());
        let checks = CpuChecks { races: true };
        run(adapter.open(&OpenOptions { checks, ..OpenOptions::default() }).unwrap(), &case);
        assert_eq!((faults.live(), faults.misuse()), (Live::default(), vec![]));
    }
}

fn run(device: Arc<dyn Device>, case: impl Fn(&Rig)) {
    let rig = Rig::new(device);
    case(&rig);
    rig.finish();
}

pub struct Rig {
    pub device: Arc<dyn Device>,
    buffers: Mutex<Vec<RawBuffer>>,
    pipelines: Mutex<Vec<RawPipeline>>,
    events: Mutex<Vec<RawEvent>>,
    done: RawEvent,
    last: AtomicU64,
}

impl Rig {
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
        kovar_testing::assert_valid(self.device.as_ref());
    }

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

    pub fn event(&self, value: u64) -> RawEvent {
        let event = self.device.create_event(value).unwrap();
        self.events.lock().unwrap().push(event);
        event
    }

    pub fn pipeline(&self, kernel: &Kernel) -> RawPipeline {
        self.try_pipeline(kernel, None).unwrap()
    }

    pub fn try_pipeline(&self, kernel: &Kernel, subgroup: Option<u32>) -> Result<RawPipeline> {
        let (code, entry) = kernel.code(self.device.info().shader);
        let pipeline = self.device.create_pipeline(&PipelineDesc {
            label: kernel.name,
            code,
            entry: &entry,
            bindings: kernel.bindings,
            constants: kernel.constants,
            group_size: kernel.group_size,
            group_memory: kernel.group_memory,
            subgroup,
        })?;
        self.pipelines.lock().unwrap().push(pipeline);
        Ok(pipeline)
    }

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

pub fn dispatch_grid(
    recorder: &mut dyn Recorder,
    pipeline: RawPipeline,
    bindings: &[Binding],
    constants: &[u32],
    grid: Grid,
) {
    let constants: Vec<u8> = constants.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let command = DispatchCommand { pipeline, bindings, constants: &constants, grid, label: "test dispatch" };
    // SAFETY: the cases keep buffers and pipelines until the end and place their barriers themselves.
    unsafe { recorder.dispatch(&command) };
}

pub fn whole(buffer: RawBuffer) -> Binding {
    Binding { buffer, offset: 0, len: buffer.len }
}

pub fn write(buffer: RawBuffer, words: &[u32]) {
    assert!(!buffer.host.is_null() && words.len() as u64 * 4 <= buffer.len);
    // SAFETY: the host sees the buffer, which is long enough and not in use by the device.
    unsafe { std::ptr::copy_nonoverlapping(words.as_ptr().cast::<u8>(), buffer.host, words.len() * 4) };
}

pub fn read(buffer: RawBuffer) -> Vec<u32> {
    assert!(!buffer.host.is_null());
    let mut words = vec![0u32; buffer.len as usize / 4];
    // SAFETY: as in `write`.
    unsafe { std::ptr::copy_nonoverlapping(buffer.host, words.as_mut_ptr().cast::<u8>(), words.len() * 4) };
    words
}

/// Whether this is a failure of a pipeline with this label.
pub fn is_pipeline_error(result: Result<RawPipeline>, label: &str) -> bool {
    matches!(result, Err(HalError::Pipeline { label: named, .. }) if named == label)
}
