//! Proofs over several recordings: ordered by the queue, or by what they wait for.

use std::ops::Range;

use rustc_hash::FxHashMap;

use super::access::{NodeId, ResourceId};
use super::trace::{Trace, name};
use super::tracker::Tracker;
use super::verify::{Step, Verdict, Violation, verify};
use crate::Submission;

/// Recordings with their commands numbered through, and one number for each allocation.
#[derive(Default)]
struct Joined {
    steps: Vec<Step>,
    resources: Vec<(u64, String)>,
    /// The commands of each recording.
    ranges: Vec<Range<usize>>,
    /// Commands that the queue orders after those before in their recording, in order.
    queued: Vec<usize>,
}

impl Joined {
    fn of<'a>(traces: impl IntoIterator<Item = &'a Trace>) -> Joined {
        let mut joined = Joined::default();
        let mut numbers: FxHashMap<u64, u32> = FxHashMap::default();
        for trace in traces {
            let number = |(id, label): &(u64, String)| {
                ResourceId(*numbers.entry(*id).or_insert_with(|| {
                    joined.resources.push((*id, label.clone()));
                    joined.resources.len() as u32 - 1
                }))
            };
            let shared: Vec<ResourceId> = trace.resources.iter().map(number).collect();
            let first = joined.steps.len();
            joined.steps.extend(trace.steps.iter().cloned());
            for access in joined.steps[first..].iter_mut().flat_map(|step| &mut step.accesses) {
                if let Some(number) = shared.get(access.resource.0 as usize) {
                    access.resource = *number;
                }
            }
            joined.queued.extend(trace.queued.iter().map(|at| first + at));
            joined.ranges.push(first..joined.steps.len());
        }
        joined
    }

    fn name(&self, resource: ResourceId) -> String {
        name(&self.resources, resource)
    }

    /// Conflicts of one recording with an earlier one, as if nothing stood between: all of them, or the first.
    fn conflicts(&self, earlier: usize, later: usize, all: bool) -> Vec<Violation> {
        let mut before = Tracker::default();
        for at in self.ranges[earlier].clone() {
            before.record(NodeId(at as u32), &self.steps[at].accesses);
        }
        let accesses = self.ranges[later].clone().flat_map(|at| self.steps[at].accesses.iter().map(move |a| (at, a)));
        let found = accesses.filter_map(|(at, access)| {
            let conflict = before.conflict(std::slice::from_ref(access))?;
            Some(Violation {
                earlier: (conflict.earlier, self.steps[conflict.earlier.0 as usize].label.clone()),
                later: (NodeId(at as u32), self.steps[at].label.clone()),
                buffer: self.name(conflict.resource),
                conflict,
            })
        });
        found.take(if all { usize::MAX } else { 1 }).collect()
    }
}

/// Proves that no barrier is missing in several recordings of one device, given in the order of their submission.
///
/// A device executes submissions in that order, with a barrier between two of them, so that the start of each recording
/// counts as ordered: by the queue, which no recording can leave out, so that it is never listed as redundant. Commands
/// are numbered through all recordings.
pub fn verify_traces<'a>(traces: impl IntoIterator<Item = &'a Trace>) -> Verdict {
    let mut joined = Joined::of(traces);
    let mut by_queue = std::mem::take(&mut joined.queued);
    for range in &joined.ranges {
        by_queue.push(range.start);
        if let Some(step) = joined.steps.get_mut(range.start) {
            step.ordered = true;
        }
    }
    by_queue.sort_unstable();
    let mut verdict = verify(&joined.steps, |resource| joined.name(resource));
    verdict.redundant.retain(|node| by_queue.binary_search(&(node.0 as usize)).is_err());
    verdict
}

/// A recording with the submissions that it waits for.
///
/// ```
/// # use kovar::{Backend, DType, Device, DeviceOptions, EncoderOptions};
/// use kovar::hazard::{Link, verify_chain};
///
/// let device = Device::open(&DeviceOptions::of(Backend::Null))?;
/// let x = device.buffer(DType::U32, &[4])?;
/// let mut session = device.session("decode");
/// let mut stages = Vec::new();
/// for word in 0..3 {
///     let mut stage = session.stage_with(EncoderOptions { trace: true, ..EncoderOptions::default() })?;
///     stage.fill(&x, word)?;
///     stages.push(stage.fence()?);
/// }
/// let mut links: Vec<Link<'_>> = stages.iter().filter_map(Link::of).collect();
/// assert!(verify_chain(&links).is_proved());
/// links[2].after.clear(); // the last stage no longer waits
/// let verdict = verify_chain(&links);
/// assert_eq!(verdict.violations.len(), 2); // with each stage before, on the same bytes
/// # Ok::<(), kovar::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Link<'a> {
    /// What was recorded.
    pub trace: &'a Trace,
    /// The submission's number, which the others wait for.
    pub number: u64,
    /// Numbers of the submissions that it waits for.
    pub after: Vec<u64>,
}

impl<'a> Link<'a> {
    /// That of a submission, if its encoder was asked to keep a trace.
    pub fn of(submission: &'a Submission) -> Option<Link<'a>> {
        let trace = submission.trace()?;
        Some(Link { trace, number: submission.number(), after: submission.after().into_iter().collect() })
    }
}

/// Proves that recordings are ordered by what they wait for alone, as if each had a queue of its own: two that conflict must
/// be ordered by a wait, or by a chain of them. Where a wait is missing, both commands, the buffer and the bytes are
/// named. Within each recording its barriers are looked at as in [`Trace::verify`].
///
/// Commands are numbered through all recordings, in the order of `links`; [`Verdict::redundant`] names, besides barriers, the
/// first command of each recording that could go without one of its waits, with all others in place. Takes time in
/// proportion to the cube of the number of recordings.
pub fn verify_chain(links: &[Link<'_>]) -> Verdict {
    let joined = Joined::of(links.iter().map(|link| link.trace));
    let mut verdict = Verdict { commands: joined.steps.len(), ..Verdict::default() };
    for range in &joined.ranges {
        let own = verify(&joined.steps[range.clone()], |resource| joined.name(resource));
        let moved = |node: NodeId| NodeId(node.0 + range.start as u32);
        verdict.groups += own.groups;
        let queued = |node: &NodeId| joined.queued.binary_search(&(node.0 as usize)).is_ok();
        verdict.redundant.extend(own.redundant.into_iter().map(moved).filter(|node| !queued(node)));
        verdict.violations.extend(own.violations.into_iter().map(|mut violation| {
            violation.earlier.0 = moved(violation.earlier.0);
            violation.later.0 = moved(violation.later.0);
            violation.conflict.earlier = violation.earlier.0;
            violation
        }));
    }
    let order = Order::of(links, None);
    let mut conflicting: Vec<(usize, usize)> = Vec::new();
    for later in 0..links.len() {
        for earlier in 0..later {
            let ordered = order.has(earlier, later);
            let found = joined.conflicts(earlier, later, !ordered);
            if !found.is_empty() {
                conflicting.push((earlier, later));
            }
            if !ordered {
                verdict.violations.extend(found);
            }
        }
    }
    for (at, link) in links.iter().enumerate() {
        let without = |wait: usize| {
            let order = Order::of(links, Some((at, wait)));
            conflicting.iter().all(|(earlier, later)| order.has(*earlier, *later))
        };
        if verdict.violations.is_empty() && (0..link.after.len()).any(without) {
            verdict.redundant.push(NodeId(joined.ranges[at].start as u32));
        }
    }
    verdict
}

/// Which recordings end before which begin.
struct Order(Vec<Vec<bool>>);

impl Order {
    /// What the waits say, one of them left out if that is asked for: which recording's, and which of its waits.
    fn of(links: &[Link<'_>], left_out: Option<(usize, usize)>) -> Order {
        let mut before: Vec<Vec<bool>> = Vec::with_capacity(links.len());
        for (at, link) in links.iter().enumerate() {
            let mut row = vec![false; links.len()];
            let waits = link.after.iter().enumerate().filter(|(wait, _)| left_out != Some((at, *wait)));
            for (_, number) in waits {
                // Only what was submitted before can be waited for.
                let Some(awaited) = links[..at].iter().position(|link| link.number == *number) else { continue };
                row[awaited] = true;
                row.iter_mut().zip(&before[awaited]).for_each(|(own, theirs)| *own |= theirs);
            }
            before.push(row);
        }
        Order(before)
    }

    fn has(&self, earlier: usize, later: usize) -> bool {
        self.0[later][earlier]
    }
}
