//! Explanations and traces: what they say is what was recorded.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{AXPY, AxpyParams, cpu, null};
use kovar::hazard::{HazardKind, verify, verify_traces};
use kovar::{
    Barriers, Buffer, CommandEncoder, DType, Device, Dispatch, EncoderOptions, ExecutableOptions, Explanation, Graph,
    Kernel, OpKind,
};
use proptest::collection::vec;
use proptest::prelude::*;

const N: usize = 64;

fn step(encoder: &mut CommandEncoder, kernel: &Kernel, label: &str, from: &Buffer, to: &Buffer) -> kovar::Result<()> {
    let n = from.len() as u32;
    let params = AxpyParams { n, a: 1.0 };
    let dispatch = Dispatch::new(kernel).bind(0, from).bind(1, to).constants(&params).threads([n, 1, 1]);
    encoder.dispatch(dispatch.label(label).kind(OpKind::Elementwise))
}

fn buffers(device: &Device, count: usize) -> Vec<Buffer> {
    (0..count).map(|_| device.buffer(DType::F32, &[N]).unwrap()).collect()
}

/// a → b, a → c, then b → c, a forced barrier, and b → a.
fn sample(device: &Device) -> Graph {
    let kernel = device.kernel(&AXPY, &[]).unwrap();
    let buffer = |label: &str| device.buffer_in(kovar::MemoryKind::Shared, DType::F32, &[N], label).unwrap();
    let (a, b, c) = (buffer("a"), buffer("b & <b>"), buffer("c"));
    Graph::capture::<kovar::Error>(device, "a \"sample\" <1>", |encoder| {
        step(encoder, &kernel, "first", &a, &b)?;
        step(encoder, &kernel, "second", &a, &c)?;
        step(encoder, &kernel, "third", &b, &c)?;
        encoder.force_barrier();
        step(encoder, &kernel, "fourth", &b, &a)
    })
    .unwrap()
}

#[test]
fn groups_reasons_and_the_critical_path() {
    let explanation = sample(&null()).explain();
    let groups: Vec<_> = explanation.groups.iter().map(|group| group.commands.clone()).collect();
    assert_eq!(groups, [0..2, 2..3, 3..4]);
    assert!(explanation.groups[0].barrier.is_none());
    let barrier = explanation.groups[1].barrier.as_ref().unwrap();
    assert!(!barrier.asked);
    let kinds: Vec<_> = barrier.reasons.iter().map(|r| (r.kind, r.earlier, r.later)).collect();
    assert_eq!(kinds, [(HazardKind::Raw, 0, 2), (HazardKind::Waw, 1, 2)]);
    assert_eq!(barrier.reasons[0].bytes, 0..4 * N as u64);
    let forced = explanation.groups[2].barrier.as_ref().unwrap();
    assert!(forced.asked && forced.reasons.is_empty());
    // The forced barrier orders all before all after.
    assert_eq!(explanation.critical_path, [0, 2, 3]);
    assert_eq!(explanation.commands[3].after.iter().map(|r| r.earlier).collect::<Vec<_>>(), [0, 0, 1]);
    assert_eq!(explanation.barriers().total(), 2);
    assert!(explanation.missing.is_empty());
}

#[test]
fn costs_decide_the_critical_path() {
    let explanation = sample(&null()).explain_by(|command| if command.label == "second" { 10.0 } else { 1.0 });
    assert_eq!(explanation.critical_path, [1, 2, 3]);
    assert_eq!((explanation.critical_cost, explanation.total_cost), (12.0, 13.0));
    assert!(explanation.summary().contains("cost 12"), "{}", explanation.summary());
}

#[test]
fn every_form_names_what_there_is_and_escapes_it() {
    let explanation = sample(&null()).explain();
    let text = explanation.to_text();
    for part in ["group 3", "RAW on b & <b> #1, bytes 0..256: third (2) after first (0)", "asked for by the caller"] {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
    let json: serde_json::Value = serde_json::from_str(&explanation.to_json()).unwrap();
    assert_eq!(json["commands"].as_array().unwrap().len(), 4);
    assert_eq!(json["groups"][1]["barrier"]["reasons"][0]["kind"], "RAW");
    assert_eq!(json["commands"][2]["uses"][1]["slot"], "y");
    assert_eq!(json["commands"][0]["grid"], "1x1x1");
    let dot = explanation.to_dot();
    assert!(dot.starts_with("digraph \"a \\\"sample\\\" <1>\" {"), "{dot}");
    assert!(dot.contains("c0 -> c2") && dot.matches('{').count() == dot.matches('}').count());
    let svg = explanation.to_svg();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    assert!(svg.contains("a &quot;sample&quot; &lt;1&gt;") && !svg.contains("<b>"));
    assert_eq!(svg.matches("<g>").count(), svg.matches("</g>").count());
    // Boxes and barriers have a tooltip each.
    assert_eq!(svg.matches("<title>").count(), 4 + 2);
}

#[test]
fn nothing_is_explained_too() {
    let graph = Graph::capture::<kovar::Error>(&null(), "empty", |_| Ok(())).unwrap();
    let explanation = graph.explain();
    assert_eq!(explanation.critical_path, [0usize; 0]);
    assert!(explanation.to_svg().ends_with("</svg>\n") && explanation.to_dot().ends_with("}\n"));
}

fn options(barriers: Barriers) -> EncoderOptions {
    EncoderOptions { label: "live".into(), barriers, trace: true, ..EncoderOptions::default() }
}

#[test]
fn a_trace_is_kept_when_asked_for() {
    let device = cpu();
    let kernel = device.kernel(&AXPY, &[]).unwrap();
    let b = buffers(&device, 2);
    let mut encoder = device.encoder().unwrap();
    step(&mut encoder, &kernel, "untraced", &b[0], &b[1]).unwrap();
    assert!(encoder.commit().unwrap().wait().unwrap().trace.is_none());

    let mut encoder = device.encoder_with(options(Barriers::Auto)).unwrap();
    step(&mut encoder, &kernel, "one", &b[0], &b[1]).unwrap();
    step(&mut encoder, &kernel, "two", &b[1], &b[0]).unwrap();
    encoder.force_barrier();
    step(&mut encoder, &kernel, "three", &b[0], &b[1]).unwrap();
    let submission = encoder.commit().unwrap();
    assert!(submission.trace().is_some());
    let trace = submission.wait().unwrap().trace.unwrap();
    assert_eq!(trace.label(), "live");
    let ordered: Vec<_> = trace.steps().iter().map(|step| (step.label.as_str(), step.ordered)).collect();
    assert_eq!(ordered, [("one", false), ("two", true), ("three", true)]);
    assert!(trace.verify().is_proved());
    let asked: Vec<_> =
        trace.explain().groups.iter().map(|group| group.barrier.as_ref().map(|barrier| barrier.asked)).collect();
    assert_eq!(asked, [None, Some(false), Some(true)]);
}

#[test]
fn traces_in_order_of_submission_are_one_recording() {
    let device = cpu();
    let kernel = device.kernel(&AXPY, &[]).unwrap();
    let b = buffers(&device, 3);
    let mut traces = Vec::new();
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        let mut encoder = device.encoder_with(options(Barriers::Auto)).unwrap();
        // Numbers of allocations differ from recording to recording.
        step(&mut encoder, &kernel, "step", &b[from], &b[to]).unwrap();
        traces.push(encoder.commit().unwrap().wait().unwrap().trace.unwrap());
    }
    let verdict = verify_traces(traces.iter().map(AsRef::as_ref));
    assert!(verdict.is_proved() && verdict.redundant.is_empty(), "{verdict:?}");
    assert_eq!((verdict.commands, verdict.groups), (3, 3));
    assert!(verify_traces([]).is_proved());
}

#[test]
fn what_an_executable_does_is_proved_over_its_real_memory() {
    let device = cpu();
    let kernel = device.kernel(&AXPY, &[]).unwrap();
    let b = buffers(&device, 2);
    let graph = Graph::capture::<kovar::Error>(&device, "scratch", |encoder| {
        let mut last = b[0].clone();
        for _ in 0..6 {
            let next = encoder.scratch(DType::F32, &[N])?;
            encoder.fill(&next, 0)?;
            step(encoder, &kernel, "step", &last, &next)?;
            last = next;
        }
        step(encoder, &kernel, "last", &last, &b[1])
    })
    .unwrap();
    let executable = graph.compile(&ExecutableOptions { repeat: 3, ..ExecutableOptions::default() }).unwrap();
    let trace = executable.trace().unwrap();
    assert_eq!(trace.steps().len() as u64, executable.stats().dispatches + executable.stats().transfers);
    let placed = trace.steps().iter().filter(|step| step.ordered).count() as u64;
    assert_eq!(placed, executable.stats().barriers_placed);
    assert!(trace.verify().is_proved());
    assert!(verify_traces([&trace, &trace]).is_proved());
}

/// Every pair of commands in one group, by brute force.
fn conflicts_within_groups(explanation: &Explanation) -> bool {
    explanation.groups.iter().any(|group| {
        group.commands.clone().any(|later| {
            (group.commands.start..later).any(|earlier| {
                let uses = |at: usize| &explanation.commands[at].uses;
                uses(earlier).iter().any(|a| {
                    uses(later).iter().any(|b| {
                        let meet = a.bytes.start < b.bytes.end && b.bytes.start < a.bytes.end;
                        a.buffer == b.buffer && meet && (a.written || b.written)
                    })
                })
            })
        })
    })
}

/// The longest chain of conflicting commands, by brute force over all pairs.
fn longest_chain(explanation: &Explanation) -> usize {
    let commands = &explanation.commands;
    let mut longest = vec![1; commands.len()];
    for later in 0..commands.len() {
        for earlier in 0..later {
            let conflict = commands[earlier].uses.iter().any(|a| {
                commands[later].uses.iter().any(|b| {
                    let meet = a.bytes.start < b.bytes.end && b.bytes.start < a.bytes.end;
                    a.buffer == b.buffer && meet && (a.written || b.written)
                })
            });
            if conflict {
                longest[later] = longest[later].max(longest[earlier] + 1);
            }
        }
    }
    longest.into_iter().max().unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_recordings(ops in vec((0usize..5, 1usize..5, 0usize..3, 0u8..12), 1..60)) {
        let device = null();
        let kernel = device.kernel(&AXPY, &[]).unwrap();
        let b = buffers(&device, 5);
        let part = |buffer: &Buffer, part: usize| match part {
            0 => buffer.view(0..N / 2).unwrap(),
            1 => buffer.view(N / 2..N).unwrap(),
            _ => buffer.clone(),
        };
        let record = |encoder: &mut CommandEncoder, forced: bool| -> kovar::Result<()> {
            for (from, skip, half, barrier) in &ops {
                if *barrier == 0 && forced {
                    encoder.force_barrier();
                }
                let (from, to) = (part(&b[*from], *half), part(&b[(from + skip) % 5], *half));
                step(encoder, &kernel, "op", &from, &to)?;
            }
            Ok(())
        };
        let graph = Graph::capture(&device, "random", |e| record(e, true)).unwrap();
        let explanation = graph.explain();
        prop_assert!(explanation.missing.is_empty() && !conflicts_within_groups(&explanation));
        let justified = explanation.groups.iter().skip(1).all(|group| {
            group.barrier.as_ref().is_some_and(|barrier| barrier.asked || !barrier.reasons.is_empty())
        });
        prop_assert!(justified);
        prop_assert!(explanation.critical_path.len() <= explanation.groups.len());

        // Without forced barriers the path is the longest chain of conflicts, and the live trace says the same.
        let graph = Graph::capture(&device, "random", |e| record(e, false)).unwrap();
        let explanation = graph.explain();
        prop_assert_eq!(explanation.critical_path.len(), longest_chain(&explanation));
        let mut encoder = device.encoder_with(options(Barriers::Auto)).unwrap();
        record(&mut encoder, false).unwrap();
        let trace = encoder.commit().unwrap().wait().unwrap().trace.unwrap();
        let live = trace.explain();
        prop_assert_eq!(&live.groups, &explanation.groups);
        prop_assert_eq!(&live.critical_path, &explanation.critical_path);

        // A needed barrier less is seen by the explanation as by the verifier.
        if let Some(at) = trace.steps().iter().rposition(|step| step.ordered) {
            let mut steps = trace.steps().to_vec();
            steps[at].ordered = false;
            prop_assert!(!verify(&steps, |r| trace.buffer_name(r)).is_proved());
        }
    }
}
