//! Recordings that are ordered by what they wait for: a wait that is left out is found where it was needed, and only there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;

use kovar::hazard::{Link, Mode, Trace, verify_chain, verify_traces};
use kovar::{Buffer, DType, Device, EncoderOptions, Submission};
use proptest::prelude::*;

const BUFFERS: usize = 4;
const N: usize = 16;

type Op = (usize, usize, usize);

fn buffers(device: &Device) -> Vec<Buffer> {
    (0..BUFFERS).map(|_| device.buffer(DType::U32, &[N]).unwrap()).collect()
}

/// One stage for each list of copies between halves of buffers.
fn record(device: &Device, buffers: &[Buffer], stages: &[Vec<Op>]) -> Vec<Submission> {
    let mut session = device.session("chain");
    let options = EncoderOptions { trace: true, ..EncoderOptions::default() };
    let fence = |ops: &Vec<Op>| {
        let mut stage = session.stage_with(options.clone()).unwrap();
        for (from, to, half) in ops {
            let part = |buffer: usize| buffers[buffer].view(half * N / 2..(half + 1) * N / 2).unwrap();
            let to = if from == to { (to + 1) % BUFFERS } else { *to };
            stage.copy(&part(*from), &part(to)).unwrap();
        }
        stage.fence().unwrap()
    };
    stages.iter().map(fence).collect()
}

/// Bytes that a recording touches: buffer, byte, whether it is written.
fn bytes(trace: &Trace) -> BTreeSet<(String, u64, bool)> {
    let accesses = trace.steps().iter().flat_map(|step| &step.accesses);
    let bytes = accesses.flat_map(|access| {
        let (name, written) = (trace.buffer_name(access.resource), access.mode == Mode::Write);
        access.range.clone().map(move |byte| (name.clone(), byte, written))
    });
    bytes.collect()
}

fn conflict(a: &Trace, b: &Trace) -> bool {
    let (a, b) = (bytes(a), bytes(b));
    let meets = |(name, byte, written): &(String, u64, bool)| {
        b.contains(&(name.clone(), *byte, true)) || (*written && b.contains(&(name.clone(), *byte, false)))
    };
    a.iter().any(meets)
}

/// Whether every two recordings that conflict are ordered: found out byte by byte and wait by wait.
fn is_ordered(links: &[Link<'_>]) -> bool {
    let reaches = |earlier: usize, later: usize| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![later]);
        while let Some(at) = open.pop() {
            let before = links[at].after.iter().filter_map(|n| links.iter().position(|link| link.number == *n));
            open.extend(before.filter(|before| seen.insert(*before)));
        }
        seen.contains(&earlier)
    };
    let mut pairs = (0..links.len()).flat_map(|later| (0..later).map(move |earlier| (earlier, later)));
    pairs.all(|(earlier, later)| reaches(earlier, later) || !conflict(links[earlier].trace, links[later].trace))
}

fn stages() -> impl Strategy<Value = Vec<Vec<Op>>> {
    prop::collection::vec(prop::collection::vec((0..BUFFERS, 0..BUFFERS, 0..2usize), 1..4), 2..7)
}

proptest! {
    #[test]
    fn each_wait_left_out_in_turn_is_found_where_it_was_needed(stages in stages()) {
        let device = common::null();
        let buffers = buffers(&device);
        let submissions = record(&device, &buffers, &stages);
        let links: Vec<Link<'_>> = submissions.iter().map(|submission| Link::of(submission).unwrap()).collect();
        prop_assert!(links[1..].iter().all(|link| link.after == [link.number - 1]));
        let whole = verify_chain(&links);
        prop_assert!(whole.is_proved() && verify_traces(links.iter().map(|link| link.trace)).is_proved());
        prop_assert_eq!(whole.commands, stages.iter().map(Vec::len).sum::<usize>());
        let mut first = stages[0].len() as u32;
        for at in 1..links.len() {
            let mut broken = links.clone();
            broken[at].after.clear();
            let verdict = verify_chain(&broken);
            prop_assert_eq!(verdict.is_proved(), is_ordered(&broken), "without the wait of stage {}: {:?}", at, verdict);
            // Where it can be left out, it is listed; a barrier within may be listed by the same number.
            if verdict.is_proved() {
                prop_assert!(whole.redundant.iter().any(|node| node.0 == first));
            }
            for violation in &verdict.violations {
                prop_assert!(violation.earlier.0.0 < first && first <= violation.later.0.0, "{violation}");
            }
            first += stages[at].len() as u32;
        }
    }

    #[test]
    fn waits_of_any_shape_are_judged_like_byte_by_byte(
        stages in stages(),
        waits in prop::collection::vec(prop::collection::vec(0..6usize, 0..3), 6),
    ) {
        let device = common::null();
        let buffers = buffers(&device);
        let submissions = record(&device, &buffers, &stages);
        let mut links: Vec<Link<'_>> = submissions.iter().map(|submission| Link::of(submission).unwrap()).collect();
        let first = links[0].number;
        for (at, link) in links.iter_mut().enumerate() {
            link.after = waits[at].iter().filter(|before| **before < at).map(|before| first + *before as u64).collect();
        }
        prop_assert_eq!(verify_chain(&links).is_proved(), is_ordered(&links));
    }
}

#[test]
fn a_missing_wait_names_both_commands_the_buffer_and_the_bytes() {
    let device = common::null();
    let buffers = buffers(&device);
    let submissions = record(&device, &buffers, &[vec![(0, 1, 0)], vec![(2, 3, 0)], vec![(1, 2, 0)]]);
    let mut links: Vec<Link<'_>> = submissions.iter().map(|submission| Link::of(submission).unwrap()).collect();
    links[2].after.clear();
    let found: Vec<String> = verify_chain(&links).violations.iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), 2, "{found:?}");
    let name = |at: usize| Link::of(&submissions[2]).unwrap().trace.buffer_name(kovar::hazard::ResourceId(at as u32));
    assert_eq!(
        found[0],
        format!(
            "RAW: copy (command 2) after copy (command 0) on bytes 0..32 of {:?}, with no barrier between",
            name(0)
        )
    );
    assert_eq!(
        found[1],
        format!(
            "WAR: copy (command 2) after copy (command 1) on bytes 0..32 of {:?}, with no barrier between",
            name(1)
        )
    );
}

#[test]
fn a_stage_in_parts_waits_once_and_is_one_link() {
    let device = common::null();
    let buffers = buffers(&device);
    let mut session = device.session("parts");
    let mut fence = || {
        let options = EncoderOptions { trace: true, ..EncoderOptions::default() };
        let mut stage = session.stage_with(options).unwrap();
        stage.copy(&buffers[0], &buffers[1]).unwrap();
        stage.flush().unwrap();
        stage.copy(&buffers[1], &buffers[2]).unwrap();
        stage.fence().unwrap()
    };
    let submissions = [fence(), fence()];
    let links: Vec<Link<'_>> = submissions.iter().map(|submission| Link::of(submission).unwrap()).collect();
    assert_eq!((links[0].number, links[1].number, links[1].after.as_slice()), (2, 4, &[2][..]));
    assert!(verify_chain(&links).is_proved());
}
