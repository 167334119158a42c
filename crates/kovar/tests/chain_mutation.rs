//! The verifier against brute force over random chains of submissions and sessions: every barrier, every fence and every
//! wait is left out in turn.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/mutation.rs"]
mod mutation;

use std::collections::{BTreeMap, BTreeSet};

use common::{AXPY, AxpyParams};
use kovar::hazard::{Access, Link, ResourceId, Step, Trace, Violation, verify_chain, verify_traces};
use kovar::{Barriers, Buffer, CommandEncoder, DType, Device, Dispatch, EncoderOptions, Submission};
use mutation::{conflict, leave_out_each};
use proptest::collection::vec;
use proptest::prelude::*;

const N: usize = 256;

/// From buffer to buffer, which half or the whole, and whether it is a dispatch, a copy or a fill.
type Op = (usize, usize, usize, u8);

/// A recording: a stage of one of two sessions, or none's; how its barriers are placed; whether it waits for an event of
/// the host; and its commands.
#[derive(Debug, Clone)]
struct Recording {
    session: Option<usize>,
    barriers: Barriers,
    event: bool,
    ops: Vec<Op>,
}

fn recordings() -> impl Strategy<Value = Vec<Recording>> {
    let session = prop_oneof![Just(None), Just(Some(0)), Just(Some(1))];
    let barriers = prop_oneof![3 => Just(Barriers::Auto), 1 => Just(Barriers::Serial)];
    let ops = vec((0usize..5, 1usize..5, 0usize..3, 0u8..6), 1..6);
    let recording = (session, barriers, any::<bool>(), ops).prop_map(|(session, barriers, event, ops)| Recording {
        session,
        barriers,
        event,
        ops,
    });
    vec(recording, 2..7)
}

fn record(encoder: &mut CommandEncoder, buffers: &[Buffer], ops: &[Op]) {
    let kernel = encoder.device().kernel(&AXPY, &[]).unwrap();
    for (from, step, part, what) in ops {
        let range = [0..N / 2, N / 2..N, 0..N][*part].clone();
        let (x, y) = (&buffers[*from], &buffers[(from + step) % buffers.len()]);
        let (x, y) = (x.view(range.clone()).unwrap(), y.view(range).unwrap());
        let n = x.len() as u32;
        match what {
            0 => encoder.copy(&x, &y).unwrap(),
            1 => encoder.fill(&y, 0).unwrap(),
            _ => {
                let params = AxpyParams { n, a: 1.0 };
                let dispatch = Dispatch::new(&kernel).bind(0, &x).bind(1, &y).constants(&params);
                encoder.dispatch(dispatch.threads([n, 1, 1])).unwrap();
            }
        }
    }
}

/// Submits them in order.
fn submit(device: &Device, recordings: &[Recording]) -> Vec<Submission> {
    let buffers: Vec<Buffer> = (0..5).map(|_| device.buffer(DType::F32, &[N]).unwrap()).collect();
    let mut sessions = [device.session("one"), device.session("two")];
    let event = device.event().unwrap();
    event.signal(1).unwrap();
    let each = |recording: &Recording| {
        let options = EncoderOptions { trace: true, barriers: recording.barriers, ..EncoderOptions::default() };
        match recording.session {
            Some(session) => {
                let mut stage = sessions[session].stage_with(options).unwrap();
                if recording.event {
                    stage.wait_for(&event, 1).unwrap();
                }
                record(&mut stage, &buffers, &recording.ops);
                stage.fence().unwrap()
            }
            None => {
                let mut encoder = device.encoder_with(options).unwrap();
                record(&mut encoder, &buffers, &recording.ops);
                encoder.commit().unwrap()
            }
        }
    };
    recordings.iter().map(each).collect()
}

/// The commands of several recordings one after the other, buffers numbered by their names, with the recording of each.
struct Joined {
    steps: Vec<Step>,
    owners: Vec<usize>,
    names: Vec<String>,
}

impl Joined {
    fn of<'a>(traces: impl Iterator<Item = &'a Trace>) -> Joined {
        let mut numbers: BTreeMap<String, u32> = BTreeMap::new();
        let (mut steps, mut owners) = (Vec::new(), Vec::new());
        for (owner, trace) in traces.enumerate() {
            for (at, step) in trace.steps().iter().enumerate() {
                let moved = |access: &Access| {
                    let next = numbers.len() as u32;
                    let number = *numbers.entry(trace.buffer_name(access.resource)).or_insert(next);
                    Access { resource: ResourceId(number), ..access.clone() }
                };
                let accesses = step.accesses.iter().map(moved).collect();
                steps.push(Step { accesses, ordered: step.ordered || at == 0, label: step.label.clone() });
                owners.push(owner);
            }
        }
        let mut names: Vec<_> = numbers.into_iter().collect();
        names.sort_by_key(|(_, number)| *number);
        Joined { steps, owners, names: names.into_iter().map(|(name, _)| name).collect() }
    }

    fn name(&self, resource: ResourceId) -> String {
        self.names[resource.0 as usize].clone()
    }

    fn conflict(&self, earlier: usize, later: usize) -> bool {
        let [a, b] = [earlier, later].map(|at| &self.steps[at].accesses);
        a.iter().any(|a| b.iter().any(|b| conflict(a, b).is_some()))
    }

    /// Whether a violation tells the truth about two commands: their names, the buffer, the bytes and the kind.
    fn is_true(&self, violation: &Violation) -> bool {
        let [earlier, later] = [&violation.earlier, &violation.later].map(|(node, _)| &self.steps[node.0 as usize]);
        let labels = (&violation.earlier.1, &violation.later.1) == (&earlier.label, &later.label);
        let found = &violation.conflict;
        let is_said = |a: &Access, b: &Access| {
            let bytes = a.range.start.max(b.range.start)..a.range.end.min(b.range.end);
            let inside = bytes.start <= found.range.start && found.range.end <= bytes.end;
            conflict(a, b) == Some(found.kind) && self.name(a.resource) == violation.buffer && inside
        };
        let said = earlier.accesses.iter().any(|a| later.accesses.iter().any(|b| is_said(a, b)));
        labels && said && found.range.start < found.range.end && found.earlier == violation.earlier.0
    }
}

/// Which recordings end before another begins, by the waits alone.
fn before(links: &[Link<'_>], later: usize) -> BTreeSet<usize> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![later]);
    while let Some(at) = open.pop() {
        let awaited = links[at].after.iter().filter_map(|n| links.iter().position(|link| link.number == *n));
        open.extend(awaited.filter(|before| seen.insert(*before)));
    }
    seen
}

/// Later commands that meet one of a recording that theirs does not wait for.
fn unordered(joined: &Joined, links: &[Link<'_>]) -> BTreeSet<usize> {
    let is_unordered = |later: &usize| {
        let owner = joined.owners[*later];
        let ordered = before(links, owner);
        let free = |earlier: &usize| joined.owners[*earlier] < owner && !ordered.contains(&joined.owners[*earlier]);
        (0..*later).filter(free).any(|earlier| joined.conflict(earlier, *later))
    };
    (0..joined.steps.len()).filter(is_unordered).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Recordings on one queue: a fence between two of them is left out like a barrier within one.
    #[test]
    fn each_fence_and_each_barrier_in_turn(recordings in recordings()) {
        let device = common::null();
        let submissions = submit(&device, &recordings);
        let traces: Vec<&Trace> = submissions.iter().map(|submission| &**submission.trace().unwrap()).collect();
        let joined = Joined::of(traces.iter().copied());
        let verdict = verify_traces(traces.iter().copied());
        prop_assert!(verdict.is_proved());
        let mutations = leave_out_each(&joined.steps, |resource| joined.name(resource));
        let marked = joined.steps[1..].iter().filter(|step| step.ordered).count();
        prop_assert_eq!(mutations.needed + mutations.redundant, marked);
        // Of the redundant ones, the fences are nobody's to leave out.
        let starts = |at: usize| at == 0 || joined.owners[at] != joined.owners[at - 1];
        prop_assert!(verdict.redundant.iter().all(|node| !starts(node.0 as usize)), "{:?}", verdict.redundant);
    }

    /// Recordings that are ordered by their waits alone: those of their sessions and some more.
    #[test]
    fn each_wait_in_turn(recordings in recordings(), more in vec(vec(0usize..6, 0..3), 6)) {
        let device = common::null();
        let submissions = submit(&device, &recordings);
        let mut links: Vec<Link<'_>> = submissions.iter().map(|submission| Link::of(submission).unwrap()).collect();
        for (at, recording) in recordings.iter().enumerate() {
            let last = |session| (0..at).rev().find(|before| recordings[*before].session == Some(session));
            let expected = recording.session.and_then(last).map(|before| links[before].number);
            prop_assert_eq!(&links[at].after, &expected.into_iter().collect::<Vec<_>>(), "a stage waits for the last");
        }
        let numbers: Vec<u64> = links.iter().map(|link| link.number).collect();
        for (at, link) in links.iter_mut().enumerate() {
            let more = more[at].iter().filter(|before| **before < at).map(|before| numbers[*before]);
            link.after.extend(more);
            link.after.sort_unstable();
            link.after.dedup();
        }
        let joined = Joined::of(links.iter().map(|link| link.trace));
        let first = |owner: usize| joined.owners.iter().position(|other| *other == owner).unwrap() as u32;
        let check = |links: &[Link<'_>]| {
            let verdict = verify_chain(links);
            let named: BTreeSet<usize> = verdict.violations.iter().map(|v| v.later.0.0 as usize).collect();
            assert_eq!(named, unordered(&joined, links));
            for violation in &verdict.violations {
                let [earlier, later] = [violation.earlier.0, violation.later.0].map(|node| joined.owners[node.0 as usize]);
                assert!(earlier < later && !before(links, later).contains(&earlier), "{violation}");
                assert!(joined.is_true(violation), "{violation}");
            }
            verdict
        };
        let whole = check(&links);
        for at in 0..links.len() {
            let mut spare = 0;
            for wait in 0..links[at].after.len() {
                let mut broken = links.clone();
                broken[at].after.remove(wait);
                spare += usize::from(check(&broken).is_proved());
            }
            let barriers = verify_traces([links[at].trace]).redundant;
            let listed = whole.redundant.iter().filter(|node| node.0 == first(at)).count();
            prop_assert!(barriers.iter().all(|node| node.0 > 0), "{:?}", barriers);
            prop_assert_eq!(listed, usize::from(whole.is_proved() && spare > 0), "recording {}", at);
        }
    }
}
