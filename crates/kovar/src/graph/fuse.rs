//! Rewriting: some commands and the buffers between them become one command.

use smallvec::SmallVec;

use super::Graph;
use crate::encoder::{Accesses, Kernelled, Node, NodeGrid, Part, Work};
use crate::hazard::{Access, Mode, NodeId, ResourceId, Tracker};
use crate::kernel::ConstantsKind;
use crate::profile::Cost;
use crate::{Device, Error, Kernel, Misuse, OpKind, Result};

/// Commands between the first and the last of a match, at most.
const REACH: usize = 24;

/// The same bytes in two slots of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Command of the pattern, and its slot.
    pub from: (usize, usize),
    /// A later command, and its slot.
    pub to: (usize, usize),
}

/// A rewrite rule: a pattern of kernels and of the buffers between them, and what takes their place.
///
/// A rule is applied only where it loses nothing: what an intermediate command writes and the replacement does not must
/// be scratch of the graph that no other command touches.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Its name, in reports.
    pub name: &'static str,
    /// Names of the kernels, in the order of recording.
    pub commands: &'static [&'static str],
    /// What connects them. Every command but the first is reached by one at least.
    pub flows: &'static [Flow],
    /// Makes the replacement, or declines (`None`) what it does not cover: another element type or size, say.
    pub build: fn(&Device, &Match<'_>) -> Result<Option<Replacement>>,
}

/// Bytes of an allocation of the graph, as a command uses them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    resource: ResourceId,
    offset: u64,
    len: u64,
}

impl Place {
    /// Bytes.
    pub fn byte_len(&self) -> u64 {
        self.len
    }
}

/// A command of a match.
#[derive(Debug, Clone, Copy)]
pub struct Matched<'a> {
    node: &'a Node,
    work: &'a Kernelled,
}

impl Matched<'_> {
    /// Its kernel.
    pub fn kernel(&self) -> &Kernel {
        &self.work.kernel
    }

    /// Its constants, if they are a `T`.
    pub fn constants<T: bytemuck::AnyBitPattern>(&self) -> Option<T> {
        bytemuck::try_pod_read_unaligned(&self.work.constants).ok()
    }

    /// What is in a slot.
    pub fn slot(&self, slot: usize) -> Option<Place> {
        let Part { resource, offset, len } = *self.work.parts.get(slot)?;
        Some(Place { resource, offset, len })
    }

    /// Its name.
    pub fn label(&self) -> &str {
        &self.node.label
    }
}

/// Where a rule's pattern was found: its commands, in order.
#[derive(Debug)]
pub struct Match<'a> {
    /// The commands.
    pub commands: SmallVec<[Matched<'a>; 4]>,
}

/// The command that takes the place of a match.
#[derive(Debug, Clone)]
pub struct Replacement {
    /// Its kernel.
    pub kernel: Kernel,
    /// What is in its slots.
    pub slots: Vec<Place>,
    /// Its constants.
    pub constants: Vec<u8>,
    /// Its grid, in workgroups.
    pub groups: [u32; 3],
    /// Its name.
    pub label: String,
    /// What it is.
    pub kind: OpKind,
}

impl Graph {
    /// Applies rules, each wherever it fits, in their order. Says how often each was applied.
    ///
    /// # Errors
    /// Errors of the rules, and [`Error::Dispatch`] for a replacement whose slots or constants do not fit its kernel. The
    /// graph is then as it was before the rule.
    pub fn fuse(&mut self, rules: &[Rule]) -> Result<Vec<(&'static str, usize)>> {
        rules.iter().map(|rule| Ok((rule.name, self.apply(rule)?))).collect()
    }

    fn apply(&mut self, rule: &Rule) -> Result<usize> {
        let mut applied = 0;
        let mut start = 0;
        while start < self.nodes.len() {
            match self.rewrite(rule, start)? {
                // The replacement stands where the last command stood; look at what moved into this place.
                true => applied += 1,
                false => start += 1,
            }
        }
        Ok(applied)
    }

    /// Rewrites the match that begins at a command, if there is one.
    fn rewrite(&mut self, rule: &Rule, start: usize) -> Result<bool> {
        let Some(found) = self.find(rule, start) else { return Ok(false) };
        let commands = found.iter().filter_map(|at| matched(&self.nodes[*at])).collect();
        let Some(replacement) = (rule.build)(&self.device, &Match { commands })? else { return Ok(false) };
        let cost = fused_cost(found.iter().map(|at| &self.nodes[*at]));
        let node = Node { cost, ..self.node_of(replacement)? };
        if is_aliased(&node) || !self.loses_nothing(&found, &node) || !self.can_meet(&found) {
            return Ok(false);
        }
        let Some(last) = found.last() else { return Ok(false) };
        self.nodes[*last] = node;
        for at in found[..found.len() - 1].iter().rev() {
            self.nodes.remove(*at);
        }
        Ok(true)
    }

    /// The commands of a match that begins here.
    fn find(&self, rule: &Rule, start: usize) -> Option<SmallVec<[usize; 4]>> {
        let is = |at: usize, name: &str| matched(&self.nodes[at]).is_some_and(|m| m.kernel().name() == name);
        if !is(start, rule.commands.first()?) {
            return None;
        }
        let end = self.nodes.len().min(start + REACH);
        let mut found: SmallVec<[usize; 4]> = smallvec::smallvec![start];
        for (number, name) in rule.commands.iter().enumerate().skip(1) {
            let after = found.last().map_or(start, |at| at + 1);
            let connected = |at: &usize| {
                is(*at, name)
                    && rule.flows.iter().filter(|flow| flow.to.0 == number).all(|f| self.flows(f, &found, *at))
            };
            found.push((after..end).find(connected)?);
        }
        Some(found)
    }

    fn flows(&self, flow: &Flow, found: &[usize], to: usize) -> bool {
        let slot = |at: usize, slot| matched(&self.nodes[at]).and_then(|m| m.slot(slot));
        match (found.get(flow.from.0).and_then(|at| slot(*at, flow.from.1)), slot(to, flow.to.1)) {
            (Some(from), Some(to)) => from == to,
            _ => false,
        }
    }

    /// Whether everything that the match writes is written by the replacement too, or is scratch that no other command
    /// touches. What two of its commands write, or the replacement reads, has had a value in between that would be lost.
    fn loses_nothing(&self, found: &[usize], replacement: &Node) -> bool {
        let accesses = found.iter().flat_map(|at| &self.nodes[*at].accesses);
        let written: Vec<&Access> = accesses.filter(|access| access.mode == Mode::Write).collect();
        written.iter().enumerate().all(|(number, access)| {
            let is_written_twice = written[..number].iter().any(|other| meet(other, access));
            let is_read = replacement.accesses.iter().any(|other| other.mode == Mode::Read && meet(other, access));
            let is_kept = replacement.accesses.iter().any(|kept| {
                let all = kept.range.start <= access.range.start && access.range.end <= kept.range.end;
                kept.mode == Mode::Write && kept.resource == access.resource && kept.rows.is_none() && all
            });
            let is_scratch = self.used[access.resource.0 as usize].allocation.transient;
            let is_used_elsewhere = || {
                let others = self.nodes.iter().enumerate().filter(|(at, _)| !found.contains(at));
                others.flat_map(|(_, node)| &node.accesses).any(|other| meet(other, access))
            };
            !is_written_twice && !is_read && (is_kept || (is_scratch && !is_used_elsewhere()))
        })
    }

    /// Whether the commands may move to the last one's place: nothing that they would pass conflicts with them.
    fn can_meet(&self, found: &[usize]) -> bool {
        let (Some(first), Some(last)) = (found.first(), found.last()) else { return false };
        let mut moved = Tracker::default();
        for at in *first..=*last {
            let node = &self.nodes[at];
            if found.contains(&at) {
                moved.record(NodeId(0), &node.accesses);
            } else if node.opaque || moved.conflict(&node.accesses).is_some() {
                return false;
            }
        }
        !found.iter().any(|at| self.nodes[*at].opaque)
    }

    fn node_of(&self, replacement: Replacement) -> Result<Node> {
        let Replacement { kernel, slots, constants, groups, label, kind } = replacement;
        let reflection = kernel.reflection();
        let refuse = |misuse| Error::Dispatch { kernel: kernel.name().into(), misuse };
        if let Some(slot) = (slots.len()..reflection.slots.len()).next() {
            return Err(refuse(Misuse::Unbound { slot, name: reflection.slots[slot].name.clone() }));
        }
        if slots.len() > reflection.slots.len() {
            return Err(refuse(Misuse::NoSlot { slot: slots.len() - 1, slots: reflection.slots.len() }));
        }
        let wanted = reflection.constants_bytes() as usize;
        let inline = !matches!(reflection.constants, ConstantsKind::Uniform { .. });
        if constants.len() != wanted || !inline {
            return Err(refuse(Misuse::Constants { given: constants.len(), wanted }));
        }
        let access = |(slot, place): (&crate::Slot, &Place)| {
            Access::new(place.resource, place.offset..place.offset + place.len, slot.access)
        };
        let accesses: Accesses = reflection.slots.iter().zip(&slots).map(access).collect();
        let parts = slots.iter().map(|p| Part { resource: p.resource, offset: p.offset, len: p.len }).collect();
        let constants = SmallVec::from_vec(constants);
        let work = Kernelled { kernel, parts, constants, grid: NodeGrid::Groups(groups), memory: SmallVec::new() };
        let cost = Cost::default();
        Ok(Node { work: Work::Dispatch(Box::new(work)), accesses, label: label.into(), kind, cost, opaque: false })
    }
}

/// A fused command computes what the commands in its place were said to, writes what the last of them does, and reads
/// what its own slots show; where one of them reads a part that grows, what they read together.
fn fused_cost<'a>(nodes: impl DoubleEndedIterator<Item = &'a Node> + Clone) -> Cost {
    let costs = nodes.clone().map(|node| &node.cost);
    let told: SmallVec<[u64; 4]> = costs.clone().filter_map(|cost| cost.operations).collect();
    let grown: u64 = costs.clone().map(|cost| cost.read_per_position).sum();
    let shown = |node: &Node| {
        let reads = node.accesses.iter().filter(|access| access.mode == Mode::Read);
        reads.map(|access| access.range.end - access.range.start).sum()
    };
    let read = || nodes.clone().map(|node| node.cost.read.unwrap_or_else(|| shown(node))).sum();
    Cost {
        read: (grown > 0).then(read),
        written: costs.clone().next_back().and_then(|cost| cost.written),
        operations: (!told.is_empty()).then(|| told.iter().sum()),
        read_per_position: grown,
        operations_per_position: costs.map(|cost| cost.operations_per_position).sum(),
    }
}

/// Whether a written slot overlaps another: a kernel is not made for that.
fn is_aliased(node: &Node) -> bool {
    node.accesses.iter().enumerate().any(|(at, a)| {
        let mut others = node.accesses.iter().enumerate().filter(|(other, _)| *other != at);
        a.mode == Mode::Write && others.any(|(_, b)| meet(a, b))
    })
}

/// Whether two accesses share bytes, whatever rows they touch.
fn meet(a: &Access, b: &Access) -> bool {
    a.resource == b.resource && a.range.start < b.range.end && b.range.start < a.range.end
}

fn matched(node: &Node) -> Option<Matched<'_>> {
    match &node.work {
        Work::Dispatch(work) => Some(Matched { node, work }),
        _ => None,
    }
}
