//! Narrowed access: barriers as a model of single elements has them, live and captured.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::HashSet;

use common::{AXPY, AxpyParams, null};
use kovar::{Buffer, CommandEncoder, DType, Dispatch, DispatchRecord, Error, Graph, Kernel, Misuse, Touch};
use proptest::collection::vec;
use proptest::prelude::*;

const LEN: usize = 128;

/// Start, length, stride, count of some rows.
type Rows = (usize, usize, usize, usize);

fn rows() -> impl Strategy<Value = Rows> {
    (0usize..40, 1usize..6, 0usize..9, 1usize..9)
}

/// What a dispatch reads and writes, and whether it reads the first buffer and writes the second or the other way round.
type Command = (Vec<Rows>, Vec<Rows>, bool);

fn elements(rows: &[Rows]) -> HashSet<usize> {
    let of = |(start, len, stride, count): &Rows| {
        let (start, len, stride) = (*start, *len, *stride);
        (0..*count).flat_map(move |row| start + row * stride..start + row * stride + len)
    };
    match rows {
        [] => (0..LEN).collect(),
        rows => rows.iter().flat_map(of).collect(),
    }
}

/// Barriers as they must be: before a command that meets what its group wrote, or writes what it read.
fn expected(commands: &[Command]) -> u64 {
    let (mut read, mut written) = (HashSet::new(), HashSet::new());
    let mut barriers = 0;
    for (reads, writes, swapped) in commands {
        let of =
            |rows: &[Rows], buffer: bool| elements(rows).into_iter().map(move |at| (buffer, at)).collect::<Vec<_>>();
        let (reads, writes) = (of(reads, *swapped), of(writes, !swapped));
        let meets = reads.iter().any(|at| written.contains(at))
            || writes.iter().any(|at| written.contains(at) || read.contains(at));
        if meets {
            barriers += 1;
            read.clear();
            written.clear();
        }
        read.extend(reads);
        written.extend(writes);
    }
    barriers
}

/// The null device executes nothing, so that any claim will do.
fn touching<'a>(dispatch: Dispatch<'a>, touches: &'a [Touch]) -> Dispatch<'a> {
    // SAFETY: no kernel runs.
    unsafe { dispatch.touching(touches) }
}

fn record(encoder: &mut CommandEncoder, kernel: &Kernel, buffers: &[Buffer; 2], commands: &[Command]) {
    for (reads, writes, swapped) in commands {
        let touch = |slot| move |r: &Rows| Touch::rows(slot, r.0, r.1, r.2, r.3);
        let touches: Vec<Touch> = reads.iter().map(touch(0)).chain(writes.iter().map(touch(1))).collect();
        let (x, y) = if *swapped { (&buffers[1], &buffers[0]) } else { (&buffers[0], &buffers[1]) };
        let params = AxpyParams { n: 1, a: 1.0 };
        let dispatch = Dispatch::new(kernel).bind(0, x).bind(1, y).constants(&params).groups([1, 1, 1]);
        encoder.dispatch(touching(dispatch, &touches)).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn barriers_stand_where_elements_meet(
        commands in vec((vec(rows(), 0..3), vec(rows(), 0..3), any::<bool>()), 1..16)
    ) {
        let device = null();
        let kernel = device.kernel(&AXPY, &[]).unwrap();
        let buffers = [(); 2].map(|()| device.buffer(DType::F32, &[LEN]).unwrap());
        let mut encoder = device.encoder().unwrap();
        record(&mut encoder, &kernel, &buffers, &commands);
        prop_assert_eq!(encoder.stats().barriers_placed, expected(&commands));
        let graph = Graph::capture(&device, "captured", |encoder| {
            record(encoder, &kernel, &buffers, &commands);
            Ok::<(), Error>(())
        })
        .unwrap();
        prop_assert_eq!(graph.schedule().groups.len() as u64, expected(&commands) + 1);
    }
}

#[test]
fn many_rows_are_known_exactly_and_what_is_not_there_is_refused() {
    let device = null();
    let kernel = device.kernel(&AXPY, &[]).unwrap();
    let x = device.buffer(DType::F32, &[4096]).unwrap();
    let y = device.buffer(DType::F32, &[4096]).unwrap();
    let params = AxpyParams { n: 1, a: 1.0 };
    let mut encoder = device.encoder().unwrap();
    let dispatch = || Dispatch::new(&kernel).bind(0, &x).bind(1, &y).constants(&params).groups([1, 1, 1]);
    encoder.dispatch(touching(dispatch(), &[Touch::rows(1, 0, 1, 2, 65)])).unwrap();
    encoder.dispatch(touching(dispatch(), &[Touch::elements(1, 129..4096)])).unwrap();
    encoder.dispatch(touching(dispatch(), &[Touch::elements(1, 1..2)])).unwrap();
    encoder.dispatch(touching(dispatch(), &[Touch::rows(1, 3, 1, 2, 63)])).unwrap();
    assert_eq!(encoder.stats().barriers_placed, 0);
    encoder.dispatch(touching(dispatch(), &[Touch::elements(1, 128..129)])).unwrap();
    assert_eq!(encoder.stats().barriers_placed, 1);
    let wrong = [
        Touch::elements(1, 0..4097),
        Touch::elements(1, 5..5),
        Touch::rows(0, 0, 1, 1, 0),
        Touch::rows(0, 1, 1, usize::MAX, 2),
        Touch::rows(0, 0, 1, usize::MAX, 3),
    ];
    for touch in wrong {
        let error = encoder.dispatch(touching(dispatch(), &[touch])).unwrap_err();
        assert!(matches!(error, Error::Dispatch { misuse: Misuse::Touch { .. }, .. }), "{error}");
        assert!(error.to_string().starts_with(&format!("dispatch of axpy: slot {}", touch.slot())), "{error}");
    }
    let error = encoder.dispatch(touching(dispatch(), &[Touch::elements(2, 0..1)])).unwrap_err();
    assert!(matches!(error, Error::Dispatch { misuse: Misuse::NoSlot { slot: 2, slots: 2 }, .. }), "{error}");
    encoder.dispatch(dispatch()).unwrap();
    assert_eq!(encoder.stats().dispatches, 6);
}

#[test]
fn a_record_touches_what_its_dispatch_touches() {
    let device = null();
    let kernel = device.kernel(&AXPY, &[]).unwrap();
    let [x, y, short] = [128, 128, 16].map(|len| device.buffer(DType::F32, &[len]).unwrap());
    let params = AxpyParams { n: 1, a: 1.0 };
    let bake = |touches: &[Touch]| {
        let dispatch = Dispatch::new(&kernel).constants(&params).groups([1, 1, 1]);
        DispatchRecord::bake(&touching(dispatch, touches)).unwrap()
    };
    let (low, high) = (bake(&[Touch::elements(1, 0..64)]), bake(&[Touch::elements(1, 64..128)]));
    let mut encoder = device.encoder().unwrap();
    encoder.dispatch_record(&low, &[&x, &y]).unwrap();
    encoder.dispatch_record(&high, &[&x, &y]).unwrap();
    assert_eq!(encoder.stats().barriers_placed, 0);
    encoder.dispatch_record(&low, &[&x, &y]).unwrap();
    assert_eq!(encoder.stats().barriers_placed, 1);
    let error = encoder.dispatch_record(&high, &[&x, &short]).unwrap_err();
    assert!(matches!(error, Error::Dispatch { misuse: Misuse::Touch { slot: 1, len: 16, .. }, .. }), "{error}");
    let error = encoder.dispatch_record(&bake(&[Touch::elements(2, 0..1)]), &[&x, &y]).unwrap_err();
    assert!(matches!(error, Error::Dispatch { misuse: Misuse::NoSlot { slot: 2, .. }, .. }), "{error}");
    encoder.dispatch_record(&bake(&[]), &[&x, &y]).unwrap();
    assert_eq!((encoder.stats().dispatches, encoder.stats().barriers_placed), (4, 2));
}

#[test]
fn a_record_of_an_opaque_dispatch_is_opaque() {
    let device = null();
    let kernel = device.kernel(&AXPY, &[]).unwrap();
    let [x, y, z] = [(); 3].map(|()| device.buffer(DType::F32, &[64]).unwrap());
    let params = AxpyParams { n: 64, a: 1.0 };
    let dispatch = Dispatch::new(&kernel).constants(&params).groups([1, 1, 1]);
    let (plain, opaque) = (DispatchRecord::bake(&dispatch).unwrap(), DispatchRecord::bake(&dispatch.opaque()).unwrap());
    // The last would join the first, were it not for what stands between.
    let groups = |between: &DispatchRecord| {
        let mut graph = Graph::capture(&device, "records", |encoder| {
            encoder.dispatch_record(&plain, &[&x, &y])?;
            encoder.dispatch_record(between, &[&x, &y])?;
            encoder.dispatch_record(&plain, &[&x, &z])
        })
        .unwrap();
        graph.reorder(8);
        graph.schedule().groups
    };
    assert_eq!(groups(&plain), [0..2, 2..3]);
    assert_eq!(groups(&opaque), [0..1, 1..3]);
}
