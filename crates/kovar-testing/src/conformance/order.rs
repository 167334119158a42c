use kovar_hal::{CpuSchedule, OpenOptions, RecorderDesc, SubmitDesc, Timing};

use super::kernels::{IOTA, REDUCE, STEP};
use super::rig::{LIMIT, Rig, dispatch, read};
use crate::Subject;

/// What so many steps of x · 3 + i leave of zero.
fn chain(steps: u32) -> u32 {
    (0..steps).fold(0u32, |x, i| x.wrapping_mul(3).wrapping_add(i))
}

pub(super) fn barriers_order_dispatches(rig: &Rig) {
    let step = rig.pipeline(&STEP);
    let x = rig.zeros(1000);
    rig.run(Timing::Off, |r| {
        for i in 0..300 {
            dispatch(r, step, &[x], &[1000, 3, i], 16);
            r.barrier();
        }
    });
    assert_eq!(read(x), vec![chain(300); 1000]);
}

pub(super) fn dispatches_of_a_group_all_run(rig: &Rig) {
    let (iota, reduce) = (rig.pipeline(&IOTA), rig.pipeline(&REDUCE));
    let parts: Vec<_> = (0..100).map(|_| (rig.zeros(64), rig.zeros(1))).collect();
    rig.run(Timing::Off, |r| {
        for (i, (x, _)) in parts.iter().enumerate() {
            dispatch(r, iota, &[*x], &[i as u32], 4);
        }
        r.barrier();
        for (x, sum) in &parts {
            dispatch(r, reduce, &[*x, *sum], &[], 1);
        }
    });
    for (i, (_, sum)) in parts.iter().enumerate() {
        assert_eq!(read(*sum), [64 * i as u32 + 63 * 32]);
    }
}

pub(super) fn barriers_order_copies_and_fills(rig: &Rig) {
    let step = rig.pipeline(&STEP);
    let (x, y) = (rig.zeros(64), rig.zeros(64));
    rig.run(Timing::Off, |r| {
        for i in 0..20 {
            // SAFETY: the ranges lie within the buffers; a barrier stands between any two commands.
            unsafe { r.fill(x, 0, 256, i) };
            r.barrier();
            dispatch(r, step, &[x], &[64, 2, 1], 1);
            r.barrier();
            // SAFETY: as above.
            unsafe { r.copy(x, 0, y, 0, 256) };
            r.barrier();
        }
    });
    assert_eq!(read(y), [39; 64]);
}

pub(super) fn a_recording_runs_again(rig: &Rig) {
    let step = rig.pipeline(&STEP);
    let x = rig.zeros(64);
    let commands = rig.record(Timing::Whole, true, |r| dispatch(r, step, &[x], &[64, 3, 1], 1));
    let mut expected = 0u32;
    for _ in 0..100 {
        let value = rig.submit(&commands, &[]);
        rig.wait(value);
        commands.status().unwrap();
        expected = expected.wrapping_mul(3).wrapping_add(1);
        assert_eq!(read(x)[63], expected);
    }
}

pub(super) fn submissions_run_in_order_and_see_each_other(rig: &Rig) {
    let step = rig.pipeline(&STEP);
    let x = rig.zeros(500);
    let all: Vec<_> =
        (0..100).map(|i| rig.record(Timing::Off, false, |r| dispatch(r, step, &[x], &[500, 3, i], 8))).collect();
    let last = all.iter().map(|commands| rig.submit(commands, &[])).last().unwrap();
    rig.wait(last);
    assert_eq!(read(x), vec![chain(100); 500]);
}

pub(super) fn several_command_buffers_in_one_submission(rig: &Rig) {
    let step = rig.pipeline(&STEP);
    let x = rig.zeros(64);
    let all: Vec<_> =
        (0..20).map(|i| rig.record(Timing::Off, false, |r| dispatch(r, step, &[x], &[64, 3, i], 1))).collect();
    let done = rig.event(0);
    let desc = SubmitDesc { label: "many", commands: &all, waits: &[], signals: &[(done, 5)] };
    // SAFETY: commands came from this device; the rig keeps what they use.
    unsafe { rig.device.submit(&desc) }.unwrap();
    // SAFETY: the event is alive.
    assert!(unsafe { rig.device.wait_event(done, 5, Some(LIMIT)) }.unwrap());
    assert_eq!(read(x), [chain(20); 64]);
}

pub(super) fn an_abandoned_recorder_leaves_nothing(rig: &Rig) {
    let step = rig.pipeline(&STEP);
    let x = rig.zeros(64);
    for _ in 0..10 {
        let desc = RecorderDesc { label: "abandoned", timing: Timing::Dispatches, reusable: false };
        let mut recorder = rig.device.create_recorder(&desc).unwrap();
        dispatch(recorder.as_mut(), step, &[x], &[64, 3, 1], 1);
    }
    rig.run(Timing::Off, |r| dispatch(r, step, &[x], &[64, 3, 1], 1));
    assert_eq!(read(x), [1; 64]);
}

/// Any legal order of the tasks of a group gives the same bytes.
pub(super) fn shuffled_orders_agree(subject: &Subject) {
    let run = |schedule| {
        let options = OpenOptions { schedule, ..OpenOptions::default() };
        let rig = Rig::new(subject.open_with(&options));
        let (step, iota, reduce) = (rig.pipeline(&STEP), rig.pipeline(&IOTA), rig.pipeline(&REDUCE));
        let (x, y, sums) = (rig.zeros(640), rig.zeros(640), rig.zeros(10));
        rig.run(Timing::Off, |r| {
            dispatch(r, iota, &[x], &[3], 40);
            dispatch(r, step, &[y], &[640, 1, 5], 10);
            r.barrier();
            dispatch(r, step, &[x], &[640, 7, 2], 10);
            r.barrier();
            dispatch(r, reduce, &[x, sums], &[], 10);
            dispatch(r, step, &[y], &[640, 9, 1], 10);
        });
        let bytes = [read(x), read(y), read(sums)];
        rig.finish();
        bytes
    };
    let parallel = run(CpuSchedule::Parallel);
    for seed in 0..100 {
        assert_eq!(run(CpuSchedule::Shuffled(seed)), parallel, "seed {seed}");
    }
}
