//! What an encoder recorded, kept for examination.

use super::access::{Access, ResourceId};
use super::explain::{Command, Explanation, Item, explain};
use super::verify::{Step, Verdict, verify};

/// The commands of one recording in order, with their barriers and the bytes that they touch.
///
/// An encoder keeps one when [`EncoderOptions::trace`](crate::EncoderOptions::trace) asks for it;
/// [`Submission::trace`](crate::Submission::trace) and [`Completed::trace`](crate::Completed::trace) give it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trace {
    pub(crate) label: String,
    pub(crate) steps: Vec<Step>,
    /// Steps before which the caller, not the tracker, asked for a barrier.
    pub(crate) asked: Vec<usize>,
    /// Those of them that begin a part of the recording which is handed over by itself: the queue orders it after the part
    /// before, which nobody can leave out.
    pub(crate) queued: Vec<usize>,
    /// The allocation behind each number: its identity on the device and its name.
    pub(crate) resources: Vec<(u64, String)>,
}

/// A trace in the making.
#[derive(Debug, Default)]
pub(crate) struct Tracing {
    steps: Vec<Step>,
    asked: Vec<usize>,
    queued: Vec<usize>,
    barrier: Option<Cause>,
}

/// Who wanted a barrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Tracker,
    Caller,
    Queue,
}

impl Tracing {
    pub(crate) fn barrier(&mut self, cause: Cause) {
        // A wish stays one when the tracker would have placed a barrier too; nothing stands above the queue.
        match (self.barrier, cause) {
            (Some(Cause::Queue), _) | (Some(Cause::Caller), Cause::Tracker) => {}
            _ => self.barrier = Some(cause),
        }
    }

    pub(crate) fn command(&mut self, label: &str, accesses: &[Access]) {
        let barrier = self.barrier.take();
        if matches!(barrier, Some(Cause::Caller | Cause::Queue)) {
            self.asked.push(self.steps.len());
        }
        if barrier == Some(Cause::Queue) {
            self.queued.push(self.steps.len());
        }
        self.steps.push(Step { label: label.into(), accesses: accesses.to_vec(), ordered: barrier.is_some() });
    }

    pub(crate) fn finish(self, label: &str, resources: Vec<(u64, String)>) -> Trace {
        Trace { label: label.into(), steps: self.steps, asked: self.asked, queued: self.queued, resources }
    }
}

impl Trace {
    /// Label of the recording.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Its commands.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Name of the buffer behind a number of this trace.
    pub fn buffer_name(&self, resource: ResourceId) -> String {
        name(&self.resources, resource)
    }

    /// Proves that no barrier is missing within this recording.
    pub fn verify(&self) -> Verdict {
        let mut verdict = verify(&self.steps, |resource| self.buffer_name(resource));
        verdict.redundant.retain(|node| self.queued.binary_search(&(node.0 as usize)).is_err());
        verdict
    }

    /// Why each barrier stands.
    pub fn explain(&self) -> Explanation {
        let items = self.steps.iter().enumerate().map(|(at, step)| Item {
            label: &step.label,
            accesses: &step.accesses,
            ordered: step.ordered,
            asked: self.asked.binary_search(&at).is_ok(),
            ..Item::default()
        });
        explain(&self.label, items.collect(), |resource, _| self.buffer_name(resource), |_: &Command| 1.0)
    }
}

pub(super) fn name(resources: &[(u64, String)], resource: ResourceId) -> String {
    match resources.get(resource.0 as usize) {
        Some((id, label)) => format!("{label} #{id}"),
        None => format!("allocation {}", resource.0),
    }
}
