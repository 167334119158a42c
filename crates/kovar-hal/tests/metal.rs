//! What only Metal does, on a Mac. What every backend does is in the conformance suite.
//!
//! A machine without an Apple GPU skips these tests and says so; with `metal` in `KOVAR_REQUIRE` it fails instead.

#![cfg(target_vendor = "apple")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::io::Write;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use kovar_hal::{
    Binding, BindingKind, BufferDesc, Code, CommandBuffer, Device, DispatchCommand, Grid, HalError, MemoryKind,
    OpenOptions, PipelineDesc, RawBuffer, RawPipeline, Recorder, RecorderDesc, SubmitDesc, Timing, metal,
};

const LIMIT: Option<Duration> = Some(Duration::from_secs(30));

/// Adds a constant to each of `n` words; `n` comes from the sizes that the backend passes.
const ADD: &str = "#include <metal_stdlib>
using namespace metal;
struct Sizes { uint first; };
kernel void add(device uint* words [[buffer(0)]], constant uint& term [[buffer(1)]], constant Sizes& sizes [[buffer(2)]],
                uint at [[thread_position_in_grid]]) {
    if (at < sizes.first / 4) { words[at] += term; }
}
";

struct Fixture {
    device: Arc<dyn Device>,
    add: RawPipeline,
}

fn open(test: &str) -> Option<Fixture> {
    let adapter = match metal::adapters() {
        Ok(mut adapters) => adapters.remove(0),
        Err(reason) => {
            let required = std::env::var("KOVAR_REQUIRE").unwrap_or_default();
            assert!(!required.split(',').any(|name| name == "metal"), "{test} needs Metal: {reason}");
            // Past the runner's capture, which would hold this back.
            let _ = writeln!(std::io::stderr(), "skipped: {test}: {reason}");
            return None;
        }
    };
    let device = adapter.open(&OpenOptions { validation: true, ..OpenOptions::default() }).unwrap();
    let add = device.create_pipeline(&pipeline(ADD, "add")).unwrap();
    Some(Fixture { device, add })
}

fn pipeline<'a>(source: &str, entry: &'a str) -> PipelineDesc<'a> {
    let source = source.into();
    PipelineDesc {
        label: "add",
        code: Code::Msl { source, constants_index: 1, sizes_index: Some(2), sized: vec![0] },
        entry,
        bindings: &[BindingKind::Write],
        constants: 4,
        group_size: [64, 1, 1],
        group_memory: &[],
        subgroup: None,
    }
}

impl Fixture {
    fn buffer(&self, words: u64, memory: MemoryKind) -> RawBuffer {
        self.device.create_buffer(&BufferDesc { size: words * 4, memory, label: "words" }).unwrap()
    }

    fn record(&self, timing: Timing, write: impl FnOnce(&mut dyn Recorder)) -> Arc<dyn CommandBuffer> {
        let desc = RecorderDesc { label: "test", timing, reusable: true };
        let mut recorder = self.device.create_recorder(&desc).unwrap();
        write(&mut *recorder);
        recorder.finish().unwrap()
    }

    fn add(&self, recorder: &mut dyn Recorder, buffer: RawBuffer, term: u32, grid: Option<Grid>) {
        let groups = (buffer.len / 4).div_ceil(64) as u32;
        let command = DispatchCommand {
            pipeline: self.add,
            bindings: &[Binding { buffer, offset: 0, len: buffer.len }],
            constants: &term.to_ne_bytes(),
            grid: grid.unwrap_or(Grid::Groups([groups, 1, 1])),
            label: "add",
        };
        // SAFETY: the handles live until the test has waited.
        unsafe { recorder.dispatch(&command) }
    }

    /// Submits and waits.
    fn run(&self, commands: &[Arc<dyn CommandBuffer>]) {
        let event = self.device.create_event(0).unwrap();
        let submission = SubmitDesc { label: "test", commands, waits: &[], signals: &[(event, 1)] };
        // SAFETY: all handles live until the wait has returned.
        unsafe {
            self.device.submit(&submission).unwrap();
            assert!(self.device.wait_event(event, 1, LIMIT).unwrap());
            self.device.destroy_event(event);
        }
        commands.iter().for_each(|commands| commands.status().unwrap());
        assert_eq!(self.device.validation_messages(), [] as [String; 0]);
    }
}

fn words(buffer: RawBuffer) -> Vec<u32> {
    let words = NonNull::new(buffer.host).expect("the host sees it").cast::<u32>();
    // SAFETY: the buffer is alive and no submission uses it.
    unsafe { std::slice::from_raw_parts(words.as_ptr(), (buffer.len / 4) as usize) }.to_vec()
}

#[test]
fn passes_of_both_kinds_run_in_order_and_again() {
    let Some(fixture) = open("passes_of_both_kinds_run_in_order_and_again") else { return };
    let private = fixture.buffer(1000, MemoryKind::Device);
    let (grid, result) = (fixture.buffer(3, MemoryKind::Shared), fixture.buffer(1000, MemoryKind::Readback));
    let first = RawBuffer { len: 4, ..grid };
    let commands = fixture.record(Timing::Whole, |recorder| {
        // SAFETY: the buffers live until the test has waited; ranges are within them.
        unsafe {
            recorder.fill(private, 0, 4000, 0x0102_0304);
            recorder.fill(grid, 0, 12, 0);
        }
        recorder.barrier();
        fixture.add(recorder, grid, 1, None);
        fixture.add(recorder, private, 5, None);
        recorder.barrier();
        fixture.add(recorder, first, 15, None);
        recorder.barrier();
        // 16 groups in x, written by the kernel just before.
        fixture.add(recorder, private, 1, Some(Grid::Indirect { buffer: grid, offset: 0 }));
        recorder.barrier();
        // SAFETY: as above.
        unsafe { recorder.copy(private, 0, result, 0, 4000) };
    });
    for _ in 0..3 {
        fixture.run(std::slice::from_ref(&commands));
        assert_eq!(words(grid), [16, 1, 1]);
        assert_eq!(words(result), [0x0102_030a; 1000]);
        assert!(commands.time().is_some_and(|span| span.start < span.end));
    }
}

#[test]
fn new_memory_is_zero() {
    let Some(fixture) = open("new_memory_is_zero") else { return };
    for _ in 0..20 {
        let (private, result) = (fixture.buffer(4099, MemoryKind::Device), fixture.buffer(4099, MemoryKind::Readback));
        assert!(words(result).iter().all(|word| *word == 0));
        let commands = fixture.record(Timing::Off, |recorder| {
            // SAFETY: the buffers live until the test has waited.
            unsafe { recorder.copy(private, 0, result, 0, 4099 * 4) };
            recorder.barrier();
            fixture.add(recorder, private, 0xdead_beef, None);
        });
        fixture.run(&[commands]);
        assert!(words(result).iter().all(|word| *word == 0));
        // SAFETY: nothing uses them any more.
        unsafe {
            fixture.device.destroy_buffer(private);
            fixture.device.destroy_buffer(result);
        }
    }
}

#[test]
fn more_dispatches_are_timed_than_a_sample_buffer_holds() {
    let Some(fixture) = open("more_dispatches_are_timed_than_a_sample_buffer_holds") else { return };
    let buffer = fixture.buffer(64, MemoryKind::Shared);
    let commands = fixture.record(Timing::Dispatches, |recorder| {
        for _ in 0..5000 {
            fixture.add(recorder, buffer, 1, None);
            recorder.barrier();
        }
    });
    fixture.run(std::slice::from_ref(&commands));
    assert_eq!(words(buffer), [5000; 64]);
    let times = commands.times();
    assert_eq!(times.len(), 5000);
    if fixture.device.info().features.timestamp_ns.is_some() {
        let times: Vec<_> = times.into_iter().map(|time| time.expect("each pass was sampled")).collect();
        assert!(times.windows(2).all(|pair| pair[0].start <= pair[1].start), "passes are in order");
        let (whole, slack) = (commands.time().expect("the whole was timed"), 10_000_000);
        assert!(times[0].start + slack >= whole.start && times[4999].end <= whole.end + slack, "the clocks agree");
    }
}

#[test]
fn events_wait_for_the_host() {
    let Some(fixture) = open("events_wait_for_the_host") else { return };
    let (device, buffer) = (&fixture.device, fixture.buffer(64, MemoryKind::Shared));
    let (go, done) = (device.create_event(0).unwrap(), device.create_event(0).unwrap());
    let commands = [fixture.record(Timing::Off, |recorder| fixture.add(recorder, buffer, 1, None))];
    let (waits, signals) = (&[(go, 1)], &[(done, 1)]);
    // SAFETY: all handles live until the last wait has returned.
    unsafe {
        device.submit(&SubmitDesc { label: "held", commands: &commands, waits, signals }).unwrap();
        device.submit(&SubmitDesc { label: "behind", commands: &[], waits: &[], signals: &[(done, 2)] }).unwrap();
        assert!(!device.wait_event(done, 1, Some(Duration::ZERO)).unwrap());
        device.signal_event(go, 1).unwrap();
        assert!(device.wait_event(done, 2, LIMIT).unwrap());
        assert_eq!(device.event_value(done).unwrap(), 2);
    }
    assert_eq!(words(buffer), [1; 64]);
}

unsafe extern "C" {
    fn mmap(at: *mut u8, len: usize, protection: i32, flags: i32, file: i32, offset: i64) -> *mut u8;
}

#[test]
fn mapped_memory_is_used_where_it_lies() {
    let Some(fixture) = open("mapped_memory_is_used_where_it_lies") else { return };
    let len = fixture.device.info().limits.import_alignment * 2;
    // SAFETY: a new mapping (read, write; private, anonymous) that is never unmapped.
    let memory = NonNull::new(unsafe { mmap(std::ptr::null_mut(), len as usize, 3, 0x1002, -1, 0) }).unwrap();
    // SAFETY: whole pages that outlive the buffer.
    let buffer = unsafe { fixture.device.import_buffer(memory, len, "mapped") }.unwrap().expect("Metal imports");
    assert_eq!(buffer.host, memory.as_ptr());
    // SAFETY: the buffer is alive, here and when it is removed.
    unsafe { fixture.device.update_residency(&[buffer], &[]) }.unwrap();
    fixture.run(&[fixture.record(Timing::Off, |recorder| fixture.add(recorder, buffer, 9, None))]);
    assert!(words(buffer).iter().all(|word| *word == 9));
    // SAFETY: as above.
    unsafe { fixture.device.update_residency(&[], &[buffer]) }.unwrap();
}

#[test]
fn pipelines_are_refused_by_name_and_cached() {
    let Some(fixture) = open("pipelines_are_refused_by_name_and_cached") else { return };
    let reason = |source: &str, entry| match fixture.device.create_pipeline(&pipeline(source, entry)) {
        Err(HalError::Pipeline { label, reason }) => (label, reason),
        other => panic!("expected a refusal, not {other:?}"),
    };
    assert_eq!(reason("kernel void add() { no_such_thing(); }", "add").0, "add");
    assert!(reason(ADD, "sub").1.contains("\"add\""), "the kernels that are there are named");
    let bytes = fixture.device.pipeline_cache();
    assert!(!bytes.is_empty());
    fixture.device.load_pipeline_cache(&bytes).unwrap();
    fixture.device.create_pipeline(&pipeline(ADD, "add")).unwrap();
    fixture.device.load_pipeline_cache(b"not an archive").unwrap();
}

#[test]
fn a_capture_that_may_not_be_says_so() {
    let Some(fixture) = open("a_capture_that_may_not_be_says_so") else { return };
    let file = std::env::temp_dir().join(format!("kovar-{}.gputrace", std::process::id()));
    match metal::Capture::start(fixture.device.info(), &file) {
        Ok(capture) => {
            let buffer = fixture.buffer(64, MemoryKind::Shared);
            fixture.run(&[fixture.record(Timing::Off, |recorder| fixture.add(recorder, buffer, 1, None))]);
            drop(capture);
            assert!(file.exists());
            std::fs::remove_dir_all(&file).unwrap();
        }
        Err(error) => assert!(error.to_string().contains("MTL_CAPTURE_ENABLED=1"), "{error}"),
    }
}
