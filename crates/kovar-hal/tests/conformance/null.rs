use std::time::Duration;

use kovar_hal::null::{NullCommand, NullCommandBuffer};
use kovar_hal::{Grid, OpenOptions, SubmitDesc, Timing};
use kovar_testing::conformance::kernels::{AXPY, STEP};
use kovar_testing::conformance::rig::{LIMIT, Rig, dispatch, dispatch_grid, read, signal, wait, whole};

/// Everything is recorded as given, and nothing happens.
#[test]
fn the_null_device_records() {
    let rig = Rig::new(kovar_hal::null::adapter().open(&OpenOptions::default()).unwrap());
    let (step, axpy) = (rig.pipeline(&STEP), rig.pipeline(&AXPY));
    let (x, y) = (rig.words(&[1; 64]), rig.zeros(64));
    let commands = rig.run(Timing::Dispatches, |r| {
        dispatch(r, step, &[x], &[64, 3, 1], 1);
        r.barrier();
        // SAFETY: the ranges lie within the buffers.
        unsafe {
            r.copy(x, 0, y, 0, 128);
            r.fill(y, 128, 64, 5);
        }
        dispatch_grid(r, axpy, &[whole(x), whole(y)], &[64, 0], Grid::Indirect { buffer: x, offset: 0 });
    });
    let recorded = commands.as_any().downcast_ref::<NullCommandBuffer>().unwrap();
    let expected = [
        NullCommand::Dispatch { pipeline: step, first: 0, count: 1, groups: Some([1, 1, 1]) },
        NullCommand::Barrier,
        NullCommand::Copy(128),
        NullCommand::Fill(64),
        NullCommand::Dispatch { pipeline: axpy, first: 1, count: 2, groups: None },
    ];
    assert_eq!(recorded.commands(), expected);
    assert_eq!(recorded.bindings().iter().map(|b| b.buffer).collect::<Vec<_>>(), [x, x, y]);
    assert_eq!(recorded.constants().len(), 12 + 8);
    assert_eq!((read(x), read(y)), (vec![1; 64], vec![0; 64]));
    assert_eq!((commands.time(), commands.times().len()), (None, 0));
    rig.finish();
}

/// Submissions keep their order and wait for the host, as on a device that executes.
#[test]
fn the_null_device_waits_for_events() {
    let rig = Rig::new(kovar_hal::null::adapter().open(&OpenOptions::default()).unwrap());
    let (gate, first, second) = (rig.event(0), rig.event(0), rig.event(0));
    let submit = |waits: &[_], signals: &[_]| {
        let desc = SubmitDesc { label: "gated", commands: &[], waits, signals };
        // SAFETY: the rig keeps the events.
        unsafe { rig.device.submit(&desc) }.unwrap();
    };
    submit(&[(gate, 2)], &[(first, 1)]);
    submit(&[], &[(second, 1)]);
    assert!(!wait(&rig, second, 1, Some(Duration::from_micros(10))));
    signal(&rig, gate, 1);
    assert!(!wait(&rig, first, 1, Some(Duration::ZERO)));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| wait(&rig, second, 1, Some(LIMIT)));
        signal(&rig, gate, 2);
        assert!(waiter.join().unwrap() && wait(&rig, first, 1, None));
    });
    rig.finish();
}
