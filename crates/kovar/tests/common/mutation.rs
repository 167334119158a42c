//! What a proof is worth: each barrier of a recording is left out in turn, and the verifier's answer is compared with that
//! of brute force, which knows neither tracker nor groups.

#![allow(dead_code)]

use kovar::hazard::{Access, HazardKind, Mode, ResourceId, Step, Verdict, verify};

/// What leaving out barriers one by one has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mutations {
    /// Barriers that were missed when they were gone.
    pub needed: usize,
    /// Barriers that were not.
    pub redundant: usize,
}

/// How two accesses conflict, if they do.
pub fn conflict(earlier: &Access, later: &Access) -> Option<HazardKind> {
    let meet = earlier.range.start < later.range.end && later.range.start < earlier.range.end;
    match (earlier.mode, later.mode) {
        _ if earlier.resource != later.resource || !meet => None,
        (Mode::Read, Mode::Read) => None,
        (Mode::Write, Mode::Read) => Some(HazardKind::Raw),
        (Mode::Read, Mode::Write) => Some(HazardKind::War),
        (Mode::Write, Mode::Write) => Some(HazardKind::Waw),
    }
}

/// First command of the group in which a command is.
fn group_of(steps: &[Step], at: usize) -> usize {
    (0..=at).rev().find(|start| steps[*start].ordered).unwrap_or(0)
}

/// Commands that conflict with an earlier one of their group: every pair is looked at.
pub fn unordered(steps: &[Step]) -> Vec<usize> {
    let conflicts = |a: &Step, b: &Step| a.accesses.iter().any(|a| b.accesses.iter().any(|b| conflict(a, b).is_some()));
    let is_unordered =
        |later: &usize| (group_of(steps, *later)..*later).any(|earlier| conflicts(&steps[earlier], &steps[*later]));
    (0..steps.len()).filter(is_unordered).collect()
}

/// Every violation says the truth about two commands of one group, and every command that has one is named.
fn check(steps: &[Step], verdict: &Verdict, name: &impl Fn(ResourceId) -> String) {
    let mut named: Vec<usize> = verdict.violations.iter().map(|v| v.later.0.0 as usize).collect();
    named.dedup();
    assert_eq!(named, unordered(steps));
    for violation in &verdict.violations {
        let (earlier, later) = (violation.earlier.0.0 as usize, violation.later.0.0 as usize);
        assert!(group_of(steps, later) <= earlier && earlier < later, "{violation}");
        assert_eq!((&violation.earlier.1, &violation.later.1), (&steps[earlier].label, &steps[later].label));
        let found = &violation.conflict;
        assert_eq!(violation.buffer, name(found.resource));
        // The bytes are exactly those of two accesses, one of each command, that conflict in the way that is said.
        let is_said = |a: &Access, b: &Access| {
            let bytes = a.range.start.max(b.range.start)..a.range.end.min(b.range.end);
            let inside = bytes.start <= found.range.start && found.range.end <= bytes.end;
            conflict(a, b) == Some(found.kind) && a.resource == found.resource && inside
        };
        let accesses = |at: usize| steps[at].accesses.iter();
        let said = accesses(earlier).any(|a| accesses(later).any(|b| is_said(a, b)));
        assert!(said && found.range.start < found.range.end, "{violation}");
    }
}

/// Leaves out each barrier in turn: one that is needed is missed, with both commands, the buffer, the bytes and the kind;
/// one that is not is listed as redundant before and not missed after.
pub fn leave_out_each(steps: &[Step], name: impl Fn(ResourceId) -> String) -> Mutations {
    let verdict = verify(steps, &name);
    assert!(verdict.is_proved(), "{:?}", verdict.violations);
    let mut mutations = Mutations::default();
    let mut steps = steps.to_vec();
    for at in (1..steps.len()).filter(|at| steps[*at].ordered).collect::<Vec<_>>() {
        steps[at].ordered = false;
        let without = verify(&steps, &name);
        check(&steps, &without, &name);
        let is_redundant = verdict.redundant.iter().any(|node| node.0 as usize == at);
        assert_eq!(without.is_proved(), is_redundant, "the barrier before command {at}");
        if is_redundant {
            mutations.redundant += 1;
        } else {
            // The barrier that is gone stood between the two.
            let across = |v: &kovar::hazard::Violation| (v.earlier.0.0 as usize) < at && at <= v.later.0.0 as usize;
            assert!(without.violations.iter().all(across), "{:?}", without.violations);
            mutations.needed += 1;
        }
        steps[at].ordered = true;
    }
    mutations
}

/// The same recording with a barrier before every command.
pub fn serial(steps: &[Step]) -> Vec<Step> {
    steps.iter().cloned().enumerate().map(|(at, step)| Step { ordered: at > 0, ..step }).collect()
}
