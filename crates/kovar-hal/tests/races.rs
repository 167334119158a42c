//! The race detector of the CPU backend: what it must find, and what it must leave alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ops::Range;
use std::sync::Arc;

use kovar_hal::cpu::{CpuDispatch, CpuKernel};
use kovar_hal::{
    Binding, BindingKind, BufferDesc, Code, CpuChecks, CpuSchedule, Device, DispatchCommand, Grid, HalError,
    MemoryKind, OpenOptions, PipelineDesc, Race, RacePlace, RawBuffer, RawPipeline, Recorder, RecorderDesc, SubmitDesc,
    Timing,
};

/// Elements of a buffer, of a task.
const N: usize = 64;
const PART: usize = 16;

/// A kernel made of a closure: slot 0 is read, slot 1 written, four tasks.
struct Closure<F>(F);

impl<F: Fn(&CpuDispatch<'_>, usize) + Send + Sync> CpuKernel for Closure<F> {
    fn tasks(&self, _: &CpuDispatch<'_>) -> u32 {
        (N / PART) as u32
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, tasks: Range<u32>) {
        tasks.for_each(|task| (self.0)(dispatch, task as usize));
    }
}

/// The elements of a task.
fn own(task: usize) -> Range<usize> {
    task * PART..(task + 1) * PART
}

fn write(dispatch: &CpuDispatch<'_>, range: Range<usize>, value: u32) {
    // SAFETY: one thread does all the work, and no other slice of slot 1 lives.
    unsafe { dispatch.slice_mut::<u32>(1, range) }.fill(value);
}

struct Rig {
    device: Arc<dyn Device>,
}

impl Rig {
    fn new(schedule: CpuSchedule) -> Rig {
        let options = OpenOptions { schedule, checks: CpuChecks { races: true }, ..OpenOptions::default() };
        Rig { device: kovar_hal::cpu::adapter().open(&options).unwrap() }
    }

    fn buffer(&self) -> RawBuffer {
        let desc = BufferDesc { size: 4 * N as u64, memory: MemoryKind::Shared, label: "x" };
        self.device.create_buffer(&desc).unwrap()
    }

    fn kernel(&self, label: &str, run: impl Fn(&CpuDispatch<'_>, usize) + Send + Sync + 'static) -> RawPipeline {
        let desc = PipelineDesc {
            label,
            code: Code::Cpu(Arc::new(Closure(run))),
            entry: "main",
            bindings: &[BindingKind::Read, BindingKind::Write],
            constants: 0,
            group_size: [1; 3],
            group_memory: &[],
            subgroup: None,
        };
        self.device.create_pipeline(&desc).unwrap()
    }

    /// Runs a recording, in a few orders, and gives back how it ended; the same way in all of them.
    fn run(build: impl Fn(&Rig, &mut dyn Recorder)) -> Result<(), HalError> {
        let schedules = [CpuSchedule::Parallel, CpuSchedule::Shuffled(1), CpuSchedule::Shuffled(2)];
        let ends = schedules.map(|schedule| Rig::new(schedule).run_once(&build));
        assert!(ends.iter().all(|end| *end == ends[0]), "{ends:?}");
        ends[0].clone()
    }

    fn run_once(&self, build: &impl Fn(&Rig, &mut dyn Recorder)) -> Result<(), HalError> {
        let desc = RecorderDesc { label: "step", timing: Timing::Off, reusable: true };
        let mut recorder = self.device.create_recorder(&desc).unwrap();
        build(self, recorder.as_mut());
        let commands = recorder.finish().unwrap();
        let event = self.device.create_event(0).unwrap();
        let mut ends = Vec::new();
        for value in 1..=2 {
            let desc = SubmitDesc {
                label: "step",
                commands: std::slice::from_ref(&commands),
                waits: &[],
                signals: &[(event, value)],
            };
            // SAFETY: fresh or ended commands; handles are never destroyed here.
            unsafe { self.device.submit(&desc).unwrap() };
            // SAFETY: the event is alive.
            assert!(unsafe { self.device.wait_event(event, value, None).unwrap() });
            ends.push(commands.status());
        }
        assert_eq!(ends[0], ends[1], "the second execution of the same list ends otherwise");
        ends.swap_remove(0)
    }
}

fn whole(buffer: RawBuffer) -> Binding {
    Binding { buffer, offset: 0, len: buffer.len }
}

fn half(buffer: RawBuffer, half: u64) -> Binding {
    Binding { buffer, offset: half * buffer.len / 2, len: buffer.len / 2 }
}

fn dispatch(recorder: &mut dyn Recorder, pipeline: RawPipeline, bindings: [Binding; 2], label: &str) {
    let grid = Grid::Groups([1; 3]);
    let command = DispatchCommand { pipeline, bindings: &bindings, constants: &[], grid, group_memory: &[], label };
    // SAFETY: handles are alive; with one thread, what conflicts is found instead of happening.
    unsafe { recorder.dispatch(&command) };
}

fn race(end: Result<(), HalError>) -> Race {
    match end {
        Err(HalError::Race(race)) => *race,
        other => panic!("no race: {other:?}"),
    }
}

/// x to y, each task its own part.
fn copy_own(d: &CpuDispatch<'_>, task: usize) {
    let value = d.slice_range::<u32>(0, own(task))[0];
    write(d, own(task), value + 1);
}

#[test]
fn two_tasks_of_a_dispatch_that_write_the_same_bytes() {
    let race = race(Rig::run(|rig, recorder| {
        // Each task writes one element too many.
        let kernel = rig.kernel("sloppy", |d, task| write(d, task * PART..(own(task).end + 1).min(N), 1));
        dispatch(recorder, kernel, [whole(rig.buffer()), whole(rig.buffer())], "layer 3");
    }));
    assert_eq!((race.kind(), race.others), ("WAW", 0));
    assert_eq!((race.earlier.task, race.later.task), (Some(0), Some(1)));
    assert_eq!((race.earlier.place, race.later.place), (RacePlace::Slot(1), RacePlace::Slot(1)));
    assert_eq!(race.earlier.bytes, 64..68);
    assert_eq!(
        race.to_string(),
        "race (WAW) in \"step\": sloppy \"layer 3\" (command 0, task 0) writes bytes 64..68 of slot 1, and sloppy \
         \"layer 3\" (command 0, task 1) writes bytes 64..68 of slot 1; tasks of one dispatch run at the same time"
    );
}

#[test]
fn a_task_that_reads_what_another_of_its_dispatch_writes() {
    let race = race(Rig::run(|rig, recorder| {
        let kernel = rig.kernel("neighbour", |d, task| {
            let before = d.slice_range::<u32>(1, own(task.saturating_sub(1)))[0];
            write(d, own(task), before + 1);
        });
        dispatch(recorder, kernel, [whole(rig.buffer()), whole(rig.buffer())], "");
    }));
    assert_eq!(race.kind(), "RAW");
    assert_eq!((race.earlier.task, race.earlier.writes), (Some(0), true));
    assert_eq!((race.later.task, race.later.writes, race.later.whole), (Some(1), false, false));
    assert_eq!(race.later.bytes, 0..64);
}

#[test]
fn a_missing_barrier_in_each_of_three_ways() {
    for (kind, build) in [("RAW", [[0, 1], [1, 2]]), ("WAR", [[1, 2], [0, 1]]), ("WAW", [[0, 1], [2, 1]])] {
        let race = race(Rig::run(|rig, recorder| {
            let buffers = [rig.buffer(), rig.buffer(), rig.buffer()];
            let (first, second) = (rig.kernel("norm", copy_own), rig.kernel("gate", copy_own));
            for (kernel, [from, to]) in [first, second].into_iter().zip(build) {
                dispatch(recorder, kernel, [whole(buffers[from]), whole(buffers[to])], "");
            }
        }));
        assert_eq!(race.kind(), kind);
        assert_eq!((race.earlier.kernel.as_str(), race.later.kernel.as_str()), ("norm", "gate"), "{race}");
        assert_eq!((race.earlier.command, race.later.command), (0, 1));
        assert!(race.to_string().ends_with("no barrier stands between them"), "{race}");
    }
}

#[test]
fn transfers_and_indirect_grids_are_sides_as_well() {
    let places = |end| {
        let race = race(end);
        (race.kind(), race.earlier.kernel, race.earlier.place, race.later.kernel, race.later.place)
    };
    let end = Rig::run(|rig, recorder| {
        let (x, y) = (rig.buffer(), rig.buffer());
        // SAFETY: as for `dispatch`.
        unsafe {
            recorder.fill(x, 0, 64, 7);
            recorder.copy(x, 32, y, 0, 64);
        }
    });
    let (filled, copied) = ("fill".to_string(), "copy".to_string());
    assert_eq!(places(end), ("RAW", filled.clone(), RacePlace::Destination, copied, RacePlace::Source));
    let end = Rig::run(|rig, recorder| {
        let (x, grid) = (rig.buffer(), rig.buffer());
        let kernel = rig.kernel("sized", copy_own);
        let bindings = [whole(x), whole(rig.buffer())];
        let grid_of = Grid::Indirect { buffer: grid, offset: 4 };
        // SAFETY: as for `dispatch`.
        unsafe {
            recorder.dispatch(&DispatchCommand {
                pipeline: kernel,
                bindings: &bindings,
                constants: &[],
                grid: grid_of,
                group_memory: &[],
                label: "",
            });
            recorder.fill(grid, 0, 8, 1);
        }
    });
    assert_eq!(places(end), ("WAR", "sized".into(), RacePlace::Grid, filled, RacePlace::Destination));
}

#[test]
fn only_the_first_race_of_a_group_is_named_and_the_others_are_counted() {
    let race = race(Rig::run(|rig, recorder| {
        let (x, y) = (rig.buffer(), rig.buffer());
        let kernel = rig.kernel("twice", copy_own);
        for label in ["a", "b", "c"] {
            dispatch(recorder, kernel, [whole(x), whole(y)], label);
        }
    }));
    assert_eq!((race.earlier.label.as_str(), race.later.label.as_str()), ("a", "b"));
    assert_eq!(race.others, 1, "c with one of the two before it");
}

#[test]
fn a_whole_slot_counts_as_read_and_the_report_says_so() {
    let build = |whole: bool| {
        Rig::run(move |rig, recorder| {
            let low = rig.kernel("low", |d, task| {
                if task < 2 {
                    write(d, own(task), 5);
                }
            });
            let (x, y) = (rig.buffer(), rig.buffer());
            // Bound to the whole buffer, though it needs none of what the other writes.
            let high = rig.kernel("high", move |d, task| {
                if task >= 2 {
                    let from = if whole { &d.slice::<u32>(0)[own(task)] } else { d.slice_range(0, own(task)) };
                    write(d, own(task), from[0]);
                }
            });
            dispatch(recorder, low, [self::whole(rig.buffer()), self::whole(x)], "");
            dispatch(recorder, high, [self::whole(x), self::whole(y)], "");
        })
    };
    let found = race(build(true));
    assert!(found.later.whole && found.to_string().contains("asked for the whole slot"), "{found}");
    assert_eq!(build(false), Ok(()));
}

#[test]
fn what_is_ordered_or_disjoint_is_left_alone() {
    let end = Rig::run(|rig, recorder| {
        let kernel = rig.kernel("copy own", copy_own);
        let (a, b, c, d) = (rig.buffer(), rig.buffer(), rig.buffer(), rig.buffer());
        // Two readers of one buffer.
        dispatch(recorder, kernel, [whole(a), whole(b)], "");
        dispatch(recorder, kernel, [whole(a), whole(c)], "");
        recorder.barrier();
        // What the group before wrote.
        dispatch(recorder, kernel, [whole(b), whole(a)], "");
        recorder.barrier();
        // Halves of one buffer.
        let part = rig.kernel("half", |d, task| {
            if task < 2 {
                write(d, own(task), 3);
            }
        });
        dispatch(recorder, part, [half(d, 0), half(c, 0)], "");
        dispatch(recorder, part, [half(d, 1), half(c, 1)], "");
        // SAFETY: as for `dispatch`.
        unsafe { recorder.copy(d, 0, a, 0, 128) };
        recorder.barrier();
        // A task may ask for its part again, and read what it writes.
        let again = rig.kernel("again", |d, task| {
            write(d, own(task), 1);
            write(d, own(task), 2);
            let sum: u32 = d.slice_range::<u32>(1, own(task)).iter().sum();
            write(d, task * PART..task * PART + 1, sum);
        });
        dispatch(recorder, again, [whole(a), whole(b)], "");
    });
    assert_eq!(end, Ok(()));
}

#[test]
fn bytes_that_change_unasked_are_a_fault() {
    let end = Rig::run(|rig, recorder| {
        let y = rig.buffer();
        let address = y.host as usize;
        // All but the last part is asked for.
        let careful = rig.kernel("careful", move |d, task| {
            if task < 3 {
                write(d, own(task), 1);
            }
            if task == 2 {
                // SAFETY: a live buffer, one thread, and no slice of it lives.
                unsafe { *(address as *mut u32).add(N - 1) += 5 };
            }
        });
        dispatch(recorder, careful, [whole(rig.buffer()), whole(y)], "");
    });
    match end {
        Err(HalError::Fault { label, reason }) => {
            assert_eq!(label, "step: careful");
            assert!(reason.starts_with("changed byte 252 of slot 1"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}
