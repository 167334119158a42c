use std::time::{Duration, Instant};

use kovar_hal::{RawEvent, SubmitDesc, Timing};

use super::kernels::STEP;
use super::rig::{LIMIT, Rig, dispatch, read, signal, wait};

fn value(rig: &Rig, event: RawEvent) -> u64 {
    // SAFETY: the rig keeps the event, here and below.
    unsafe { rig.device.event_value(event) }.unwrap()
}

pub(super) fn the_host_signals_and_reads(rig: &Rig) {
    let event = rig.event(41);
    assert_eq!(value(rig, event), 41);
    assert!(wait(rig, event, 41, Some(Duration::ZERO)) && wait(rig, event, 7, None));
    signal(rig, event, 50);
    assert_eq!(value(rig, event), 50);
    assert!(wait(rig, event, 45, None));
    assert_eq!(value(rig, rig.event(u64::MAX >> 2)), u64::MAX >> 2);
}

pub(super) fn a_wait_ends_with_its_limit(rig: &Rig) {
    let event = rig.event(0);
    for limit in [Duration::ZERO, Duration::from_micros(10), Duration::from_millis(30)] {
        let begun = Instant::now();
        assert!(!wait(rig, event, 1, Some(limit)));
        assert!(begun.elapsed() >= limit && begun.elapsed() < LIMIT);
    }
    signal(rig, event, 1);
    assert!(wait(rig, event, 1, Some(Duration::ZERO)));
}

pub(super) fn the_host_releases_a_submission(rig: &Rig) {
    let step = rig.pipeline(&STEP);
    let x = rig.zeros(64);
    let (gate, done) = (rig.event(0), rig.event(0));
    let commands = [rig.record(Timing::Off, false, |r| dispatch(r, step, &[x], &[64, 1, 9], 1))];
    let desc = SubmitDesc { label: "gated", commands: &commands, waits: &[(gate, 3)], signals: &[(done, 1)] };
    // SAFETY: commands came from this device; the rig keeps what they use.
    unsafe { rig.device.submit(&desc) }.unwrap();
    assert!(!wait(rig, done, 1, Some(Duration::from_millis(20))));
    signal(rig, gate, 2);
    assert!(!wait(rig, done, 1, Some(Duration::from_millis(20))));
    assert_eq!(read(x), [0; 64]);
    // A buffer can be made meanwhile.
    assert_eq!(read(rig.words(&[4])), [4]);
    signal(rig, gate, 3);
    assert!(wait(rig, done, 1, Some(LIMIT)));
    assert_eq!(read(x), [9; 64]);
}

pub(super) fn submissions_wait_for_submissions(rig: &Rig) {
    let step = rig.pipeline(&STEP);
    let x = rig.zeros(64);
    let chain = rig.event(0);
    for i in 0..10 {
        let commands = [rig.record(Timing::Off, false, |r| dispatch(r, step, &[x], &[64, 3, i], 1))];
        let (waits, signals) = ([(chain, u64::from(i))], [(chain, u64::from(i) + 1)]);
        let desc = SubmitDesc { label: "link", commands: &commands, waits: &waits, signals: &signals };
        // SAFETY: as above; the commands are dropped after their end.
        unsafe { rig.device.submit(&desc) }.unwrap();
        assert!(wait(rig, chain, u64::from(i) + 1, Some(LIMIT)));
    }
    assert_eq!(read(x), [(0..10).fold(0, |x: u32, i| x * 3 + i); 64]);
}

pub(super) fn submissions_of_nothing_signal(rig: &Rig) {
    let (gate, a, b) = (rig.event(0), rig.event(0), rig.event(10));
    let desc = SubmitDesc { label: "empty", commands: &[], waits: &[(gate, 1)], signals: &[(a, 1), (b, 11)] };
    // SAFETY: the rig keeps the events.
    unsafe { rig.device.submit(&desc) }.unwrap();
    assert_eq!((value(rig, a), value(rig, b)), (0, 10));
    signal(rig, gate, 1);
    assert!(wait(rig, a, 1, Some(LIMIT)) && wait(rig, b, 11, Some(LIMIT)));
}

pub(super) fn values_only_grow(rig: &Rig) {
    let step = rig.pipeline(&STEP);
    let x = rig.zeros(64);
    let event = rig.event(0);
    let all: Vec<_> =
        (0..50).map(|_| rig.record(Timing::Off, false, |r| dispatch(r, step, &[x], &[64, 1, 1], 1))).collect();
    for (i, commands) in all.iter().enumerate() {
        let commands = std::slice::from_ref(commands);
        let desc = SubmitDesc { label: "tick", commands, waits: &[], signals: &[(event, i as u64 + 1)] };
        // SAFETY: as above.
        unsafe { rig.device.submit(&desc) }.unwrap();
    }
    let mut last = 0;
    while last < 50 {
        let now = value(rig, event);
        assert!(now >= last && now <= 50);
        last = now;
        std::thread::yield_now();
    }
    assert_eq!(read(x), [50; 64]);
}

pub(super) fn another_thread_is_woken(rig: &Rig) {
    let event = rig.event(0);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| wait(rig, event, 1, Some(LIMIT)));
        signal(rig, event, 1);
        assert!(waiter.join().unwrap());
    });
}

/// One that has nothing to do waits for those before it all the same.
pub(super) fn submissions_of_nothing_wait_their_turn(rig: &Rig) {
    let step = rig.pipeline(&STEP);
    let x = rig.zeros(64);
    let (go, done) = (rig.event(0), rig.event(0));
    let commands = [rig.record(Timing::Off, false, |r| dispatch(r, step, &[x], &[64, 1, 1], 1))];
    let (waits, signals) = (&[(go, 1)], &[(done, 1)]);
    // SAFETY: the rig keeps all handles until the last wait has returned.
    unsafe {
        rig.device.submit(&SubmitDesc { label: "held", commands: &commands, waits, signals }).unwrap();
        rig.device.submit(&SubmitDesc { label: "behind", commands: &[], waits: &[], signals: &[(done, 2)] }).unwrap();
    }
    assert!(!wait(rig, done, 1, Some(Duration::ZERO)));
    signal(rig, go, 1);
    assert!(wait(rig, done, 2, Some(LIMIT)));
    assert_eq!((value(rig, done), read(x)), (2, vec![1; 64]));
}
