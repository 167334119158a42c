//! A profile that nobody asked for costs nothing: this binary counts what is allocated.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::{AXPY, AxpyParams, null};
use kovar::profile::{Cost, Profiler};
use kovar::{
    Buffer, CommandEncoder, DType, Device, Dispatch, EncoderOptions, ExecutableOptions, Graph, Kernel, Timing,
};

thread_local! {
    /// Allocations of this thread; those of the test's own threads do not count.
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

fn one_more() {
    // The thread may be ending.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        one_more();
        // SAFETY: the caller's promise about `layout` is the one that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: `ptr` came from `System` by way of `alloc` or `realloc`, with this layout.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        one_more();
        // SAFETY: `ptr` came from `System` with this layout, and `size` is the caller's promise.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = COUNT.get();
    let result = work();
    (COUNT.get() - before, result)
}

struct Rig {
    device: Device,
    kernel: Kernel,
    buffers: Vec<Buffer>,
}

impl Rig {
    fn new() -> Rig {
        let device = null();
        let kernel = device.kernel(&AXPY, &[]).unwrap();
        let buffers = (0..8).map(|_| device.buffer(DType::F32, &[64]).unwrap()).collect();
        Rig { device, kernel, buffers }
    }

    fn dispatch(&self, encoder: &mut CommandEncoder, number: usize) -> kovar::Result<()> {
        let (x, y) = (&self.buffers[number % 8], &self.buffers[(number + 3) % 8]);
        let (params, cost) = (AxpyParams { n: 64, a: 1.0 }, Cost::of_operations(128));
        let dispatch = Dispatch::new(&self.kernel).bind(0, x).bind(1, y).constants(&params).groups([1, 1, 1]);
        encoder.dispatch(dispatch.label("step").cost(&cost))
    }

    /// Allocations of so many dispatches.
    fn recording(&self, timing: Timing, dispatches: usize) -> usize {
        let options = EncoderOptions { timing, ..EncoderOptions::default() };
        let mut encoder = self.device.encoder_with(options).unwrap();
        allocations(|| (0..dispatches).for_each(|number| self.dispatch(&mut encoder, number).unwrap())).0
    }

    /// Allocations of one submission of a captured step, once it has run a few times.
    fn replay(&self, nodes: usize) -> usize {
        let graph = Graph::capture(&self.device, "step", |encoder| {
            (0..nodes).try_for_each(|number| self.dispatch(encoder, number))
        });
        let mut step = graph.unwrap().compile(&ExecutableOptions::default()).unwrap();
        (0..4).for_each(|_| drop(step.submit().unwrap().wait().unwrap()));
        allocations(|| step.submit().unwrap().wait().unwrap()).0
    }
}

#[test]
fn a_dispatch_that_is_not_timed_allocates_nothing() {
    let rig = Rig::new();
    for timing in [Timing::Off, Timing::Whole] {
        // Lists of the first recording grow by doubling, and the device keeps them for the next.
        let (first, next) = (rig.recording(timing, 8_000), rig.recording(timing, 8_000));
        assert!(first < 100, "{timing:?}: {first} allocations for 8000 dispatches");
        assert_eq!(next, 0, "{timing:?}: allocations of as many in the same lists");
    }
    // The count sees those of a profile.
    assert!(rig.recording(Timing::Dispatches, 1_000) >= 1_000);
}

#[test]
fn a_replay_that_nobody_profiles_allocates_as_if_profiles_did_not_exist() {
    let rig = Rig::new();
    let (few, many) = (rig.replay(10), rig.replay(1_000));
    assert_eq!(few, many, "allocations of a replay depend on its commands");
    let profiler = Profiler::attach(&rig.device).unwrap();
    assert!(rig.replay(10) > few, "a profiler keeps what it is told");
    drop(profiler);
    assert_eq!(rig.replay(10), few, "a profiler that is gone leaves nothing behind");
}
