//! Random programs that hold the patterns of the fusion rules, with readers, writers and aliases in between: what is fused
//! computes the same and misses no barrier.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::cell::RefCell;
use std::collections::BTreeMap;

use common::{Command, KEPT, Op, World, meet};
use kovar_checks::ops::harness::{cpu, for_any};
use kovar_ops::fusion_rules;
use proptest::prelude::*;

/// Scratch buffers of a program.
const SCRATCH: usize = 24;

/// What a command of a pattern reads: something that is there, or what an earlier command of the pattern made.
#[derive(Clone, Copy)]
enum Input {
    Any,
    Made(usize),
}
use Input::{Any, Made};

type Pattern = &'static [(Op, [Input; 2])];

/// A pattern for each rule; of each, every command makes one buffer.
const PATTERNS: [Pattern; 7] = [
    &[
        (Op::Norm, [Any, Any]),
        (Op::Product, [Made(0), Any]),
        (Op::Product, [Made(0), Any]),
        (Op::Silu, [Made(1), Made(2)]),
    ],
    &[
        (Op::Norm, [Any, Any]),
        (Op::Product, [Made(0), Any]),
        (Op::Product, [Made(0), Any]),
        (Op::Product, [Made(0), Any]),
    ],
    &[(Op::Norm, [Any, Any]), (Op::Product, [Made(0), Any])],
    &[(Op::Product, [Any, Any]), (Op::Add, [Any, Made(0)])],
    &[(Op::HeadNorm, [Any, Any]), (Op::Rotary, [Made(0), Any]), (Op::Write, [Made(1), Any])],
    &[(Op::HeadNorm, [Any, Any]), (Op::Rotary, [Made(0), Any])],
    &[(Op::Add, [Any, Any]), (Op::Norm, [Made(0), Any])],
];

const OPS: [Op; 7] = [Op::Norm, Op::Product, Op::Silu, Op::Add, Op::HeadNorm, Op::Rotary, Op::Write];

/// A pattern, and commands of anybody else: after which command of the pattern, and which.
#[derive(Debug, Clone)]
struct Segment {
    pattern: usize,
    choices: [u8; 16],
    others: Vec<(usize, usize, [u8; 4])>,
}

fn segment() -> impl Strategy<Value = Segment> {
    let other = (0..4usize, 0..OPS.len(), any::<[u8; 4]>());
    let others = prop_oneof![2 => Just(vec![]), 1 => prop::collection::vec(other, 1..3)];
    (0..PATTERNS.len(), any::<[u8; 16]>(), others).prop_map(|(pattern, choices, others)| Segment {
        pattern,
        choices,
        others,
    })
}

/// A program in the making: which buffers hold something, and which were written last.
struct Program {
    known: Vec<usize>,
    commands: Vec<Command>,
}

impl Program {
    fn of(segments: &[Segment]) -> Vec<Command> {
        let mut program = Program { known: (0..KEPT).collect(), commands: Vec::new() };
        for Segment { pattern, choices, others } in segments {
            let mut made = Vec::new();
            // In one of four patterns, a command sees its numbers in another form than the others, which no rule may take
            // for the same.
            let (is_narrow, other) = (choices[0] % 2 == 1, usize::from(choices[0] / 8) % 4);
            let narrow = |at: usize| is_narrow != (choices[0] % 8 >= 6 && at == other);
            for (at, (op, [a, b])) in PATTERNS[*pattern].iter().enumerate() {
                let pick = &choices[at * 4..at * 4 + 4];
                let from = |program: &Program, from: &Input, pick: u8| match from {
                    Any => program.readable(pick),
                    Made(made_at) => made[*made_at],
                };
                let (a, b) = (from(&program, a, pick[1]), from(&program, b, pick[2]));
                let which = if pick[3] % 8 == 0 { 2 } else { usize::from(pick[3] % 2) };
                made.push(program.push(*op, [a, b], pick[3], narrow(at), which));
                for (_, op, [a, b, y, form]) in others.iter().filter(|(after, ..)| *after == at) {
                    let (a, b) = (program.readable(*a), program.readable(*b));
                    program.push(OPS[*op], [a, b], *y, form % 2 == 0, usize::from(form / 2));
                }
            }
        }
        program.commands
    }

    /// A buffer that holds something, more likely one that was written lately.
    fn readable(&self, pick: u8) -> usize {
        let known = if pick.is_multiple_of(2) { &self.known[..] } else { &self.known[self.known.len() - 4..] };
        known[usize::from(pick / 2) % known.len()]
    }

    /// Adds a command that writes a buffer of its choice, three times of four scratch. None writes what it reads.
    fn push(&mut self, op: Op, [a, b]: [usize; 2], pick: u8, narrow: bool, which: usize) -> usize {
        let mut command = Command { op, a, b, y: 0, narrow, which };
        let kept = pick.is_multiple_of(4) || op == Op::Write;
        let all: Vec<usize> = if kept { (0..KEPT).collect() } else { (KEPT..KEPT + SCRATCH).collect() };
        let free = |y: &&usize| command.reads().iter().all(|read| !meet(*read, **y));
        let free: Vec<usize> = all.iter().filter(free).copied().collect();
        command.y = free[usize::from(pick / 4) % free.len()];
        self.known.retain(|known| *known != command.y);
        self.known.push(command.y);
        self.commands.push(command);
        command.y
    }
}

#[test]
fn fused_programs_compute_the_same() {
    // At the first position, and at the second, where a cache of one row has no room left.
    compute_the_same(&World::new(cpu(), 4));
    compute_the_same(&World::new(cpu(), 5));
}

fn compute_the_same(world: &World) {
    let applied: RefCell<BTreeMap<&str, [usize; 2]>> = RefCell::default();
    for_any(1000, (prop::collection::vec(segment(), 1..6), 0usize..20), |(segments, look_ahead)| {
        let commands = Program::of(&segments);
        let plain = world.capture(&commands);
        let mut fused = plain.clone();
        let rules = fused.fuse(fusion_rules()).unwrap();
        assert!(fused.verify().is_proved(), "{commands:#?}");
        let expected = world.run(plain);
        assert_eq!(world.run(fused.clone()), expected, "{rules:?} of {commands:#?}");
        fused.reorder(look_ahead);
        assert!(fused.verify().is_proved(), "{commands:#?}");
        assert_eq!(world.run(fused), expected, "reordered: {rules:?} of {commands:#?}");
        for (name, times) in rules {
            applied.borrow_mut().entry(name).or_default()[usize::from(times > 0)] += 1;
        }
    });
    // These programs have no attention: `fusion.rs` has, for its rules.
    for (name, [without, with]) in applied.into_inner().into_iter().filter(|(name, _)| !name.contains("attention")) {
        assert!(with > 0 && without > 0, "{name}: applied in {with} programs, in {without} not");
    }
}
