//! That validation is awake: a silent layer would pass every other case too.

use kovar_hal::{MemoryKind, Timing};

use super::kernels::{IOTA, REDUCE, STEP};
use super::rig::{Rig, dispatch};

/// What validation says of a recording.
fn heard(rig: &Rig, body: impl FnOnce(&mut dyn kovar_hal::Recorder)) -> Vec<String> {
    rig.run(Timing::Off, body);
    rig.device.validation_messages()
}

#[track_caller]
fn is_hazard(messages: &[String], kind: &str) {
    assert!(messages.iter().any(|m| m.contains("SYNC-HAZARD") && m.contains(kind)), "{messages:?}");
}

pub(super) fn a_missing_barrier_is_seen(rig: &Rig) {
    let (iota, reduce, step) = (rig.pipeline(&IOTA), rig.pipeline(&REDUCE), rig.pipeline(&STEP));
    let (x, sum) = (rig.buffer_of(256, MemoryKind::Shared), rig.zeros(1));
    let with = |between: bool| {
        heard(rig, |r| {
            dispatch(r, iota, &[x], &[0], 4);
            if between {
                r.barrier();
            }
            dispatch(r, reduce, &[x, sum], &[], 1);
        })
    };
    assert_eq!(with(true), Vec::<String>::new());
    is_hazard(&with(false), "READ-AFTER-WRITE");
    is_hazard(
        &heard(rig, |r| {
            dispatch(r, step, &[x], &[64, 1, 1], 1);
            dispatch(r, iota, &[x], &[0], 4);
        }),
        "WRITE-AFTER-WRITE",
    );
    is_hazard(
        &heard(rig, |r| {
            dispatch(r, iota, &[x], &[0], 4);
            // SAFETY: the range lies within the buffer; the missing barrier is the point.
            unsafe { r.fill(x, 0, 256, 1) };
        }),
        "WRITE-AFTER-WRITE",
    );
}

/// The barrier between two submissions is the backend's, and there.
pub(super) fn submissions_need_no_barrier_of_the_caller(rig: &Rig) {
    let (iota, reduce) = (rig.pipeline(&IOTA), rig.pipeline(&REDUCE));
    let (x, sum) = (rig.zeros(64), rig.zeros(1));
    let first = rig.record(Timing::Off, false, |r| dispatch(r, iota, &[x], &[0], 4));
    let second = rig.record(Timing::Off, false, |r| dispatch(r, reduce, &[x, sum], &[], 1));
    rig.submit(&first, &[]);
    let value = rig.submit(&second, &[]);
    rig.wait(value);
    assert_eq!(rig.device.validation_messages(), Vec::<String>::new());
}
