//! Tests of the portable part: what is decided about Metal, without Metal.

mod decisions;
mod rules;
mod source;

use std::collections::HashSet;

use super::call::Call;
use super::list::{List, Object, PipelineRecord};
use super::recorder::ListRecorder;
use super::script::{self, Plan};
use crate::{Binding, DispatchCommand, Grid, HalError, RawBuffer, RawPipeline, Recorder, RecorderDesc, Timing};

/// Objects that a test names by number. Buffers are 0x100.., samples 0x200.., events 0x300..
const SCRATCH: Object = Object(0x1ff);
const LEN: u64 = 1 << 16;

fn buffer(number: usize) -> RawBuffer {
    RawBuffer { id: 0x100 + number, host: std::ptr::null_mut(), len: LEN }
}

/// Three pipelines: one with everything, one with other indices, and the fill kernel's shape.
struct Pipelines(Vec<PipelineRecord>);

impl Pipelines {
    fn new() -> Pipelines {
        let record = |state, constants_index, sizes_index, sized: &[u32], group_memory: &[u32]| PipelineRecord {
            state: Object(state),
            group_size: [32, 2, 1],
            constants_index,
            sizes_index,
            sized: sized.to_vec(),
            group_memory: group_memory.to_vec(),
        };
        Pipelines(vec![
            record(0x10, 3, Some(4), &[0, 2], &[1024, 16]),
            record(0x11, 2, None, &[], &[512]),
            record(0x12, 1, None, &[], &[]),
        ])
    }

    fn raw(&self, number: usize) -> RawPipeline {
        RawPipeline(&raw const self.0[number] as usize)
    }

    fn record(&self, timing: Timing, write: impl FnOnce(&mut dyn Recorder)) -> List {
        let desc = RecorderDesc { label: "step", timing, reusable: true };
        let finish = Box::new(|_: List| Err(HalError::Driver { call: "finish", reason: "not in these tests".into() }));
        let mut recorder = ListRecorder::new(&desc, self.raw(2), finish);
        write(&mut recorder);
        recorder.into_list()
    }
}

fn bind(number: usize, offset: u64) -> Binding {
    Binding { buffer: buffer(number), offset, len: LEN - offset }
}

/// A dispatch of a pipeline of [`Pipelines`].
fn dispatch(recorder: &mut dyn Recorder, pipeline: RawPipeline, bindings: &[Binding], grid: Grid) {
    let command = DispatchCommand { pipeline, bindings, constants: &[7; 8], grid, group_memory: &[], label: "kernel" };
    // SAFETY: the pipeline is alive in the test; buffers are numbers that nothing dereferences.
    unsafe { recorder.dispatch(&command) }
}

fn copy(recorder: &mut dyn Recorder, from: usize, to: usize, len: u64) {
    // SAFETY: the buffers are numbers that nothing dereferences.
    unsafe { recorder.copy(buffer(from), 0, buffer(to), 64, len) }
}

fn fill(recorder: &mut dyn Recorder, to: usize, word: u32) {
    // SAFETY: the buffers are numbers that nothing dereferences.
    unsafe { recorder.fill(buffer(to), 16, 4096, word) }
}

/// The calls of a command buffer that waits for event 0 and signals event 1.
fn calls<'a>(list: &'a List, samples: &'a [Object]) -> Vec<Call<'a>> {
    let (waits, signals) = (&WAITS, &SIGNALS);
    let mut calls = Vec::new();
    script::write(&Plan { list: Some(list), waits, signals, labels: true, samples, scratch: SCRATCH }, &mut calls);
    calls
}

static WAITS: [(Object, u64); 1] = [(Object(0x300), 5)];
static SIGNALS: [(Object, u64); 1] = [(Object(0x301), 6)];

/// Every object that these tests name.
fn kept() -> HashSet<Object> {
    (0x10..0x400).map(Object).collect()
}
