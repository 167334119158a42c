use std::process::Command;

use kovar_hal::{OpenOptions, Timing};
use kovar_testing::subjects;

use crate::kernels::{AXPY, STEP};
use crate::rig::{Rig, dispatch, each, read};

#[test]
fn dropping_the_device_ends_its_work() {
    for subject in subjects("dropping_the_device_ends_its_work") {
        // Without validation: what is in flight cannot be destroyed first, so it is left behind.
        let device = subject.open_with(&OpenOptions::default());
        let rig = Rig::new(device);
        let step = rig.pipeline(&STEP);
        let x = rig.zeros(1 << 16);
        let commands = rig.record(Timing::Whole, false, |r| {
            for i in 0..50 {
                dispatch(r, step, &[x], &[1 << 16, 3, i], 1024);
                r.barrier();
            }
        });
        rig.submit(&commands, &[]);
        drop(rig);
        drop(commands);
    }
}

#[test]
fn devices_open_many_times() {
    for _ in 0..3 {
        each("devices_open_many_times", |rig| assert_eq!(read(rig.words(&[1, 2])), [1, 2]));
    }
}

#[test]
fn two_devices_of_one_adapter() {
    for subject in subjects("two_devices_of_one_adapter") {
        let (a, b) = (Rig::new(subject.open()), Rig::new(subject.open()));
        for rig in [&a, &b] {
            let step = rig.pipeline(&STEP);
            let x = rig.zeros(64);
            rig.run(Timing::Off, |r| dispatch(r, step, &[x], &[64, 1, 3], 1));
            assert_eq!(read(x), [3; 64]);
        }
        a.finish();
        b.finish();
    }
}

/// What is left over when a device ends is told on the error stream alone, so it takes a process to hear it.
#[test]
fn nothing_is_left_at_the_end_of_a_device() {
    let name = "nothing_is_left_at_the_end_of_a_device";
    if !subjects(name).iter().any(|subject| subject.validation) {
        return;
    }
    let child = |case: &str| {
        let own = std::env::current_exe().unwrap();
        let output = Command::new(own).args([case, "--exact", "--ignored", "--nocapture"]).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{told}");
        told
    };
    let tidy = child("lifetime::child_that_is_tidy");
    assert!(!tidy.contains("validation, at the end"), "{tidy}");
    let untidy = child("lifetime::child_that_leaves_a_pipeline");
    assert!(untidy.contains("validation, at the end"), "a pipeline was left and nothing was said: {untidy}");
}

#[test]
#[ignore = "run by `nothing_is_left_at_the_end_of_a_device`"]
fn child_that_is_tidy() {
    each("child_that_is_tidy", |rig| {
        let (step, axpy) = (rig.pipeline(&STEP), rig.pipeline(&AXPY));
        let (x, y) = (rig.zeros(64), rig.zeros(64));
        for timing in [Timing::Off, Timing::Whole, Timing::Dispatches] {
            rig.run(timing, |r| {
                dispatch(r, step, &[x], &[64, 1, 3], 1);
                r.barrier();
                dispatch(r, axpy, &[x, y], &[64, 0], 1);
            });
        }
        assert!(rig.try_pipeline(&STEP, Some(3)).is_err() || !rig.device.info().subgroup.selectable);
    });
}

#[test]
#[ignore = "run by `nothing_is_left_at_the_end_of_a_device`"]
fn child_that_leaves_a_pipeline() {
    for subject in subjects("child_that_leaves_a_pipeline").into_iter().filter(|subject| subject.validation) {
        let rig = Rig::new(subject.open());
        rig.pipeline(&STEP);
        drop(rig);
    }
}

/// The null device takes no part in the other cases: it executes nothing.
#[test]
fn the_null_device_is_not_listed() {
    assert!(subjects("the_null_device_is_not_listed").iter().all(|subject| subject.name != "null"));
}
