//! Each of Apple's rules, broken by hand: the checker reports that rule, and nothing of the calls as they were.

use super::super::call::{Call, Pass, Samples};
use super::super::check::{Live, Rule, check, validate};
use super::super::list::{Bound, List, Object};
use super::super::script::{plans, sample_buffers};
use super::*;

type Calls<'a> = Vec<Call<'a>>;
/// A rule, and a change that breaks it.
type Mutation = (Rule, fn(&mut Calls<'_>));

/// A recording with everything in it.
fn everything(pipelines: &Pipelines, timing: Timing) -> List {
    pipelines.record(timing, |recorder| {
        recorder.push_label("layer");
        dispatch(recorder, pipelines.raw(0), &[bind(0, 0), bind(1, 64), bind(2, 0)], Grid::Groups([4, 1, 1]));
        recorder.barrier();
        dispatch(recorder, pipelines.raw(0), &[bind(0, 128), bind(1, 64), bind(2, 0)], Grid::Groups([4, 2, 1]));
        copy(recorder, 1, 3, 256);
        recorder.barrier();
        fill(recorder, 4, 0);
        fill(recorder, 5, 0x01020304);
        recorder.pop_label();
        dispatch(recorder, pipelines.raw(1), &[bind(3, 0)], Grid::Indirect { buffer: buffer(4), offset: 16 });
    })
}

fn find(calls: &Calls<'_>, wanted: impl Fn(&Call<'_>) -> bool) -> usize {
    calls.iter().position(wanted).expect("the recording holds such a call")
}

const MUTATIONS: &[Mutation] = &[
    (Rule::OpenEncoderAtCommit, |calls| {
        let end = calls.iter().rposition(|call| *call == Call::End).unwrap();
        calls.remove(end);
    }),
    (Rule::OneEncoder, |calls| {
        let end = find(calls, |call| *call == Call::End);
        calls.remove(end);
    }),
    (Rule::OneEncoder, |calls| calls.insert(0, Call::Barrier)),
    (Rule::WrongEncoder, |calls| {
        let copy = find(calls, |call| matches!(call, Call::Copy { .. }));
        calls.insert(copy, Call::Barrier);
    }),
    (Rule::WaitsFirst, |calls| {
        let wait = calls.remove(0);
        let end = find(calls, |call| *call == Call::End);
        calls.insert(end + 1, wait);
    }),
    (Rule::SignalsLast, |calls| {
        let signal = calls.remove(calls.len() - 2);
        calls.insert(1, signal);
    }),
    (Rule::EventInEncoder, |calls| {
        let end = calls.iter().rposition(|call| *call == Call::End).unwrap();
        calls.swap(end, end + 1);
    }),
    (Rule::Kept, |calls| {
        let gone = Bound { buffer: Object(0x9999), offset: 0 };
        let at = find(calls, |call| matches!(call, Call::SetBuffer(..)));
        calls[at] = Call::SetBuffer(gone, 0);
    }),
    (Rule::Kept, |calls| calls[0] = Call::WaitEvent(Object(0x9999), 1)),
    (Rule::Bytes, |calls| {
        let at = find(calls, |call| matches!(call, Call::SetBytes(..)));
        calls[at] = Call::SetBytes(&[0; 4096], 3);
    }),
    (Rule::Bytes, |calls| {
        let at = find(calls, |call| matches!(call, Call::SetBytes(..)));
        calls[at] = Call::SetBytes(&[], 3);
    }),
    (Rule::Fence, |calls| {
        let at = find(calls, |call| *call == Call::WaitFence);
        calls.remove(at);
    }),
    (Rule::Fence, |calls| {
        let at = find(calls, |call| *call == Call::UpdateFence);
        calls.remove(at);
    }),
    (Rule::Fence, |calls| {
        let (wait, update) = (Call::WaitFence, Call::UpdateFence);
        let first = find(calls, |call| *call == wait);
        let second = find(calls, |call| *call == update);
        calls.swap(first, second);
    }),
    (Rule::Groups, |calls| {
        let at = find(calls, |call| *call == Call::PopGroup);
        calls.remove(at);
    }),
    (Rule::Groups, |calls| {
        let at = find(calls, |call| *call == Call::UpdateFence);
        calls.insert(at, Call::PopGroup);
    }),
    (Rule::Pipeline, |calls| {
        let at = find(calls, |call| matches!(call, Call::SetPipeline(_)));
        calls.remove(at);
    }),
    (Rule::Index, |calls| {
        let at = find(calls, |call| matches!(call, Call::SetBytes(..)));
        calls[at] = Call::SetBytes(&[1; 4], 31);
    }),
    (Rule::GroupMemory, |calls| {
        let at = find(calls, |call| matches!(call, Call::SetGroupMemory(..)));
        calls[at] = Call::SetGroupMemory(24, 0);
    }),
    (Rule::Empty, |calls| {
        let at = find(calls, |call| matches!(call, Call::Dispatch { .. }));
        calls[at] = Call::Dispatch { groups: [1, 0, 1], group_size: [32, 1, 1] };
    }),
    (Rule::Empty, |calls| {
        let at = find(calls, |call| matches!(call, Call::Fill { .. }));
        calls[at] = Call::Fill { to: Bound { buffer: Object(0x100), offset: 0 }, len: 0, byte: 0 };
    }),
    (Rule::Alignment, |calls| {
        let at = find(calls, |call| matches!(call, Call::Copy { .. }));
        let bound = Bound { buffer: Object(0x100), offset: 2 };
        calls[at] = Call::Copy { from: bound, to: bound, len: 8 };
    }),
    (Rule::Alignment, |calls| {
        let at = find(calls, |call| matches!(call, Call::DispatchIndirect { .. }));
        let at_odd = Bound { buffer: Object(0x100), offset: 6 };
        calls[at] = Call::DispatchIndirect { at: at_odd, group_size: [32, 1, 1] };
    }),
    (Rule::Rebinding, |calls| {
        let at = find(calls, |call| matches!(call, Call::SetBuffer(..)));
        calls.insert(at, calls[at]);
    }),
    (Rule::Rebinding, |calls| {
        let at = find(calls, |call| matches!(call, Call::SetBuffer(..)));
        calls.insert(at, Call::SetOffset(4, 9));
    }),
    (Rule::Committed, |calls| calls.truncate(calls.len() - 1)),
    (Rule::SampleReused, |calls| {
        let at = calls.iter().rposition(|call| matches!(call, Call::Open { .. })).unwrap();
        let samples = Samples { buffer: Object(0x200), start: 0, end: 1 };
        calls[at] = Call::Open { pass: Pass::Compute, samples: Some(samples), label: "" };
    }),
    (Rule::SampleIndex, |calls| {
        let at = calls.iter().rposition(|call| matches!(call, Call::Open { .. })).unwrap();
        let samples = Samples { buffer: Object(0x201), start: 4095, end: 4096 };
        calls[at] = Call::Open { pass: Pass::Compute, samples: Some(samples), label: "" };
    }),
];

#[test]
fn each_rule_is_reported_when_it_is_broken_by_hand() {
    let pipelines = Pipelines::new();
    let samples = [Object(0x200)];
    let (whole, timed) = (everything(&pipelines, Timing::Whole), everything(&pipelines, Timing::Dispatches));
    for (rule, mutate) in MUTATIONS {
        let list = if matches!(rule, Rule::SampleReused) { &timed } else { &whole };
        let mut calls = calls(list, &samples);
        assert_eq!(check(&calls, &kept()), [], "unbroken");
        mutate(&mut calls);
        let found = check(&calls, &kept());
        assert!(found.iter().any(|breach| breach.rule == *rule), "{rule:?} broken, but found {found:?}");
    }
    for rule in Rule::ALL {
        assert!(MUTATIONS.iter().any(|(broken, _)| *broken == rule), "{rule:?} is never broken");
    }
}

#[test]
fn a_submission_of_several_command_buffers_is_checked_as_one() {
    let pipelines = Pipelines::new();
    let list = everything(&pipelines, Timing::Dispatches);
    let (first, second) = ([Object(0x200)], [Object(0x201)]);
    let joined = [calls(&list, &first), calls(&list, &second)].concat();
    assert_eq!(check(&joined, &kept()), []);
    let shared = [calls(&list, &first), calls(&list, &first)].concat();
    assert!(check(&shared, &kept()).iter().any(|breach| breach.rule == Rule::SampleReused));
    assert_eq!(check(&[], &kept())[0].rule, Rule::Committed);
}

#[test]
fn samples_come_in_chunks_that_metal_takes() {
    let pipelines = Pipelines::new();
    let list = pipelines.record(Timing::Dispatches, |recorder| {
        for _ in 0..5000 {
            dispatch(recorder, pipelines.raw(1), &[bind(0, 0)], Grid::Groups([1, 1, 1]));
        }
        dispatch(recorder, pipelines.raw(1), &[bind(0, 0)], Grid::Groups([1, 0, 1]));
        copy(recorder, 0, 1, 0);
        copy(recorder, 0, 1, 4);
    });
    assert_eq!(sample_buffers(list.timed_passes), [4096, 4096, 1810]);
    assert_eq!(list.timed[4999..], [Some(4999), None, None, Some(5000)]);
    let samples = [Object(0x200), Object(0x201), Object(0x202)];
    let calls = calls(&list, &samples);
    assert_eq!(check(&calls, &kept()), []);
    let opened = calls.iter().filter(|call| matches!(call, Call::Open { samples: Some(_), .. })).count();
    assert_eq!(opened, 5001);
}

#[test]
fn a_submission_that_uses_what_is_gone_is_reported() {
    let pipelines = Pipelines::new();
    let list = everything(&pipelines, Timing::Whole);
    let shared = Plan { list: None, waits: &WAITS, signals: &SIGNALS, labels: true, samples: &[], scratch: SCRATCH };
    let plans = plans(&shared, &[(&list, &[])]);
    let live = Live::default();
    live.note(&(0x10..0x110).map(Object).collect::<Vec<_>>(), true);
    assert_eq!(validate(&plans, live.objects()), [] as [String; 0]);
    live.note(&[Object(buffer(3).id)], false);
    let messages = validate(&plans, live.objects());
    assert!(messages[0].starts_with("step: call ") && messages[0].contains("Kept"), "{messages:?}");
}
