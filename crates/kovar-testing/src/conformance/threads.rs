use kovar_hal::{SubmitDesc, Timing};

use super::kernels::{IOTA, STEP};
use super::rig::{LIMIT, Rig, dispatch, read};

pub(super) fn four_threads_record_and_submit(rig: &Rig) {
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            scope.spawn(move || {
                let (iota, step) = (rig.pipeline(&IOTA), rig.pipeline(&STEP));
                let x = rig.zeros(64);
                let done = rig.event(0);
                for round in 1..=25u64 {
                    let commands = [rig.record(Timing::Dispatches, false, |r| {
                        dispatch(r, iota, &[x], &[thread], 4);
                        r.barrier();
                        dispatch(r, step, &[x], &[64, 10, round as u32], 1);
                    })];
                    let signals = [(done, round)];
                    let desc = SubmitDesc { label: "thread", commands: &commands, waits: &[], signals: &signals };
                    // SAFETY: commands came from this device; the rig keeps what they use.
                    unsafe { rig.device.submit(&desc) }.unwrap();
                    // SAFETY: the rig keeps the event.
                    assert!(unsafe { rig.device.wait_event(done, round, Some(LIMIT)) }.unwrap());
                    commands[0].status().unwrap();
                    assert_eq!(commands[0].times().len(), 2);
                    let expected: Vec<u32> = (0..64).map(|i| (thread + i) * 10 + round as u32).collect();
                    assert_eq!(read(x), expected);
                }
            });
        }
    });
}
