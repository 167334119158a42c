//! Buffers of a graph that go by a name, and others that take their places.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;

use common::{AXPY, AxpyParams, cpu, null, on_every_device};
use kovar::{
    Buffer, CommandEncoder, DType, Device, Dispatch, Error, Executable, ExecutableOptions, Graph, Kernel, MemoryKind,
    Unbindable,
};
use proptest::collection::vec;
use proptest::prelude::*;

const N: usize = 256;

fn add(encoder: &mut CommandEncoder, kernel: &Kernel, x: &Buffer, y: &Buffer) -> kovar::Result<()> {
    let (n, a) = (x.len() as u32, 1.0);
    encoder.dispatch(Dispatch::new(kernel).bind(0, x).bind(1, y).constants(&AxpyParams { n, a }).threads([n, 1, 1]))
}

fn filled(device: &Device, value: f32) -> Buffer {
    device.upload(&vec![value; N], &[N]).unwrap()
}

fn named(device: &Device, label: &str) -> Buffer {
    device.buffer_in(MemoryKind::Shared, DType::F32, &[N], label).unwrap()
}

/// y += x, with both under these names.
fn step(device: &Device, x: &Buffer, y: &Buffer, options: &ExecutableOptions) -> Executable {
    let kernel = device.kernel(&AXPY, &[]).unwrap();
    let mut graph = Graph::capture(device, "step", |encoder| add(encoder, &kernel, x, y)).unwrap();
    graph.name("x", x).unwrap();
    graph.name("y", y).unwrap();
    graph.compile(options).unwrap()
}

fn reason(result: kovar::Result<()>) -> Unbindable {
    match result {
        Err(Error::Binding { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_submitted_keeps_its_buffers() {
    on_every_device("rebind::what_was_submitted_keeps_its_buffers", |device| {
        let executes = device.info().backend != kovar::Backend::Null;
        for in_flight in [1, 2, 3] {
            let x = filled(device, 1.0);
            let ys: Vec<_> = (0..6).map(|value| filled(device, value as f32)).collect();
            let mut step = step(device, &x, &ys[0], &ExecutableOptions { in_flight, ..Default::default() });
            // Nobody waits in between, and the handles of the last round are dropped while it runs.
            for _ in 0..3 {
                for y in &ys {
                    step.rebind(&[("y", y)]).unwrap();
                    drop(step.submit().unwrap());
                }
            }
            let last = filled(device, 100.0);
            step.rebind(&[("x", &last)]).unwrap();
            drop(last);
            drop(step.submit().unwrap());
            step.rebind(&[("x", &x)]).unwrap();
            for (value, y) in ys.iter().enumerate().filter(|_| executes) {
                let expected = value as f32 + if value == 5 { 103.0 } else { 3.0 };
                assert_eq!(y.read::<f32>().unwrap(), [expected; N]);
            }
        }
    });
}

#[test]
fn commands_are_recorded_anew_when_a_binding_has_changed_and_only_then() {
    let device = null();
    let (x, y, z) = (filled(&device, 1.0), filled(&device, 0.0), filled(&device, 0.0));
    let mut step = step(&device, &x, &y, &ExecutableOptions { in_flight: 2, ..Default::default() });
    let before = device.stats();
    let recorded = |step: &mut Executable| {
        drop(step.submit().unwrap());
        (device.stats() - before).command_buffers
    };
    assert_eq!([recorded(&mut step), recorded(&mut step), recorded(&mut step)], [0; 3]);
    step.rebind(&[("x", &x)]).unwrap();
    assert_eq!([recorded(&mut step), recorded(&mut step)], [0; 2], "the buffer was there already");
    step.rebind(&[("x", &z)]).unwrap();
    step.rebind(&[("x", &x)]).unwrap();
    step.rebind(&[("y", &z)]).unwrap();
    assert_eq!([recorded(&mut step), recorded(&mut step), recorded(&mut step)], [1, 2, 2]);
    let (names, buffers): (Vec<_>, Vec<_>) = step.graph().names().unzip();
    assert_eq!(names, ["x", "y"]);
    assert!(buffers[0].same_allocation(&x) && buffers[1].same_allocation(&z));
}

#[test]
fn sets_that_are_kept_are_recorded_once() {
    on_every_device("rebind::sets_that_are_kept_are_recorded_once", |device| {
        let (x, ys) = (filled(device, 1.0), [0.0, 10.0, 20.0].map(|value| filled(device, value)));
        for (kept_bindings, sets, recorded) in [(2, 2, 2), (2, 3, 10), (3, 3, 4), (1, 2, 10), (0, 2, 10)] {
            let options = ExecutableOptions { kept_bindings, in_flight: 2, ..Default::default() };
            let mut step = step(device, &x, &ys[0], &options);
            let before = device.stats();
            // Each set is submitted twice in turn: twice is as many as may be in flight.
            for turn in 1..=5 {
                step.rebind(&[("y", &ys[turn % sets])]).unwrap();
                drop((step.submit().unwrap(), step.submit().unwrap()));
            }
            let did = (device.stats() - before).command_buffers;
            assert_eq!(did, recorded, "{kept_bindings} kept of {sets}");
        }
        if device.info().backend != kovar::Backend::Null {
            // 6 and 4 additions to two that take turns, 2, 4 and 4 to three.
            let sums = ys.each_ref().map(|y| y.read::<f32>().unwrap()[0]);
            assert_eq!(sums, [3.0 * 4.0 + 2.0 * 2.0, 10.0 + 3.0 * 6.0 + 2.0 * 4.0, 20.0 + 2.0 * 4.0]);
        }
    });
}

#[test]
fn a_set_that_is_left_keeps_its_buffers_only_if_it_is_kept() {
    let device = cpu();
    for (kept_bindings, alive) in [(1, 1), (2, 2)] {
        let owner = Arc::new(vec![0u8; N * 4]);
        let (x, no_copy) = device.import(owner.clone(), DType::F32, &[N], "file").unwrap();
        assert!(no_copy);
        let (y, z) = (filled(&device, 0.0), filled(&device, 1.0));
        let mut step = step(&device, &x, &y, &ExecutableOptions { kept_bindings, ..Default::default() });
        step.submit().unwrap().wait().unwrap();
        step.rebind(&[("x", &z)]).unwrap();
        step.submit().unwrap().wait().unwrap();
        drop(x);
        // Memory is let go of when the next work is handed over.
        step.submit().unwrap().wait().unwrap();
        assert_eq!(Arc::strong_count(&owner), alive);
    }
}

#[test]
fn a_view_takes_the_place_of_a_buffer_and_of_a_view() {
    on_every_device("rebind::a_view_takes_the_place_of_a_buffer_and_of_a_view", |device| {
        let x = filled(device, 1.0);
        let rows = device.buffer(DType::F32, &[4, N]).unwrap();
        let row = |number: usize| rows.view(number * N..(number + 1) * N).unwrap();
        // Captured in the middle: others lie before and after.
        let mut step = step(device, &x, &row(2), &ExecutableOptions::default());
        for number in [2, 0, 3, 1, 0] {
            step.rebind(&[("y", &row(number))]).unwrap();
            drop(step.submit().unwrap());
        }
        if device.info().backend != kovar::Backend::Null {
            let sums: Vec<f32> = (0..4).map(|number| row(number).read::<f32>().unwrap()[N - 1]).collect();
            assert_eq!(sums, [2.0, 1.0, 1.0, 1.0]);
        }
        // A row becomes the sum of itself and the row before.
        for number in 1..4 {
            step.rebind(&[("x", &row(number - 1)), ("y", &row(number))]).unwrap();
            drop(step.submit().unwrap());
        }
        if device.info().backend != kovar::Backend::Null {
            assert_eq!(row(3).read::<f32>().unwrap(), [5.0; N]);
        }
        assert!(step.trace().unwrap().verify().is_proved());
    });
}

#[test]
fn two_buffers_change_places_while_both_are_used() {
    on_every_device("rebind::two_buffers_change_places_while_both_are_used", |device| {
        let (x, y) = (filled(device, 1.0), filled(device, 1.0));
        let mut step = step(device, &x, &y, &ExecutableOptions::default());
        for _ in 0..6 {
            drop(step.submit().unwrap());
            step.rebind(&[("x", &y), ("y", &x)]).unwrap();
            drop(step.submit().unwrap());
            step.rebind(&[("x", &x), ("y", &y)]).unwrap();
        }
        if device.info().backend != kovar::Backend::Null {
            // Fibonacci's numbers, from the second on.
            assert_eq!((y.read::<f32>().unwrap()[0], x.read::<f32>().unwrap()[N - 1]), (233.0, 377.0));
        }
    });
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_changes() {
    let device = cpu();
    let (x, y) = (named(&device, "x0"), named(&device, "y0"));
    let mut step = step(&device, &x, &y, &ExecutableOptions::default());
    let known = vec!["x".into(), "y".into()];
    assert_eq!(reason(step.rebind(&[("z", &x)])), Unbindable::Unknown { known });
    let words = device.buffer(DType::U32, &[N]).unwrap();
    let buffer = "buffer".to_string();
    let wrong = Unbindable::DType { buffer: buffer.clone(), given: DType::U32, wanted: DType::F32 };
    assert_eq!(reason(step.rebind(&[("x", &words)])), wrong);
    let short = named(&device, "short").view(0..N - 1).unwrap();
    let wrong = Unbindable::Bytes { buffer: "short".into(), given: 1020, wanted: 1024 };
    assert_eq!(reason(step.rebind(&[("x", &short)])), wrong);
    let foreign = named(&cpu(), "far");
    assert_eq!(reason(step.rebind(&[("x", &foreign)])), Unbindable::Foreign { buffer: "far".into() });
    let owner = Arc::new(vec![0u8; N * 4]);
    let (imported, no_copy) = device.import(owner, DType::F32, &[N], "file").unwrap();
    assert!(no_copy);
    assert_eq!(reason(step.rebind(&[("y", &imported)])), Unbindable::ReadOnly { buffer: "file".into() });
    let (other, start, end) = ("x".to_string(), 0, 1024);
    let wrong = Unbindable::Aliased { buffer: "x0".into(), other, start, end };
    let refused = step.rebind(&[("y", &x)]).unwrap_err();
    let said = "graph \"step\", binding \"y\": bytes 0..1024 of buffer \"x0\" are \"x\" as well, and one of the two is written";
    assert_eq!(refused.to_string(), said);
    assert_eq!(reason(Err(refused)), wrong);
    let kept = Graph::capture(&device, "other", |encoder| {
        let scratch = encoder.scratch(DType::F32, &[N])?;
        assert_eq!(reason(step.rebind(&[("x", &scratch)])), Unbindable::Transient { buffer: "scratch".into() });
        encoder.fill(&scratch, 0)
    });
    drop(kept);
    let twice = Unbindable::Taken { name: "x".into(), buffer: "y0".into() };
    assert_eq!(reason(step.rebind(&[("x", &y), ("x", &x)])), twice);
    // The first would fit, and the second does not.
    let wrong = Unbindable::Bytes { buffer: "short".into(), given: 1020, wanted: 1024 };
    assert_eq!(reason(step.rebind(&[("x", &imported), ("y", &short)])), wrong);
    // All that was refused left it as it was; imported memory may be read.
    let unchanged = |step: &Executable| step.graph().names().all(|(name, b)| b.label() == format!("{name}0"));
    assert!(unchanged(&step));
    step.rebind(&[("x", &imported)]).unwrap();
    step.submit().unwrap().wait().unwrap();
}

#[test]
fn a_place_that_the_device_cannot_bind_is_refused() {
    let device = null(); // binds at multiples of 16
    let (x, y) = (named(&device, "x"), named(&device, "y"));
    let rows = device.buffer_in(MemoryKind::Shared, DType::F32, &[2 * N], "rows").unwrap();
    let mut step = step(&device, &x, &y, &ExecutableOptions::default());
    let wrong = Unbindable::Misaligned { buffer: "rows".into(), offset: 8, distance: 8, alignment: 16 };
    assert_eq!(reason(step.rebind(&[("x", &rows.view(2..N + 2).unwrap())])), wrong);
    step.rebind(&[("x", &rows.view(4..N + 4).unwrap())]).unwrap();
}

#[test]
fn buffers_that_share_bytes_are_refused_where_one_is_written() {
    let device = cpu();
    let kernel = device.kernel(&AXPY, &[]).unwrap();
    let (x, y, z, sum) = (named(&device, "x0"), named(&device, "y0"), named(&device, "z0"), named(&device, "sum0"));
    let mut graph = Graph::capture(&device, "sum", |encoder| {
        add(encoder, &kernel, &x, &sum)?;
        add(encoder, &kernel, &y, &sum)?;
        add(encoder, &kernel, &z, &sum)
    })
    .unwrap();
    for (name, buffer) in [("x", &x), ("y", &y), ("sum", &sum)] {
        graph.name(name, buffer).unwrap();
    }
    let mut step = graph.compile(&ExecutableOptions::default()).unwrap();
    // Both are read.
    let ones = filled(&device, 1.0);
    step.rebind(&[("x", &ones)]).unwrap();
    step.rebind(&[("y", &ones)]).unwrap();
    step.submit().unwrap().wait().unwrap();
    assert_eq!(sum.read::<f32>().unwrap(), [2.0; N]);
    // One that has no name goes by its label.
    let aliased = |result| match reason(result) {
        Unbindable::Aliased { buffer, other, start, end } => (buffer, other, start..end),
        other => panic!("{other}"),
    };
    assert_eq!(aliased(step.rebind(&[("sum", &z)])), ("z0".into(), "z0".into(), 0..1024));
    assert_eq!(aliased(step.rebind(&[("x", &sum)])), ("sum0".into(), "sum".into(), 0..1024));
    // Halves of one allocation share nothing, and rows that overlap by one element do.
    let both = device.buffer_in(MemoryKind::Shared, DType::F32, &[2 * N], "both").unwrap();
    step.rebind(&[("sum", &both.view(0..N).unwrap())]).unwrap();
    step.rebind(&[("x", &both.view(N..2 * N).unwrap())]).unwrap();
    let overlapping = both.view(N - 1..2 * N - 1).unwrap();
    assert_eq!(aliased(step.rebind(&[("y", &overlapping)])), ("both".into(), "sum".into(), 1020..1024));
}

#[test]
fn names_are_given_once_and_to_what_the_commands_use() {
    let device = null();
    let kernel = device.kernel(&AXPY, &[]).unwrap();
    let (x, y) = (named(&device, "x0"), named(&device, "y0"));
    let mut scratch = None;
    let mut graph = Graph::capture::<Error>(&device, "step", |encoder| {
        let between = encoder.scratch(DType::F32, &[N])?;
        encoder.fill(&between, 0)?;
        add(encoder, &kernel, &x, &between)?;
        add(encoder, &kernel, &between, &y)?;
        scratch = Some(between);
        Ok(())
    })
    .unwrap();
    graph.name("x", &x).unwrap();
    let taken = || Unbindable::Taken { name: "x".into(), buffer: "x0".into() };
    assert_eq!(reason(graph.name("x", &y)), taken());
    assert_eq!(reason(graph.name("input", &x)), taken());
    let unused = Unbindable::Unused { buffer: "z".into() };
    assert_eq!(reason(graph.name("z", &named(&device, "z"))), unused);
    let half = y.view(0..N / 2).unwrap();
    let beyond = Unbindable::Beyond { buffer: "y0".into(), start: 0, end: 512, first: 0, last: 1024 };
    assert_eq!(reason(graph.name("y", &half)), beyond);
    assert_eq!(reason(graph.name("t", &scratch.unwrap())), Unbindable::Transient { buffer: "scratch".into() });
    graph.name("y", &y).unwrap();
}

#[test]
fn the_host_meets_neither_the_old_buffer_nor_the_new_one_while_they_are_used() {
    let device = cpu();
    let (x, y, z) = (filled(&device, 1.0), filled(&device, 0.0), filled(&device, 10.0));
    let mut step = step(&device, &x, &y, &ExecutableOptions::default());
    drop(step.submit().unwrap());
    step.rebind(&[("y", &z)]).unwrap();
    assert_eq!(y.map::<f32>().unwrap()[0], 1.0, "waits for what was submitted before");
    {
        let _view = y.map_mut::<f32>().unwrap();
        drop(step.submit().unwrap());
    }
    let view = z.map::<f32>().unwrap();
    assert_eq!(view[0], 11.0);
    assert!(matches!(step.submit(), Err(Error::Mapped { .. })));
    drop(view);
    step.submit().unwrap().wait().unwrap();
    assert_eq!(z.read::<f32>().unwrap(), [12.0; N]);
}

proptest! {
    /// Random additions among six buffers, then again on others: whole ones, or rows of one allocation.
    #[test]
    fn rebinding_computes_what_a_capture_on_those_buffers_does(
        ops in vec((0usize..6, 1usize..6), 1..24),
        order in Just(vec![0usize, 1, 2, 3, 4, 5]).prop_shuffle(),
        rows in vec(any::<bool>(), 6),
        look_ahead in 0usize..8,
    ) {
        let device = cpu();
        let kernel = device.kernel(&AXPY, &[]).unwrap();
        let data = |at: usize| (0..N).map(|i| ((at * 31 + i * 7) % 13) as f32).collect::<Vec<_>>();
        let record = |encoder: &mut CommandEncoder, buffers: &[Buffer]| {
            ops.iter().try_for_each(|(from, by)| add(encoder, &kernel, &buffers[*from], &buffers[(from + by) % 6]))
        };
        let captured: Vec<_> = (0..6).map(|at| device.upload(&data(at), &[N]).unwrap()).collect();
        let mut graph = Graph::capture(&device, "sums", |encoder| record(encoder, &captured)).unwrap();
        graph.reorder(look_ahead);
        let used = |at: &usize| graph.clone().name("used", &captured[*at]).is_ok();
        let used: Vec<usize> = (0..6).filter(used).collect();
        for at in &used {
            graph.name(&at.to_string(), &captured[*at]).unwrap();
        }
        let mut step = graph.compile(&ExecutableOptions::default()).unwrap();
        drop(step.submit().unwrap());
        let all = device.buffer(DType::F32, &[6, N]).unwrap();
        let others: Vec<Buffer> = (0..6).map(|at| match rows[at] {
            true => all.view(order[at] * N..(order[at] + 1) * N).unwrap(),
            false => device.buffer(DType::F32, &[N]).unwrap(),
        }).collect();
        let live: Vec<Buffer> = (0..6).map(|at| device.upload(&data(at), &[N]).unwrap()).collect();
        for (at, other) in others.iter().enumerate() {
            other.write(&data(at)).unwrap();
        }
        let names: Vec<String> = used.iter().map(ToString::to_string).collect();
        let changes: Vec<_> = used.iter().zip(&names).map(|(at, name)| (name.as_str(), &others[*at])).collect();
        step.rebind(&changes).unwrap();
        drop(step.submit().unwrap());
        let mut encoder = device.encoder().unwrap();
        record(&mut encoder, &live).unwrap();
        drop(encoder.commit().unwrap());
        for at in 0..6 {
            prop_assert_eq!(others[at].read::<f32>().unwrap(), live[at].read::<f32>().unwrap());
            prop_assert_eq!(captured[at].read::<f32>().unwrap(), live[at].read::<f32>().unwrap());
        }
        prop_assert!(step.trace().unwrap().verify().is_proved());
    }
}
