use std::collections::BTreeMap;
use std::ops::Range;

use smallvec::SmallVec;

use super::NodeId;
use super::rows::Span;

/// Segments that an array takes in its middle; with more, a tree is cheaper.
const FEW: usize = 64;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    start: u64,
    end: u64,
    node: NodeId,
}

/// Disjoint byte ranges, each with the last command that touched it.
///
/// Recordings mostly touch an allocation in one piece, or in pieces from low to high: a sorted array that grows at its end.
#[derive(Debug, Clone)]
pub(crate) enum Ranges {
    Sorted(SmallVec<[Segment; 2]>),
    Tree(BTreeMap<u64, Segment>),
}

impl Default for Ranges {
    fn default() -> Ranges {
        Ranges::Sorted(SmallVec::new())
    }
}

impl Ranges {
    pub(crate) fn clear(&mut self) {
        match self {
            Ranges::Sorted(list) => list.clear(),
            Ranges::Tree(_) => *self = Ranges::default(),
        }
    }

    /// A command that touched some of these bytes, and those bytes: of several the one at the highest address.
    pub(crate) fn overlap(&self, range: &Range<u64>) -> Option<(NodeId, Range<u64>)> {
        // Segments are disjoint, so the last one that starts before the end of the range reaches furthest.
        let last = match self {
            Ranges::Sorted(list) => {
                let end = list.last()?.end;
                if end <= range.start {
                    return None;
                }
                list[..list.partition_point(|s| s.start < range.end)].last()
            }
            Ranges::Tree(tree) => tree.range(..range.end).next_back().map(|(_, s)| s),
        };
        let hit = last.filter(|s| range.start < s.end)?;
        Some((hit.node, hit.start.max(range.start)..hit.end.min(range.end)))
    }

    /// As [`overlap`](Ranges::overlap), of bytes that lie in rows. Looks at each segment between the first row and the last.
    pub(crate) fn meets(&self, span: &Span) -> Option<(NodeId, Range<u64>)> {
        let meet = |s: &Segment| {
            let hit = span.meets(&Span { hull: s.start..s.end, rows: None })?;
            Some((s.node, hit))
        };
        match self {
            Ranges::Sorted(list) => {
                let end = list.partition_point(|s| s.start < span.hull.end);
                list[..end].iter().rev().take_while(|s| span.hull.start < s.end).find_map(meet)
            }
            Ranges::Tree(tree) => {
                let before = tree.range(..span.hull.end).rev().map(|(_, s)| s);
                before.take_while(|s| span.hull.start < s.end).find_map(meet)
            }
        }
    }

    /// Adds bytes. Where they overlap older ones, the newer command takes their place, so that each byte names the
    /// command that touched it last.
    pub(crate) fn insert(&mut self, range: Range<u64>, node: NodeId) {
        let Range { start, end } = range;
        if start >= end {
            return;
        }
        let new = Segment { start, end, node };
        match self {
            Ranges::Sorted(list) => {
                if list.last().is_none_or(|last| last.end <= start) {
                    list.push(new);
                } else if list.len() <= FEW {
                    replace(list, new);
                } else {
                    *self = Ranges::Tree(list.iter().map(|s| (s.start, *s)).collect());
                    self.insert(range, node);
                }
            }
            Ranges::Tree(tree) => {
                while let Some((&at, &s)) = tree.range(..end).next_back().filter(|(_, s)| start < s.end) {
                    tree.remove(&at);
                    if end < s.end {
                        tree.insert(end, Segment { start: end, ..s });
                    }
                    if s.start < start {
                        tree.insert(s.start, Segment { end: start, ..s });
                    }
                }
                tree.insert(start, new);
            }
        }
    }
}

/// Puts a segment into a sorted array in place of what it overlaps.
fn replace(list: &mut SmallVec<[Segment; 2]>, new: Segment) {
    let first = list.partition_point(|s| s.end <= new.start);
    let past = list.partition_point(|s| s.start < new.end);
    let mut parts: SmallVec<[Segment; 3]> = SmallVec::new();
    let overlapped = &list[first..past];
    if let Some(low) = overlapped.first().filter(|s| s.start < new.start) {
        parts.push(Segment { end: new.start, ..*low });
    }
    parts.push(new);
    if let Some(high) = overlapped.last().filter(|s| new.end < s.end) {
        parts.push(Segment { start: new.end, ..*high });
    }
    if let [whole] = parts.as_slice()
        && past - first == 1
    {
        list[first] = *whole;
        return;
    }
    list.drain(first..past);
    list.insert_many(first, parts);
}
