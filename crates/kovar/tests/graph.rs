//! Graphs: equal to live recording, proved, reordered, planned, replayed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{AXPY, AxpyParams, cpu, null};
use kovar::hazard::{Step, verify};
use kovar::{Buffer, CommandEncoder, DType, Device, Dispatch, Error, ExecutableOptions, Graph, Kernel, MemoryKind};
use proptest::collection::vec;
use proptest::prelude::*;

const N: usize = 256;

/// One axpy: from buffer to buffer, each a half or the whole.
#[derive(Debug, Clone, Copy)]
struct Op {
    from: usize,
    to: usize,
    part: usize,
    a: i8,
}

fn op(buffers: usize) -> impl Strategy<Value = Op> {
    (0..buffers, 1..buffers, 0usize..3, -2i8..3).prop_map(move |(from, step, part, a)| Op {
        from,
        to: (from + step) % buffers,
        part,
        a,
    })
}

fn part(buffer: &Buffer, part: usize) -> Buffer {
    match part {
        0 => buffer.view(0..N / 2),
        1 => buffer.view(N / 2..N),
        _ => buffer.view(0..N),
    }
    .unwrap()
}

fn record(encoder: &mut CommandEncoder, kernel: &Kernel, buffers: &[Buffer], ops: &[Op]) -> kovar::Result<()> {
    for op in ops {
        let (x, y) = (part(&buffers[op.from], op.part), part(&buffers[op.to], op.part));
        let n = x.len() as u32;
        let params = AxpyParams { n, a: f32::from(op.a) };
        encoder.dispatch(Dispatch::new(kernel).bind(0, &x).bind(1, &y).constants(&params).threads([n, 1, 1]))?;
    }
    Ok(())
}

fn inputs(device: &Device, count: usize) -> Vec<Buffer> {
    let data = |i| (0..N).map(|j| ((i * 31 + j * 7) % 13) as f32 - 6.0).collect::<Vec<_>>();
    (0..count).map(|i| device.upload(&data(i), &[N]).unwrap()).collect()
}

fn bits(buffers: &[Buffer]) -> Vec<Vec<u32>> {
    buffers.iter().map(|b| b.read::<f32>().unwrap().into_iter().map(f32::to_bits).collect()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_graph_computes_what_live_recording_computes(ops in vec(op(6), 1..40), look_ahead in 0usize..20) {
        let device = cpu();
        let kernel = device.kernel(&AXPY, &[]).unwrap();
        let live = inputs(&device, 6);
        let mut encoder = device.encoder().unwrap();
        record(&mut encoder, &kernel, &live, &ops).unwrap();
        let placed = encoder.stats().barriers_placed;
        encoder.commit().unwrap().wait().unwrap();

        let replayed = inputs(&device, 6);
        let mut graph = Graph::capture(&device, "random", |e| record(e, &kernel, &replayed, &ops)).unwrap();
        prop_assert_eq!(graph.schedule().groups.len() as u64, placed + 1);
        graph.reorder(look_ahead);
        prop_assert!(graph.schedule().groups.len() as u64 <= placed + 1);
        prop_assert!(graph.verify().is_proved());
        let mut executable = graph.compile(&ExecutableOptions::default()).unwrap();
        executable.submit().unwrap().wait().unwrap();
        prop_assert_eq!(bits(&live), bits(&replayed));
    }

    #[test]
    fn scratch_that_shares_memory_computes_the_same(ops in vec(op(8), 1..40)) {
        // Buffers 2.. are scratch: written whole before they are read, as in a forward pass.
        let device = cpu();
        let kernel = device.kernel(&AXPY, &[]).unwrap();
        let chain: Vec<Op> = ops.iter().map(|op| Op { part: 2, ..*op }).collect();
        let run = |share_memory| {
            let real = inputs(&device, 2);
            let graph = Graph::capture(&device, "scratch", |encoder| {
                let mut buffers = real.clone();
                for _ in 2..8 {
                    let scratch = encoder.scratch(DType::F32, &[N])?;
                    encoder.fill(&scratch, 0)?;
                    buffers.push(scratch);
                }
                record(encoder, &kernel, &buffers, &chain)
            })
            .unwrap();
            let groups = graph.schedule().groups.len();
            let options = ExecutableOptions { share_memory, ..ExecutableOptions::default() };
            let mut executable = graph.compile(&options).unwrap();
            let barriers = executable.stats().barriers_placed as usize;
            for _ in 0..3 {
                drop(executable.submit().unwrap());
            }
            device.wait_idle().unwrap();
            (bits(&real), groups, barriers)
        };
        let (shared, groups, barriers) = run(true);
        let (apart, ..) = run(false);
        prop_assert_eq!(shared, apart);
        prop_assert_eq!(barriers + 1, groups, "sharing added barriers");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn every_needed_barrier_that_goes_is_missed(ops in vec(op(5), 2..30)) {
        let device = null();
        let kernel = device.kernel(&AXPY, &[]).unwrap();
        let buffers: Vec<_> = (0..5).map(|_| device.buffer(DType::F32, &[N]).unwrap()).collect();
        let graph = Graph::capture(&device, "random", |e| record(e, &kernel, &buffers, &ops)).unwrap();
        let steps = graph.steps();
        let name = |r| graph.buffer_name(r);
        let verdict = verify(&steps, name);
        prop_assert!(verdict.is_proved());
        prop_assert_eq!(&verdict.redundant, &[], "automatic barriers are all needed");
        for at in (0..steps.len()).filter(|at| steps[*at].ordered) {
            let without = verify(&with(&steps, at, false), name);
            prop_assert!(!without.is_proved(), "the barrier before {} is not missed", at);
        }
        for at in (1..steps.len()).filter(|at| !steps[*at].ordered) {
            let more = with(&steps, at, true);
            let verdict = verify(&more, name);
            prop_assert!(verdict.is_proved());
            // Some barrier is now one too many; leaving any such out again breaks nothing.
            for redundant in &verdict.redundant {
                prop_assert!(verify(&with(&more, redundant.0 as usize, false), name).is_proved());
            }
        }
    }
}

fn with(steps: &[Step], at: usize, ordered: bool) -> Vec<Step> {
    let mut steps = steps.to_vec();
    steps[at].ordered = ordered;
    steps
}

#[test]
fn a_violation_names_both_commands_the_buffer_the_bytes_and_the_kind() {
    let device = null();
    let kernel = device.kernel(&AXPY, &[]).unwrap();
    let named = |label| device.buffer_in(MemoryKind::Shared, DType::F32, &[N], label).unwrap();
    let (x, h, y) = (named("x"), named("hidden"), named("y"));
    let graph = Graph::capture(&device, "layer", |encoder| {
        let params = AxpyParams { n: N as u32, a: 1.0 };
        let dispatch = |from, to| Dispatch::new(&kernel).bind(0, from).bind(1, to).groups([4, 1, 1]);
        encoder.dispatch(dispatch(&x, &h).constants(&params).label("norm"))?;
        encoder.dispatch(dispatch(&h, &y).constants(&params).label("gate"))
    })
    .unwrap();
    let mut steps = graph.steps();
    steps[1].ordered = false;
    let verdict = verify(&steps, |r| graph.buffer_name(r));
    let text = verdict.violations[0].to_string();
    for part in ["RAW", "gate (command 1)", "norm (command 0)", "bytes 0..1024", "hidden"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn reorder_widens_groups_and_stops_at_opaque_commands() {
    let device = null();
    let kernel = device.kernel(&AXPY, &[]).unwrap();
    let buffers: Vec<_> = (0..6).map(|_| device.buffer(DType::F32, &[N]).unwrap()).collect();
    let build = |opaque: bool| {
        Graph::capture(&device, "two chains", |encoder| {
            let params = AxpyParams { n: N as u32, a: 1.0 };
            for (index, (x, y)) in [(0, 1), (1, 2), (3, 4), (4, 5)].into_iter().enumerate() {
                let dispatch = Dispatch::new(&kernel).bind(0, &buffers[x]).bind(1, &buffers[y]).constants(&params);
                let dispatch = if opaque && index == 2 { dispatch.opaque() } else { dispatch };
                encoder.dispatch(dispatch.groups([4, 1, 1]))?;
            }
            Ok::<_, Error>(())
        })
        .unwrap()
    };
    let mut graph = build(false);
    assert_eq!(graph.schedule().groups.len(), 3);
    graph.reorder(8);
    assert_eq!(graph.schedule().groups.len(), 2);
    let mut graph = build(true);
    graph.reorder(8);
    assert_eq!(graph.schedule().groups.len(), 3);
}

#[test]
fn a_chain_of_scratch_needs_two_places() {
    let device = cpu();
    let kernel = device.kernel(&AXPY, &[]).unwrap();
    let x = device.upload(&[1.0f32; N], &[N]).unwrap();
    let y = device.buffer(DType::F32, &[N]).unwrap();
    let graph = Graph::capture(&device, "chain", |encoder| {
        let params = AxpyParams { n: N as u32, a: 1.0 };
        let mut from = x.clone();
        for _ in 0..10 {
            let to = encoder.scratch(DType::F32, &[N])?;
            encoder.fill(&to, 0)?;
            let dispatch = Dispatch::new(&kernel).bind(0, &from).bind(1, &to).constants(&params);
            encoder.dispatch(dispatch.groups([4, 1, 1]))?;
            from = to;
        }
        encoder.copy(&from, &y)
    })
    .unwrap();
    let mut graph = graph;
    let plan = graph.plan();
    assert!(plan.size * 3 <= plan.sum, "{plan:?}");
    let mut executable = graph.clone().compile(&ExecutableOptions::default()).unwrap();
    executable.submit().unwrap().wait().unwrap();
    assert_eq!(y.read::<f32>().unwrap(), [1.0; N]);
    // With all fills first, everything lives at once.
    graph.reorder(100);
    assert_eq!(graph.plan().size, graph.plan().sum);
}

#[test]
fn an_executable_repeats_its_commands() {
    let device = cpu();
    let kernel = device.kernel(&AXPY, &[]).unwrap();
    let x = device.upload(&[1.0f32; N], &[N]).unwrap();
    let y = device.buffer(DType::F32, &[N]).unwrap();
    let ops = [Op { from: 0, to: 1, part: 2, a: 1 }];
    let graph = Graph::capture(&device, "step", |e| record(e, &kernel, &[x.clone(), y.clone()], &ops)).unwrap();
    let mut step = graph.compile(&ExecutableOptions { repeat: 8, ..Default::default() }).unwrap();
    assert_eq!((step.stats().dispatches, step.stats().barriers_placed), (8, 7));
    for _ in 0..100 {
        drop(step.submit().unwrap());
    }
    assert_eq!(y.read::<f32>().unwrap()[N - 1], 800.0);
}

#[test]
fn scratch_of_a_capture_is_refused_outside_it() {
    let device = cpu();
    let mut kept = None;
    Graph::capture(&device, "leak", |encoder| {
        kept = Some(encoder.scratch(DType::F32, &[N])?);
        Ok::<_, Error>(())
    })
    .unwrap();
    let scratch = kept.unwrap();
    assert!(matches!(scratch.read::<f32>(), Err(Error::Transient { .. })));
    assert!(matches!(scratch.write(&[0.0f32; N]), Err(Error::Transient { .. })));
    let mut encoder = device.encoder().unwrap();
    assert!(encoder.fill(&scratch, 0).is_err());
    let kernel = device.kernel(&AXPY, &[]).unwrap();
    let y = device.buffer(DType::F32, &[N]).unwrap();
    let params = AxpyParams { n: N as u32, a: 1.0 };
    let dispatch = Dispatch::new(&kernel).bind(0, &scratch).bind(1, &y).constants(&params).groups([1, 1, 1]);
    assert!(encoder.dispatch(dispatch).is_err());
}

/// Small groups before large ones: a thread that finds a small group taken must not claim from the next by mistake.
#[test]
fn groups_of_different_size_are_walked_right_thousands_of_times() {
    let device = cpu();
    let kernel = device.kernel(&AXPY, &[]).unwrap();
    let x = device.upload(&[1.0f32; 64 * 40], &[64 * 40]).unwrap();
    let y = device.buffer(DType::F32, &[64 * 40]).unwrap();
    let graph = Graph::capture(&device, "sawtooth", |encoder| {
        for blocks in [1, 40, 2, 17, 1, 3].into_iter().cycle().take(120) {
            let n = 64 * blocks;
            let params = AxpyParams { n: n as u32, a: 1.0 };
            let dispatch = Dispatch::new(&kernel).bind(0, &x).bind(1, &y).constants(&params);
            encoder.dispatch(dispatch.threads([n as u32, 1, 1]))?;
        }
        Ok::<_, Error>(())
    })
    .unwrap();
    let mut step = graph.compile(&ExecutableOptions::default()).unwrap();
    for _ in 0..2000 {
        drop(step.submit().unwrap());
    }
    let result = y.read::<f32>().unwrap();
    assert_eq!((result[0], result[64 * 40 - 1]), (240_000.0, 40_000.0));
}
