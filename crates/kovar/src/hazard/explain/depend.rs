//! What depends on what, and the longest chain of it.

use std::ops::Range;

use super::{Command, Group, Reason};
use crate::hazard::{Access, HazardKind, Mode, ResourceId};

/// Byte ranges with the command that touched them.
type Touched = Vec<(Range<u64>, usize)>;

/// The last writer of each byte, and who has read it since.
#[derive(Default)]
pub(super) struct Dependencies {
    resources: Vec<(Touched, Touched)>,
}

fn meet<'a>(touched: &'a Touched, range: &'a Range<u64>) -> impl Iterator<Item = (Range<u64>, usize)> + 'a {
    let overlap = |part: &Range<u64>| part.start.max(range.start)..part.end.min(range.end);
    touched.iter().map(move |(part, command)| (overlap(part), *command)).filter(|(part, _)| part.start < part.end)
}

/// Takes bytes out.
fn cut(touched: &mut Touched, range: &Range<u64>) {
    let rest = |(part, command): (Range<u64>, usize)| {
        let low = part.start..part.end.min(range.start);
        let high = part.start.max(range.end)..part.end;
        [low, high].into_iter().filter(|part| part.start < part.end).map(move |part| (part, command))
    };
    if meet(touched, range).next().is_some() {
        *touched = std::mem::take(touched).into_iter().flat_map(rest).collect();
    }
}

impl Dependencies {
    /// Adds a command. What it conflicts with comes back, for each earlier command and buffer once.
    pub(super) fn add(
        &mut self,
        later: usize,
        accesses: &[Access],
        name: &impl Fn(ResourceId, &Range<u64>) -> String,
    ) -> Vec<Reason> {
        let mut found: Vec<(ResourceId, Reason)> = Vec::new();
        let rows =
            |access: &Access| access.span().each().map(|row| (access.resource, row, access.mode)).collect::<Vec<_>>();
        let parts: Vec<_> = accesses.iter().filter(|access| !access.range.is_empty()).flat_map(rows).collect();
        for (resource, range, mode) in &parts {
            let Some((writes, reads)) = self.resources.get(resource.0 as usize) else { continue };
            let kind = if *mode == Mode::Write { HazardKind::Waw } else { HazardKind::Raw };
            let of_writes = meet(writes, range).map(|hit| (kind, hit));
            let of_reads = meet(reads, range).map(|hit| (HazardKind::War, hit)).filter(|_| *mode == Mode::Write);
            for (kind, (bytes, earlier)) in of_writes.chain(of_reads) {
                let same = |(r, reason): &&mut (ResourceId, Reason)| r == resource && reason.earlier == earlier;
                match found.iter_mut().find(same) {
                    Some((_, reason)) => {
                        let both = reason.bytes.start.min(bytes.start)..reason.bytes.end.max(bytes.end);
                        reason.bytes = both;
                    }
                    None => {
                        let buffer = name(*resource, &bytes);
                        found.push((*resource, Reason { kind, earlier, later, buffer, bytes }));
                    }
                }
            }
        }
        for (resource, range, mode) in &parts {
            let at = resource.0 as usize;
            if at >= self.resources.len() {
                self.resources.resize_with(at + 1, Default::default);
            }
            let (writes, reads) = &mut self.resources[at];
            match mode {
                Mode::Read => reads.push((range.clone(), later)),
                Mode::Write => {
                    cut(writes, range);
                    cut(reads, range);
                    writes.push((range.clone(), later));
                }
            }
        }
        found.into_iter().map(|(_, reason)| reason).collect()
    }
}

/// The dearest chain of dependent commands, and its cost. A barrier that the caller asked for orders everything.
pub(super) fn critical_path(commands: &[Command], groups: &[Group]) -> (Vec<usize>, f64) {
    let mut before: Vec<Option<usize>> = Vec::with_capacity(commands.len());
    let mut cost: Vec<f64> = Vec::with_capacity(commands.len());
    // The end of the dearest chain so far, and of that up to the last barrier that was asked for.
    let (mut dearest, mut fence): (Option<usize>, Option<usize>) = (None, None);
    let dearer = |a: Option<usize>, b: usize, cost: &[f64]| match a {
        Some(a) if cost[a] >= cost[b] => Some(a),
        _ => Some(b),
    };
    for (index, command) in commands.iter().enumerate() {
        let group = &groups[command.group];
        if group.commands.start == index && group.barrier.as_ref().is_some_and(|barrier| barrier.asked) {
            fence = dearest;
        }
        let longest = command.after.iter().fold(fence, |best, reason| dearer(best, reason.earlier, &cost));
        cost.push(command.cost + longest.map_or(0.0, |at| cost[at]));
        before.push(longest);
        dearest = dearer(dearest, index, &cost);
    }
    let mut path: Vec<usize> = std::iter::successors(dearest, |at| before[*at]).collect();
    path.reverse();
    (path, dearest.map_or(0.0, |at| cost[at]))
}
