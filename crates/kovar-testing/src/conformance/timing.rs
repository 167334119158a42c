use kovar_hal::{SubmitDesc, Timing};

use super::kernels::STEP;
use super::rig::{LIMIT, Rig, dispatch, signal, wait};
use crate::note;

pub(super) fn the_whole_is_timed(rig: &Rig) {
    let step = rig.pipeline(&STEP);
    let x = rig.zeros(6400);
    let commands = rig.record(Timing::Whole, true, |r| {
        for i in 0..20 {
            dispatch(r, step, &[x], &[6400, 3, i], 100);
            r.barrier();
        }
    });
    assert_eq!(commands.time(), None, "nothing was executed yet");
    let known = rig.device.info().features.timestamp_ns.is_some();
    let mut end = 0;
    for _ in 0..5 {
        let value = rig.submit(&commands, &[]);
        rig.wait(value);
        assert_eq!(commands.time().is_some(), known);
        if let Some(span) = commands.time() {
            assert!(span.start >= end && span.end > span.start, "{span:?} after {end}");
            end = span.end;
        }
        assert!(commands.times().is_empty());
    }
}

pub(super) fn nothing_is_timed_when_off(rig: &Rig) {
    let step = rig.pipeline(&STEP);
    let x = rig.zeros(64);
    let commands = rig.run(Timing::Off, |r| dispatch(r, step, &[x], &[64, 1, 1], 1));
    assert_eq!((commands.time(), commands.times().len()), (None, 0));
}

pub(super) fn each_command_is_timed(rig: &Rig) {
    let step = rig.pipeline(&STEP);
    let (x, y) = (rig.zeros(64), rig.zeros(64));
    let known = rig.device.info().features.timestamp_ns.is_some();
    // More commands than one query pool holds, and one that does nothing among them.
    for count in [0, 1, 3, 2000] {
        let commands = rig.record(Timing::Dispatches, true, |r| {
            for i in 0..count {
                dispatch(r, step, &[x], &[64, 3, i], u32::from(i != 1));
                // SAFETY: the ranges lie within the buffers; a barrier stands before the next use.
                unsafe {
                    match i % 3 {
                        0 => r.fill(y, 0, 256, i),
                        1 => r.copy(y, 0, y, 128, 64),
                        _ => {}
                    }
                }
                r.barrier();
            }
        });
        let expected = (0..count).map(|i| 1 + usize::from(i % 3 < 2)).sum::<usize>();
        for _ in 0..2 {
            let value = rig.submit(&commands, &[]);
            rig.wait(value);
            let times = commands.times();
            assert_eq!(times.len(), expected);
            assert!(times.iter().all(|time| time.is_some() == known));
            let Some(whole) = commands.time() else { continue };
            let mut last = whole.start;
            for span in times.iter().flatten() {
                assert!(span.start >= last && span.end >= span.start, "{span:?} after {last}");
                last = span.end;
            }
            assert!(last <= whole.end);
        }
    }
}

pub(super) fn clocks_run_together(rig: &Rig) {
    let Some(first) = rig.device.clocks() else {
        note("timing::clocks_run_together", &format!("{} has no clock to compare", rig.device.info().name));
        return;
    };
    let step = rig.pipeline(&STEP);
    let x = rig.zeros(64);
    let commands = rig.run(Timing::Whole, |r| dispatch(r, step, &[x], &[64, 1, 1], 1));
    let second = rig.device.clocks().unwrap();
    assert!(second.device >= first.device && second.host >= first.host);
    let span = commands.time().unwrap();
    assert!(first.device <= span.start && span.end <= second.device, "{first:?} {span:?} {second:?}");
    // The host was at both readings for certain: they cannot be further apart than the time between them.
    assert!(first.error + second.error <= second.host.duration_since(first.host), "{first:?} {second:?}");
}

/// Times are read while later work waits for the host: a driver may not wait for that work.
pub(super) fn times_can_be_read_while_later_work_waits(rig: &Rig) {
    let step = rig.pipeline(&STEP);
    let x = rig.zeros(64);
    let (gate, done) = (rig.event(0), rig.event(0));
    let known = rig.device.info().features.timestamp_ns.is_some();
    let record = || rig.record(Timing::Dispatches, false, |r| dispatch(r, step, &[x], &[64, 3, 1], 1));
    let (first, second) = ([record()], [record()]);
    let value = rig.submit(&first[0], &[]);
    let desc = SubmitDesc { label: "waits", commands: &second, waits: &[(gate, 1)], signals: &[(done, 1)] };
    // SAFETY: commands came from this device; the rig keeps what they use.
    unsafe { rig.device.submit(&desc) }.unwrap();
    rig.wait(value);
    assert_eq!((first[0].time().is_some(), first[0].times()[0].is_some()), (known, known));
    signal(rig, gate, 1);
    assert!(wait(rig, done, 1, Some(LIMIT)));
    assert_eq!(second[0].times().len(), 1);
}
