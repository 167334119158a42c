//! What the script decides: by example, and for all recordings.

use proptest::prelude::*;

use super::super::call::{Call, Pass};
use super::super::check::check;
use super::super::list::{Bound, Object};
use super::super::script::{Plan, plans, write};
use super::*;

/// The calls that matter to an example, without events, labels and arguments.
fn outline(calls: &[Call<'_>]) -> String {
    let words = calls.iter().filter_map(|call| {
        Some(match call {
            Call::Open { pass: Pass::Compute, .. } => "compute(",
            Call::Open { pass: Pass::Blit, .. } => "blit(",
            Call::WaitFence => "wait",
            Call::UpdateFence => "update",
            Call::End => ")",
            Call::Dispatch { .. } | Call::DispatchIndirect { .. } => "dispatch",
            Call::Barrier => "barrier",
            Call::Copy { .. } => "copy",
            Call::Fill { .. } => "fill",
            Call::WaitEvent(..) => "<",
            Call::SignalEvent(..) => ">",
            Call::Commit => "commit",
            _ => return None,
        })
    });
    words.collect::<Vec<_>>().join(" ")
}

fn run(recorder: &mut dyn Recorder, pipelines: &Pipelines) {
    dispatch(recorder, pipelines.raw(1), &[bind(0, 0)], Grid::Groups([1, 1, 1]));
}

#[test]
fn one_pass_with_barriers_only_where_they_order_something() {
    let pipelines = Pipelines::new();
    let list = pipelines.record(Timing::Whole, |recorder| {
        recorder.barrier();
        run(recorder, &pipelines);
        run(recorder, &pipelines);
        recorder.barrier();
        recorder.barrier();
        run(recorder, &pipelines);
        recorder.barrier();
    });
    let expected = "< compute( wait dispatch dispatch barrier dispatch update ) > commit";
    assert_eq!(outline(&calls(&list, &[])), expected);
}

#[test]
fn a_barrier_between_copies_ends_their_pass() {
    let pipelines = Pipelines::new();
    let list = pipelines.record(Timing::Whole, |recorder| {
        run(recorder, &pipelines);
        copy(recorder, 0, 1, 4);
        copy(recorder, 0, 2, 4);
        recorder.barrier();
        fill(recorder, 2, 0x0505_0505);
        recorder.barrier();
        run(recorder, &pipelines);
    });
    let expected = "< compute( wait dispatch update ) blit( wait copy copy update ) blit( wait fill update ) \
                    compute( wait dispatch update ) > commit";
    assert_eq!(outline(&calls(&list, &[])), expected);
}

#[test]
fn a_word_of_different_bytes_is_filled_by_a_kernel() {
    let pipelines = Pipelines::new();
    let list = pipelines.record(Timing::Whole, |recorder| fill(recorder, 2, 0x0102_0304));
    assert_eq!(outline(&calls(&list, &[])), "< compute( wait dispatch update ) > commit");
    assert_eq!(list.bytes, [4, 3, 2, 1, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0], "the word and 1024 words");
}

#[test]
fn events_have_a_pass_to_stand_at() {
    let mut calls = Vec::new();
    let (waits, signals) = (&WAITS, &SIGNALS);
    write(&Plan { list: None, waits, signals, labels: false, samples: &[], scratch: SCRATCH }, &mut calls);
    assert_eq!(outline(&calls), "< blit( wait fill update ) > commit");
    assert_eq!(check(&calls, &kept()), []);
    let mut calls = Vec::new();
    write(&Plan { list: None, waits, signals: &[], labels: false, samples: &[], scratch: SCRATCH }, &mut calls);
    assert_eq!(outline(&calls), "< blit( wait fill update ) commit");
    let mut calls = Vec::new();
    write(&Plan { list: None, waits: &[], signals: &[], labels: false, samples: &[], scratch: SCRATCH }, &mut calls);
    assert_eq!(outline(&calls), "commit");
}

#[test]
fn the_first_command_buffer_waits_and_the_last_signals() {
    let pipelines = Pipelines::new();
    let list = pipelines.record(Timing::Whole, |recorder| run(recorder, &pipelines));
    let empty = pipelines.record(Timing::Whole, |_| {});
    let (waits, signals) = (&WAITS, &SIGNALS);
    let shared = Plan { list: None, waits, signals, labels: false, samples: &[], scratch: SCRATCH };
    let outlines = |lists: &[(&List, &[Object])]| {
        let mut calls = Vec::new();
        plans(&shared, lists).iter().for_each(|plan| write(plan, &mut calls));
        outline(&calls)
    };
    let (pass, marker) = ("compute( wait dispatch update )", "blit( wait fill update )");
    assert_eq!(outlines(&[]), format!("< {marker} > commit"));
    assert_eq!(outlines(&[(&list, &[])]), format!("< {pass} > commit"));
    let three: [(&List, &[Object]); 3] = [(&empty, &[]), (&list, &[]), (&empty, &[])];
    assert_eq!(outlines(&three), format!("< {marker} commit {pass} commit {marker} > commit"));
}

#[test]
fn regions_are_opened_again_in_the_next_pass() {
    let pipelines = Pipelines::new();
    let list = pipelines.record(Timing::Whole, |recorder| {
        recorder.push_label("outer");
        run(recorder, &pipelines);
        copy(recorder, 0, 1, 4);
        recorder.pop_label();
        recorder.pop_label();
    });
    let groups = calls(&list, &[]).iter().fold(String::new(), |text, call| match call {
        Call::PushGroup(name) => text + "+" + name,
        Call::PopGroup => text + "-",
        Call::End => text + ")",
        _ => text,
    });
    assert_eq!(groups, "+outer+kernel--)+outer-)");
    let mut silent = Vec::new();
    let plan = Plan { list: Some(&list), waits: &[], signals: &[], labels: false, samples: &[], scratch: SCRATCH };
    write(&plan, &mut silent);
    assert!(!silent.iter().any(|call| matches!(call, Call::PushGroup(_) | Call::PopGroup)));
}

#[test]
fn sizes_follow_the_bindings_that_the_kernel_asks_for() {
    let pipelines = Pipelines::new();
    let list = pipelines.record(Timing::Whole, |recorder| {
        dispatch(recorder, pipelines.raw(0), &[bind(0, 16), bind(1, 0), bind(2, 4)], Grid::Groups([1, 1, 1]));
    });
    let calls = calls(&list, &[]);
    let expected = [LEN as u32 - 16, LEN as u32 - 4].map(u32::to_ne_bytes).concat();
    assert!(calls.contains(&Call::SetBytes(&expected, 4)));
    assert!(calls.contains(&Call::SetGroupMemory(1024, 0)) && calls.contains(&Call::SetGroupMemory(16, 1)));
}

/// A recorded command, as the device should see it.
#[derive(Debug, Clone, PartialEq)]
enum Work {
    Dispatch { state: Object, arguments: Vec<(u32, Bound)>, bytes: Vec<(u32, Vec<u8>)>, memory: Vec<u32>, grid: Seen },
    Copy(Bound, Bound, u64),
    Fill(Bound, u64, u8),
}

#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Groups([u32; 3]),
    Indirect(Bound),
}

#[derive(Debug, Clone)]
enum Op {
    Dispatch { pipeline: usize, bindings: Vec<(usize, u64)>, constant: u8, indirect: bool, own_memory: bool },
    Copy(usize, usize),
    Fill(usize, u8),
    Barrier,
    Push,
    Pop,
}

fn op() -> impl Strategy<Value = Op> {
    let bindings = prop::collection::vec((0..3usize, (0..3u64).prop_map(|n| n * 16)), 3);
    let kernel = (0..2usize, bindings, 0..2u8, prop::bool::weighted(0.2), prop::bool::weighted(0.3));
    prop_oneof![
        6 => kernel.prop_map(|(pipeline, bindings, constant, indirect, own_memory)| {
            let bindings = bindings[..if pipeline == 0 { 3 } else { 2 }].to_vec();
            Op::Dispatch { pipeline, bindings, constant, indirect, own_memory }
        }),
        1 => (0..3usize, 3..6usize).prop_map(|(from, to)| Op::Copy(from, to)),
        1 => (0..6usize, any::<u8>()).prop_map(|(to, byte)| Op::Fill(to, byte)),
        3 => Just(Op::Barrier),
        1 => Just(Op::Push),
        1 => Just(Op::Pop),
    ]
}

fn record_dispatch(
    pipelines: &Pipelines,
    recorder: &mut dyn Recorder,
    pipeline: usize,
    bindings: &[(usize, u64)],
    constant: u8,
    [indirect, own_memory]: [bool; 2],
) -> Work {
    let record = &pipelines.0[pipeline];
    let bindings: Vec<_> = bindings.iter().map(|(number, offset)| bind(*number, *offset)).collect();
    let bound = |binding: &Binding| Bound { buffer: Object(binding.buffer.id), offset: binding.offset };
    let at = Bound { buffer: Object(buffer(5).id), offset: 12 };
    let (grid, seen) = match indirect {
        true => (Grid::Indirect { buffer: buffer(5), offset: 12 }, Seen::Indirect(at)),
        false => (Grid::Groups([3, 2, 1]), Seen::Groups([3, 2, 1])),
    };
    let (pipeline, constants) = (pipelines.raw(pipeline), &[constant; 4]);
    // Metal takes multiples of 16.
    let (given, memory) = match own_memory {
        true => (vec![40; record.group_memory.len()], vec![48; record.group_memory.len()]),
        false => (vec![], record.group_memory.clone()),
    };
    let command = DispatchCommand { pipeline, bindings: &bindings, constants, grid, group_memory: &given, label: "" };
    // SAFETY: the pipeline is alive; buffers are numbers that nothing dereferences.
    unsafe { recorder.dispatch(&command) };
    let mut bytes = vec![(record.constants_index, constants.to_vec())];
    if let Some(index) = record.sizes_index {
        let sizes = record.sized.iter().map(|slot| (bindings[*slot as usize].len as u32).to_ne_bytes());
        bytes.push((index, sizes.collect::<Vec<_>>().concat()));
    }
    let arguments = bindings.iter().enumerate().map(|(index, binding)| (index as u32, bound(binding))).collect();
    Work::Dispatch { state: record.state, arguments, bytes, memory, grid: seen }
}

/// Records the operations, and says what the device should do in which group.
fn record(pipelines: &Pipelines, timing: Timing, ops: &[Op]) -> (List, Vec<(usize, Work)>) {
    let mut expected = Vec::new();
    let mut group = 0;
    let list = pipelines.record(timing, |recorder| {
        for op in ops {
            match op {
                Op::Barrier => {
                    recorder.barrier();
                    group += 1;
                }
                Op::Push => recorder.push_label("region"),
                Op::Pop => recorder.pop_label(),
                Op::Copy(from, to) => {
                    copy(recorder, *from, *to, 8);
                    let bound = |number, offset| Bound { buffer: Object(buffer(number).id), offset };
                    expected.push((group, Work::Copy(bound(*from, 0), bound(*to, 64), 8)));
                }
                Op::Fill(to, byte) => {
                    fill(recorder, *to, u32::from_ne_bytes([*byte; 4]));
                    let bound = Bound { buffer: Object(buffer(*to).id), offset: 16 };
                    expected.push((group, Work::Fill(bound, 4096, *byte)));
                }
                Op::Dispatch { pipeline, bindings, constant, indirect, own_memory } => {
                    let flags = [*indirect, *own_memory];
                    let work = record_dispatch(pipelines, recorder, *pipeline, bindings, *constant, flags);
                    expected.push((group, work));
                }
            }
        }
    });
    (list, expected)
}

/// What earlier calls left in an encoder.
struct Encoder {
    state: Option<Object>,
    buffers: [Option<Bound>; 31],
    bytes: Vec<Vec<u8>>,
    memory: [u32; 31],
}

impl Encoder {
    fn new() -> Encoder {
        Encoder { state: None, buffers: [None; 31], bytes: vec![Vec::new(); 31], memory: [0; 31] }
    }
}

fn kernel(pipelines: &Pipelines, encoder: &Encoder, grid: Seen) -> Work {
    let record = pipelines.0.iter().find(|record| Some(record.state) == encoder.state).expect("a pipeline is set");
    let slots = if record.state == Object(0x10) { 3 } else { 2 };
    let indices = [Some(record.constants_index), record.sizes_index].into_iter().flatten();
    Work::Dispatch {
        state: record.state,
        arguments: (0..slots).map(|slot| (slot, encoder.buffers[slot as usize].expect("a buffer is set"))).collect(),
        bytes: indices.map(|index| (index, encoder.bytes[index as usize].clone())).collect(),
        memory: encoder.memory[..record.group_memory.len()].to_vec(),
        grid,
    }
}

/// A stand-in for a device: what each call does, with the number of its pass and of the barriers before it in there.
fn execute(pipelines: &Pipelines, calls: &[Call<'_>]) -> Vec<(usize, usize, Work)> {
    let mut done = Vec::new();
    let (mut passes, mut barriers) = (0, 0);
    let mut encoder = Encoder::new();
    for call in calls {
        let mut push = |work| done.push((passes, barriers, work));
        match *call {
            Call::Open { .. } => (passes, barriers, encoder) = (passes + 1, 0, Encoder::new()),
            Call::Barrier => barriers += 1,
            Call::SetPipeline(pipeline) => encoder.state = Some(pipeline),
            Call::SetBuffer(bound, index) => {
                encoder.buffers[index as usize] = Some(bound);
                encoder.bytes[index as usize].clear();
            }
            Call::SetOffset(offset, index) => {
                let slot = &mut encoder.buffers[index as usize];
                *slot = slot.map(|old| Bound { offset, ..old });
            }
            Call::SetBytes(data, index) => {
                encoder.bytes[index as usize] = data.to_vec();
                encoder.buffers[index as usize] = None;
            }
            Call::SetGroupMemory(len, index) => encoder.memory[index as usize] = len,
            Call::Copy { from, to, len } => push(Work::Copy(from, to, len)),
            Call::Fill { to, len, byte } => push(Work::Fill(to, len, byte)),
            Call::Dispatch { groups, .. } => push(kernel(pipelines, &encoder, Seen::Groups(groups))),
            Call::DispatchIndirect { at, .. } => push(kernel(pipelines, &encoder, Seen::Indirect(at))),
            _ => {}
        }
    }
    done
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is recorded: Apple's rules hold, every command runs once with its own arguments, commands of different
    /// groups are ordered, and no barrier stands where none was recorded.
    #[test]
    fn calls_do_what_was_recorded(ops in prop::collection::vec(op(), 0..40), timed in any::<bool>()) {
        let pipelines = Pipelines::new();
        let (list, expected) = record(&pipelines, if timed { Timing::Dispatches } else { Timing::Whole }, &ops);
        let samples = [Object(0x200)];
        let calls = calls(&list, &samples);
        prop_assert_eq!(check(&calls, &kept()), []);
        let mut done = execute(&pipelines, &calls);
        if expected.is_empty() {
            prop_assert_eq!(done.len(), 1, "the pass that the signal stands behind");
            done.clear();
        }
        prop_assert_eq!(done.len(), expected.len());
        for ((_, _, seen), (_, wanted)) in done.iter().zip(&expected) {
            prop_assert_eq!(seen, wanted);
        }
        for (now, before) in (1..done.len()).map(|at| (at, at - 1)) {
            let place = |at: usize| (done[at].0, done[at].1);
            let ordered = place(before) < place(now);
            let kind = |at: usize| matches!(done[at].2, Work::Dispatch { .. });
            let switched = kind(before) != kind(now);
            prop_assert_eq!(ordered, timed || switched || expected[before].0 != expected[now].0);
        }
    }
}
