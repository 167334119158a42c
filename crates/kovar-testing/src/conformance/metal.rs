//! What only Metal does: threadgroup memory by the dispatch, passes of two kinds, sample buffers, memory of a file, archives.

use std::ptr::NonNull;
use std::sync::Arc;

use kovar_hal::{
    Binding, BindingKind, Code, CommandBuffer, DispatchCommand, Grid, HalError, MemoryKind, PipelineDesc, RawBuffer,
    RawPipeline, Recorder, Timing,
};

use super::rig::{Rig, read};

/// Adds a constant to each of `n` words; `n` comes from the sizes that the backend passes.
const ADD: &str = "#include <metal_stdlib>
using namespace metal;
struct Sizes { uint first; };
kernel void add(device uint* words [[buffer(0)]], constant uint& term [[buffer(1)]], constant Sizes& sizes [[buffer(2)]],
                uint at [[thread_position_in_grid]]) {
    if (at < sizes.first / 4) { words[at] += term; }
}
";

struct Fixture<'r> {
    rig: &'r Rig,
    add: RawPipeline,
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

impl Fixture<'_> {
    fn new(rig: &Rig) -> Fixture<'_> {
        Fixture { rig, add: rig.make(&pipeline(ADD, "add")).unwrap() }
    }

    fn buffer(&self, words: u64, memory: MemoryKind) -> RawBuffer {
        self.rig.buffer_of(words * 4, memory)
    }

    fn add(&self, recorder: &mut dyn Recorder, buffer: RawBuffer, term: u32, grid: Option<Grid>) {
        let groups = (buffer.len / 4).div_ceil(64) as u32;
        let command = DispatchCommand {
            pipeline: self.add,
            bindings: &[Binding { buffer, offset: 0, len: buffer.len }],
            constants: &term.to_ne_bytes(),
            grid: grid.unwrap_or(Grid::Groups([groups, 1, 1])),
            group_memory: &[],
            label: "add",
        };
        // SAFETY: the handles live until the check has waited.
        unsafe { recorder.dispatch(&command) }
    }

    /// Submits and waits.
    fn run(&self, commands: &Arc<dyn CommandBuffer>) {
        let value = self.rig.submit(commands, &[]);
        self.rig.wait(value);
        commands.status().unwrap();
    }
}

pub(super) fn passes_of_both_kinds_run_in_order_and_again(rig: &Rig) {
    let fixture = Fixture::new(rig);
    let private = fixture.buffer(1000, MemoryKind::Device);
    let (grid, result) = (fixture.buffer(3, MemoryKind::Shared), fixture.buffer(1000, MemoryKind::Readback));
    let first = RawBuffer { len: 4, ..grid };
    let commands = rig.record(Timing::Whole, true, |recorder| {
        // SAFETY: the buffers live until the check has waited; ranges are within them.
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
        fixture.run(&commands);
        assert_eq!(read(grid), [16, 1, 1]);
        assert_eq!(read(result), [0x0102_030a; 1000]);
        assert!(commands.time().is_some_and(|span| span.start < span.end));
    }
}

pub(super) fn new_memory_is_zero(rig: &Rig) {
    let fixture = Fixture::new(rig);
    for _ in 0..20 {
        let (private, result) = (fixture.buffer(4099, MemoryKind::Device), fixture.buffer(4099, MemoryKind::Readback));
        assert!(read(result).iter().all(|word| *word == 0));
        let commands = rig.record(Timing::Off, true, |recorder| {
            // SAFETY: the buffers live until the check has waited.
            unsafe { recorder.copy(private, 0, result, 0, 4099 * 4) };
            recorder.barrier();
            fixture.add(recorder, private, 0xdead_beef, None);
        });
        fixture.run(&commands);
        assert!(read(result).iter().all(|word| *word == 0));
    }
}

pub(super) fn more_dispatches_are_timed_than_a_sample_buffer_holds(rig: &Rig) {
    let fixture = Fixture::new(rig);
    let buffer = fixture.buffer(64, MemoryKind::Shared);
    let commands = rig.record(Timing::Dispatches, true, |recorder| {
        for _ in 0..5000 {
            fixture.add(recorder, buffer, 1, None);
            recorder.barrier();
        }
    });
    fixture.run(&commands);
    assert_eq!(read(buffer), [5000; 64]);
    let times = commands.times();
    assert_eq!(times.len(), 5000);
    if rig.device.info().features.timestamp_ns.is_some() {
        let times: Vec<_> = times.into_iter().map(|time| time.expect("each pass was sampled")).collect();
        assert!(times.windows(2).all(|pair| pair[0].start <= pair[1].start), "passes are in order");
        let (whole, slack) = (commands.time().expect("the whole was timed"), 10_000_000);
        assert!(times[0].start + slack >= whole.start && times[4999].end <= whole.end + slack, "the clocks agree");
    }
}

unsafe extern "C" {
    fn mmap(at: *mut u8, len: usize, protection: i32, flags: i32, file: i32, offset: i64) -> *mut u8;
}

pub(super) fn mapped_memory_is_used_where_it_lies(rig: &Rig) {
    let fixture = Fixture::new(rig);
    let len = rig.device.info().limits.import_alignment * 2;
    // SAFETY: a new mapping (read, write; private, anonymous) that is never unmapped.
    let memory = NonNull::new(unsafe { mmap(std::ptr::null_mut(), len as usize, 3, 0x1002, -1, 0) }).unwrap();
    // SAFETY: whole pages that outlive the buffer.
    let buffer = unsafe { rig.device.import_buffer(memory, len, "mapped") }.unwrap().expect("Metal imports");
    assert_eq!(buffer.host, memory.as_ptr());
    // SAFETY: the buffer is alive, here and when it is removed.
    unsafe { rig.device.update_residency(&[buffer], &[]) }.unwrap();
    fixture.run(&rig.record(Timing::Off, true, |recorder| fixture.add(recorder, buffer, 9, None)));
    assert!(read(buffer).iter().all(|word| *word == 9));
    // SAFETY: as above.
    unsafe { rig.device.update_residency(&[], &[buffer]) }.unwrap();
}

pub(super) fn pipelines_are_refused_by_name_and_cached(rig: &Rig) {
    rig.make(&pipeline(ADD, "add")).unwrap();
    let reason = |source: &str, entry| match rig.device.create_pipeline(&pipeline(source, entry)) {
        Err(HalError::Pipeline { label, reason }) => (label, reason),
        other => panic!("expected a refusal, not {other:?}"),
    };
    assert_eq!(reason("kernel void add() { no_such_thing(); }", "add").0, "add");
    assert!(reason(ADD, "sub").1.contains("\"add\""), "the kernels that are there are named");
    let bytes = rig.device.pipeline_cache();
    assert!(!bytes.is_empty());
    rig.device.load_pipeline_cache(&bytes).unwrap();
    rig.make(&pipeline(ADD, "add")).unwrap();
    rig.device.load_pipeline_cache(b"not an archive").unwrap();
}

pub(super) fn a_capture_is_written_or_says_why_not(rig: &Rig) {
    let fixture = Fixture::new(rig);
    let file = std::env::temp_dir().join(format!("kovar-{}.gputrace", std::process::id()));
    match rig.device.capture(&file) {
        Ok(capture) => {
            let buffer = fixture.buffer(64, MemoryKind::Shared);
            fixture.run(&rig.record(Timing::Off, false, |recorder| fixture.add(recorder, buffer, 1, None)));
            drop(capture);
            assert!(file.exists());
            std::fs::remove_dir_all(&file).unwrap();
        }
        Err(error) => assert!(error.to_string().contains("MTL_CAPTURE_ENABLED=1"), "{error}"),
    }
}

/// Sums 64 words in threadgroup memory that the dispatch sizes: 64 words, and no more than it needs.
const SUM: &str = "#include <metal_stdlib>
using namespace metal;
kernel void sum(device uint* words [[buffer(0)]], constant uint& term [[buffer(1)]], threadgroup uint* part [[threadgroup(0)]],
                uint at [[thread_position_in_threadgroup]]) {
    part[at] = words[at] + term;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (at == 0) {
        uint sum = 0;
        for (uint i = 0; i < 64; i++) { sum += part[i]; }
        words[0] = sum;
    }
}
";

pub(super) fn threadgroup_memory_is_sized_by_the_dispatch(rig: &Rig) {
    let code = Code::Msl { source: SUM.into(), constants_index: 1, sizes_index: None, sized: vec![] };
    let sum = rig.make(&PipelineDesc { label: "sum", code, ..pipeline(ADD, "sum") }).unwrap();
    let words = rig.words(&(0..64).collect::<Vec<u32>>());
    rig.run(Timing::Off, |recorder| {
        let command = DispatchCommand {
            pipeline: sum,
            bindings: &[Binding { buffer: words, offset: 0, len: words.len }],
            constants: &2u32.to_ne_bytes(),
            grid: Grid::Groups([1, 1, 1]),
            group_memory: &[256],
            label: "sum",
        };
        // SAFETY: the rig keeps pipeline and buffer.
        unsafe { recorder.dispatch(&command) }
    });
    assert_eq!(read(words)[0], 63 * 32 + 128);
}
