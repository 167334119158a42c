use std::collections::BTreeMap;
use std::ops::Range;

use smallvec::SmallVec;

use super::NodeId;
use super::rows::Span;

/// Segments that an array takes in its middle; with more, a tree is cheaper.
const FEW: usize = 64;

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Segment {
    start: u64,
    end: u64,
    node: NodeId,
}

/// Disjoint byte ranges, each with the last command that touched it.
///
/// Recordings mostly touch an allocation in one piece, or in pieces from low to high: a sorted array that grows at its
/// end. Lists that are not in use keep their memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ranges {
    form: Form,
    one: Segment,
    sorted: Vec<Segment>,
    tree: BTreeMap<u64, Segment>,
}

/// Which part of `Ranges` is in use.
#[derive(Debug, Clone, Copy, Default)]
enum Form {
    #[default]
    Empty,
    One,
    Sorted,
    Tree,
}

impl Ranges {
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.form = Form::Empty;
    }

    /// A command that touched some of these bytes, and those bytes: of several the one at the highest address.
    #[inline]
    pub(crate) fn overlap(&self, range: &Range<u64>) -> Option<(NodeId, Range<u64>)> {
        // Segments are disjoint, so the last one that starts before the end of the range reaches furthest.
        let last = match self.form {
            Form::Empty => return None,
            Form::One => Some(&self.one).filter(|s| s.start < range.end),
            Form::Sorted => match self.sorted.last()? {
                last if last.end <= range.start => return None,
                last if last.start < range.end => Some(last),
                _ => self.sorted[..self.sorted.partition_point(|s| s.start < range.end)].last(),
            },
            Form::Tree => self.tree.range(..range.end).next_back().map(|(_, s)| s),
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
        match self.form {
            Form::Empty => None,
            Form::One => meet(&self.one),
            Form::Sorted => {
                let end = self.sorted.partition_point(|s| s.start < span.hull.end);
                self.sorted[..end].iter().rev().take_while(|s| span.hull.start < s.end).find_map(meet)
            }
            Form::Tree => {
                let before = self.tree.range(..span.hull.end).rev().map(|(_, s)| s);
                before.take_while(|s| span.hull.start < s.end).find_map(meet)
            }
        }
    }

    /// Adds bytes. Where they overlap older ones, the newer command takes their place, so that each byte names the
    /// command that touched it last.
    #[inline]
    pub(crate) fn insert(&mut self, range: Range<u64>, node: NodeId) {
        let Range { start, end } = range;
        if start >= end {
            return;
        }
        match self.form {
            Form::Empty => (self.form, self.one) = (Form::One, Segment { start, end, node }),
            Form::One if self.one.start == start && self.one.end == end => self.one.node = node,
            _ => self.insert_among(start, end, node),
        }
    }

    fn insert_among(&mut self, start: u64, end: u64, node: NodeId) {
        let new = Segment { start, end, node };
        match self.form {
            Form::Empty => (self.form, self.one) = (Form::One, new),
            Form::One => {
                self.sorted.clear();
                self.sorted.push(self.one);
                self.form = Form::Sorted;
                replace(&mut self.sorted, new);
            }
            Form::Sorted if self.sorted.last().is_some_and(|last| last.end <= start) => self.sorted.push(new),
            Form::Sorted if self.sorted.len() <= FEW => replace(&mut self.sorted, new),
            Form::Sorted => {
                self.tree = self.sorted.iter().map(|s| (s.start, *s)).collect();
                self.form = Form::Tree;
                self.insert_among(start, end, node);
            }
            Form::Tree => {
                let tree = &mut self.tree;
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
fn replace(list: &mut Vec<Segment>, new: Segment) {
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
    list.splice(first..past, parts);
}
