use std::ops::Range;

use super::named::Named;
use super::plan::MemoryPlan;
use super::{Executable, ExecutableOptions, reorder};
use crate::encoder::{Captured, Node, NodeGrid, Work};
use crate::flight::Used;
use crate::hazard::explain::{Command, Item, explain};
use crate::hazard::{Conflict, Explanation, NodeId, ResourceId, Step, Tracker, Verdict, verify};
use crate::{CommandEncoder, Device, Error, OpKind, Result};

/// A recording kept as a list of commands.
///
/// ```
/// # use kovar::{Backend, Device, DeviceOptions, DType, Dispatch, ExecutableOptions, Graph, KernelSource};
/// # static ADD_ONE: KernelSource = KernelSource::wgsl("add_one",
/// #     "@group(0) @binding(0) var<storage, read> x: array<f32>; @group(0) @binding(1) var<storage, read_write> y: array<f32>;
/// #      @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) { y[id.x] = x[id.x] + 1.0; }");
/// let device = Device::open(&DeviceOptions::of(Backend::Null))?;
/// let kernel = device.kernel(&ADD_ONE, &[])?;
/// let (x, y) = (device.buffer(DType::F32, &[64])?, device.buffer(DType::F32, &[64])?);
/// let graph = Graph::capture(&device, "two steps", |encoder| {
///     let between = encoder.scratch(DType::F32, &[64])?;
///     encoder.dispatch(Dispatch::new(&kernel).bind(0, &x).bind(1, &between).groups([1, 1, 1]))?;
///     encoder.dispatch(Dispatch::new(&kernel).bind(0, &between).bind(1, &y).groups([1, 1, 1]))
/// })?;
/// assert!(graph.verify().is_proved());
/// let mut step = graph.compile(&ExecutableOptions::default())?;
/// for _ in 0..10 {
///     step.submit()?.wait()?;
/// }
/// # Ok::<(), kovar::Error>(())
/// ```
#[derive(Clone)]
pub struct Graph {
    pub(crate) device: Device,
    pub(crate) label: String,
    pub(crate) nodes: Vec<Node>,
    pub(crate) used: Vec<Used>,
    pub(super) named: Vec<Named>,
}

/// Which commands run together, and why the groups end where they end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Commands of each group.
    pub groups: Vec<Range<usize>>,
    /// Why a barrier stands before each group but the first; `None` for a forced one.
    pub reasons: Vec<Option<Conflict>>,
}

impl Graph {
    /// Captures what `record` records.
    ///
    /// # Errors
    /// Those of `record`.
    pub fn capture<E: From<Error>>(
        device: &Device,
        label: &str,
        record: impl FnOnce(&mut CommandEncoder) -> Result<(), E>,
    ) -> Result<Graph, E> {
        let mut encoder = CommandEncoder::capturing(device.clone(), label.into());
        record(&mut encoder)?;
        let Captured { nodes, used } = encoder.captured();
        Ok(Graph { device: device.clone(), label: label.into(), nodes, used, named: Vec::new() })
    }

    /// Commands.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Name and kind of each command, in order.
    pub fn commands(&self) -> impl Iterator<Item = (&str, OpKind)> {
        self.nodes.iter().map(|node| (node.label.as_ref(), node.kind))
    }

    /// Moves commands forward into earlier groups, past at most `look_ahead` others, where nothing between conflicts.
    /// What the graph computes stays the same; opaque commands are neither moved nor passed.
    pub fn reorder(&mut self, look_ahead: usize) {
        self.nodes = reorder::widen(std::mem::take(&mut self.nodes), look_ahead);
    }

    /// The groups, by the tracker that live recording uses.
    pub fn schedule(&self) -> Schedule {
        self.schedule_of(1)
    }

    /// The groups when the commands run so many times in one submission; command `at` is the node `at % len`.
    pub(crate) fn schedule_of(&self, repeat: u32) -> Schedule {
        let mut tracker = Tracker::default();
        let mut schedule = Schedule { groups: Vec::new(), reasons: Vec::new() };
        let mut start = 0;
        let passes = (0..repeat.max(1)).flat_map(|_| &self.nodes);
        let total = passes.clone().count();
        for (at, node) in passes.enumerate() {
            let forced = matches!(node.work, Work::Barrier);
            let conflict = tracker.conflict(&node.accesses);
            if forced || conflict.is_some() {
                if at > start {
                    schedule.groups.push(start..at);
                    schedule.reasons.push(conflict);
                }
                start = at;
                tracker.close_group();
            }
            tracker.record(NodeId(at as u32), &node.accesses);
        }
        if start < total {
            schedule.groups.push(start..total);
        }
        schedule
    }

    /// The recording as the verifier takes it, with the barriers that will be placed.
    pub fn steps(&self) -> Vec<Step> {
        let starts: Vec<usize> = self.schedule().groups.iter().map(|group| group.start).collect();
        let step = |(at, node): (usize, &Node)| Step {
            label: node.label.to_string(),
            accesses: node.accesses.to_vec(),
            ordered: at > 0 && starts.binary_search(&at).is_ok(),
        };
        self.nodes.iter().enumerate().map(step).collect()
    }

    /// Name of the buffer behind a number.
    pub fn buffer_name(&self, resource: ResourceId) -> String {
        match self.used.get(resource.0 as usize) {
            Some(used) => format!("{} #{}", used.allocation.label, used.allocation.id),
            None => format!("allocation {}", resource.0),
        }
    }

    /// Proves that no barrier is missing.
    pub fn verify(&self) -> Verdict {
        verify(&self.steps(), |resource| self.buffer_name(resource))
    }

    /// Why each barrier stands, the groups, and the longest chain of commands that depend on each other.
    pub fn explain(&self) -> Explanation {
        self.explain_by(|_| 1.0)
    }

    /// As [`explain`](Graph::explain), with what each command costs (its measured time, say): the critical path is then the
    /// dearest chain.
    pub fn explain_by(&self, cost: impl Fn(&Command) -> f64) -> Explanation {
        let starts: Vec<usize> = self.schedule().groups.iter().map(|group| group.start).collect();
        let (mut ordered, mut asked) = (false, false);
        let mut items = Vec::with_capacity(self.nodes.len());
        for (at, node) in self.nodes.iter().enumerate() {
            ordered |= at > 0 && starts.binary_search(&at).is_ok();
            if let Work::Barrier = node.work {
                asked = true;
                continue;
            }
            let item = Item { ordered, asked, ..node.item() };
            (ordered, asked) = (false, false);
            items.push(item);
        }
        let name = |resource: ResourceId, bytes: &Range<u64>| match self.used.get(resource.0 as usize) {
            Some(used) => used.allocation.name_of(bytes),
            None => self.buffer_name(resource),
        };
        explain(&self.label, items, name, cost)
    }

    /// Where the scratch of the graph goes in memory, for one pass a submission.
    pub fn plan(&self) -> MemoryPlan {
        MemoryPlan::new(self, true, 1)
    }

    /// Makes the graph ready to run again and again.
    ///
    /// # Errors
    /// Device errors, memory for the scratch among them.
    pub fn compile(self, options: &ExecutableOptions) -> Result<Executable> {
        Executable::new(self, options)
    }
}

impl Node {
    fn item(&self) -> Item<'_> {
        let item = Item { label: &self.label, kind: self.kind, accesses: &self.accesses, ..Item::default() };
        let Work::Dispatch(work) = &self.work else { return item };
        let grid = match &work.grid {
            NodeGrid::Groups([x, y, z]) => format!("{x}x{y}x{z}"),
            NodeGrid::Indirect(_) => "indirect".into(),
        };
        let slots = work.kernel.reflection().slots.iter().map(|slot| slot.name.as_str()).collect();
        Item { kernel: Some(work.kernel.name()), grid, slots, ..item }
    }
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Graph({:?}, {} commands)", self.label, self.nodes.len())
    }
}
