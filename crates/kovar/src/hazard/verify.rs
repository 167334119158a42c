//! A proof, for a finished recording, that every conflicting pair of commands is ordered.

use std::fmt;

use super::access::{Access, Conflict, NodeId, ResourceId};
use super::tracker::Tracker;

/// One command of a recording under examination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its name.
    pub label: String,
    /// What it touches.
    pub accesses: Vec<Access>,
    /// Whether a barrier, a fence or the order of the queue stands before it.
    pub ordered: bool,
}

/// Two commands that conflict with nothing between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Name and number of the earlier command.
    pub earlier: (NodeId, String),
    /// Name and number of the later one.
    pub later: (NodeId, String),
    /// Name of the buffer.
    pub buffer: String,
    /// Kind and bytes.
    pub conflict: Conflict,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { earlier, later, buffer, conflict } = self;
        let Conflict { kind, range, .. } = conflict;
        let ((e, earlier), (l, later)) = (earlier, later);
        write!(
            f,
            "{kind}: {later} (command {}) after {earlier} (command {}) on bytes {}..{} of {buffer:?}, with no barrier between",
            l.0, e.0, range.start, range.end
        )
    }
}

/// What the proof found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// Conflicts that nothing orders. Empty: the recording is right.
    pub violations: Vec<Violation>,
    /// Commands whose barrier could be left out with all others in place.
    pub redundant: Vec<NodeId>,
    /// Commands.
    pub commands: usize,
    /// Groups.
    pub groups: usize,
}

impl Verdict {
    /// Whether no barrier is missing.
    pub fn is_proved(&self) -> bool {
        self.violations.is_empty()
    }
}

/// Checks every pair of commands of each group, and whether each barrier is needed. `name` gives the name of an
/// allocation. Takes time in proportion to the number of accesses.
pub fn verify(steps: &[Step], name: impl Fn(ResourceId) -> String) -> Verdict {
    let starts: Vec<usize> = (0..steps.len()).filter(|at| *at == 0 || steps[*at].ordered).collect();
    let mut verdict = Verdict { commands: steps.len(), groups: starts.len(), ..Verdict::default() };
    let mut group = Tracker::default();
    for (index, start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(steps.len());
        // The tracker still holds the group before: does anything in this one conflict with it?
        let needed = steps[*start..end].iter().any(|step| group.conflict(&step.accesses).is_some());
        if index > 0 && !needed {
            verdict.redundant.push(NodeId(*start as u32));
        }
        group.close_group();
        for (at, step) in (*start..end).zip(&steps[*start..end]) {
            for access in &step.accesses {
                let Some(conflict) = group.conflict(std::slice::from_ref(access)) else { continue };
                let earlier = conflict.earlier;
                verdict.violations.push(Violation {
                    earlier: (earlier, steps[earlier.0 as usize].label.clone()),
                    later: (NodeId(at as u32), step.label.clone()),
                    buffer: name(conflict.resource),
                    conflict,
                });
            }
            group.record(NodeId(at as u32), &step.accesses);
        }
    }
    verdict
}
