//! What takes a process of its own, or no device, to see.

use std::process::Command;

use kovar_hal::Timing;
use kovar_testing::conformance::kernels::{AXPY, STEP};
use kovar_testing::conformance::rig::{Rig, dispatch};
use kovar_testing::subjects;

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
    let tidy = child("processes::child_that_is_tidy");
    assert!(!tidy.contains("validation, at the end"), "{tidy}");
    let untidy = child("processes::child_that_leaves_a_pipeline");
    assert!(untidy.contains("validation, at the end"), "a pipeline was left and nothing was said: {untidy}");
}

#[test]
#[ignore = "run by `nothing_is_left_at_the_end_of_a_device`"]
fn child_that_is_tidy() {
    for subject in subjects("child_that_is_tidy") {
        let rig = Rig::new(subject.open());
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
        rig.finish();
    }
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
