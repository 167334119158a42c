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
    groups: RangeInclusive<usize>,
}

impl MemoryPlan {
    /// Scratch buffers.
    pub fn buffers(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn new(graph: &Graph, share: bool) -> MemoryPlan {
        let mut lives = lives(graph);
        let sum = lives.iter().map(|life| life.bytes).sum();
        // The largest first: small ones fit into the gaps that large ones leave.
        lives.sort_by_key(|life| (std::cmp::Reverse(life.bytes), *life.groups.start()));
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

fn meet(a: &RangeInclusive<usize>, b: &RangeInclusive<usize>) -> bool {
    a.start() <= b.end() && b.start() <= a.end()
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

/// The groups from first to last use of each scratch buffer.
fn lives(graph: &Graph) -> Vec<Life> {
    let mut groups: Vec<Option<RangeInclusive<usize>>> = vec![None; graph.used.len()];
    for (number, group) in graph.schedule().groups.iter().enumerate() {
        for access in graph.nodes[group.clone()].iter().flat_map(|node| &node.accesses) {
            let life = &mut groups[access.resource.0 as usize];
            let first = life.as_ref().map_or(number, |life| *life.start());
            *life = Some(first..=number);
        }
    }
    let transient = |(at, groups): (usize, Option<RangeInclusive<usize>>)| {
        let allocation = &graph.used[at].allocation;
        let groups = groups.filter(|_| allocation.transient)?;
        let bytes = allocation.raw.len.next_multiple_of(ALIGN);
        Some(Life { resource: ResourceId(at as u32), bytes, groups })
    };
    groups.into_iter().enumerate().filter_map(transient).collect()
}
