use kovar_hal::{OpenOptions, Timing};

use super::kernels::STEP;
use super::rig::{Rig, dispatch, read};
use crate::Subject;

pub(super) fn dropping_the_device_ends_its_work(subject: &Subject) {
    // Without validation: what is in flight cannot be destroyed first, so it is left behind.
    let rig = Rig::new(subject.open_with(&OpenOptions::default()));
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

pub(super) fn devices_open_many_times(subject: &Subject) {
    for _ in 0..3 {
        let rig = Rig::new(subject.open());
        assert_eq!(read(rig.words(&[1, 2])), [1, 2]);
        rig.finish();
    }
}

pub(super) fn two_devices_of_one_adapter(subject: &Subject) {
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
