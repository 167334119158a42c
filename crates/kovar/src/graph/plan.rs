use std::ops::RangeInclusive;

use super::Graph;
use crate::hazard::ResourceId;

/// Places start at multiples of this: at least what any device asks of a storage offset.
const ALIGN: u64 = 256;

/// Where each scratch buffer of a graph lies in one block of memory.
///
/// Two buffers may share bytes only if the groups in which they live do not meet. Between such groups stands a barrier
/// already, so that sharing adds none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Bytes of the block.
    pub size: u64,
    /// Bytes that the buffers would take each on its own.
    pub sum: u64,
    /// Offset of each buffer in the block.
    pub(crate) places: Vec<(ResourceId, u64)>,
}

struct Life {
    resource: ResourceId,
    bytes: u64,
    /// The groups from first to last use in each pass, in the order of the passes.
    groups: Vec<RangeInclusive<usize>>,
}

impl MemoryPlan {
    /// Scratch buffers.
    pub fn buffers(&self) -> usize {
        self.places.len()
    }

    /// For a submission that runs the commands `repeat` times.
    pub(crate) fn new(graph: &Graph, share: bool, repeat: u32) -> MemoryPlan {
        let mut lives = lives(graph, repeat);
        let sum = lives.iter().map(|life| life.bytes).sum();
        // The largest first: small ones fit into the gaps that large ones leave.
        lives.sort_by_key(|life| (std::cmp::Reverse(life.bytes), life.groups.first().map(|groups| *groups.start())));
        let mut placed: Vec<(&Life, u64)> = Vec::with_capacity(lives.len());
        for life in &lives {
            let mut busy: Vec<(u64, u64)> = placed
                .iter()
                .filter(|(other, _)| !share || meet(&other.groups, &life.groups))
                .map(|(other, at)| (*at, at + other.bytes))
                .collect();
            busy.sort_unstable();
            placed.push((life, best_gap(&busy, life.bytes)));
        }
        let size = placed.iter().map(|(life, at)| at + life.bytes).max().unwrap_or(0);
        MemoryPlan { size, sum, places: placed.iter().map(|(life, at)| (life.resource, *at)).collect() }
    }
}

/// Whether two buffers live in a common group. Both lists go up, so that one walk along them finds out.
fn meet(a: &[RangeInclusive<usize>], b: &[RangeInclusive<usize>]) -> bool {
    let (mut i, mut j) = (0, 0);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        if x.end() < y.start() {
            i += 1;
        } else if y.end() < x.start() {
            j += 1;
        } else {
            return true;
        }
    }
    false
}

/// The smallest gap between busy ranges (sorted by start) that takes these bytes, else the end.
fn best_gap(busy: &[(u64, u64)], bytes: u64) -> u64 {
    let mut best: Option<(u64, u64)> = None;
    let mut end = 0;
    for (from, to) in busy {
        if *from >= end + bytes && best.is_none_or(|(_, room)| from - end < room) {
            best = Some((end, from - end));
        }
        end = end.max(*to);
    }
    best.map_or(end, |(at, _)| at)
}

/// In which groups each scratch buffer lives. The end of a pass may share a group with the start of the next, so that the
/// groups are those of all passes together.
fn lives(graph: &Graph, repeat: u32) -> Vec<Life> {
    let mut groups: Vec<Vec<RangeInclusive<usize>>> = vec![Vec::new(); graph.used.len()];
    let mut pass_of: Vec<Option<usize>> = vec![None; graph.used.len()];
    let nodes = graph.nodes.len();
    for (number, group) in graph.schedule_of(repeat).groups.iter().enumerate() {
        for at in group.clone() {
            let pass = Some(at / nodes);
            for access in &graph.nodes[at % nodes].accesses {
                let resource = access.resource.0 as usize;
                match groups[resource].last_mut().filter(|_| pass_of[resource] == pass) {
                    Some(life) => *life = *life.start()..=number,
                    None => groups[resource].push(number..=number),
                }
                pass_of[resource] = pass;
            }
        }
    }
    let transient = |(at, groups): (usize, Vec<RangeInclusive<usize>>)| {
        let allocation = &graph.used[at].allocation;
        if !allocation.transient || groups.is_empty() {
            return None;
        }
        let bytes = allocation.raw.len.next_multiple_of(ALIGN);
        Some(Life { resource: ResourceId(at as u32), bytes, groups })
    };
    groups.into_iter().enumerate().filter_map(transient).collect()
}
