//! Why each barrier of a recording stands, which commands run together, and what the recording waits for.

mod depend;
mod dot;
mod layout;
mod style;
mod svg;
mod text;

use std::fmt;
use std::ops::Range;

use serde::Serialize;

use super::access::{Access, HazardKind, Mode, ResourceId};
use crate::OpKind;
use depend::Dependencies;

/// A recording, explained: for people ([`to_text`](Explanation::to_text), [`to_svg`](Explanation::to_svg)) and for tools
/// ([`to_json`](Explanation::to_json), [`to_dot`](Explanation::to_dot)).
///
/// ```
/// # use kovar::{Backend, Device, DeviceOptions, DType, Dispatch, Graph, KernelSource};
/// # static ADD_ONE: KernelSource = KernelSource::wgsl("add_one",
/// #     "@group(0) @binding(0) var<storage, read> x: array<f32>; @group(0) @binding(1) var<storage, read_write> y: array<f32>;
/// #      @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) { y[id.x] = x[id.x] + 1.0; }");
/// # let device = Device::open(&DeviceOptions::of(Backend::Null))?;
/// # let kernel = device.kernel(&ADD_ONE, &[])?;
/// # let (x, y) = (device.buffer(DType::F32, &[64])?, device.buffer(DType::F32, &[64])?);
/// let graph = Graph::capture(&device, "two steps", |encoder| {
///     let between = encoder.scratch(DType::F32, &[64])?;
///     encoder.dispatch(Dispatch::new(&kernel).bind(0, &x).bind(1, &between).groups([1, 1, 1]))?;
///     encoder.dispatch(Dispatch::new(&kernel).bind(0, &between).bind(1, &y).groups([1, 1, 1]))
/// })?;
/// let explanation = graph.explain();
/// assert_eq!(explanation.groups.len(), 2);
/// assert_eq!(explanation.critical_path, [0, 1]);
/// println!("{explanation}");
/// # Ok::<(), kovar::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// Label of the recording.
    pub label: String,
    /// Its commands in order. Forced barriers are no commands: they show in the groups.
    pub commands: Vec<Command>,
    /// The groups in order: commands of one group may run at the same time.
    pub groups: Vec<Group>,
    /// The longest chain of commands of which each depends on the one before, as indices into `commands`: no order of
    /// execution is shorter.
    pub critical_path: Vec<usize>,
    /// What the commands of that chain cost together.
    pub critical_cost: f64,
    /// What all commands cost together.
    pub total_cost: f64,
    /// Pairs that conflict within one group, as they should not.
    pub missing: Vec<Reason>,
}

/// A command of an [`Explanation`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Command {
    /// Its label, the kernel's name without one.
    pub label: String,
    /// Name of the kernel; `None` for copies and fills, and where it is not known.
    pub kernel: Option<String>,
    /// What it is.
    #[serde(serialize_with = "name_of_kind")]
    pub kind: OpKind,
    /// Its grid in workgroups; empty where there is none.
    pub grid: String,
    /// Index of its group.
    pub group: usize,
    /// What it touches.
    pub uses: Vec<Use>,
    /// The earlier commands that it conflicts with directly: for each byte the last that wrote it, and for bytes that it
    /// writes also those that read them since.
    pub after: Vec<Reason>,
    /// What it costs, in the unit of whoever asked; 1 by default.
    pub cost: f64,
    /// Whether it is on the critical path.
    pub critical: bool,
}

/// Bytes of a buffer that a command touches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Use {
    /// Name of the slot in the kernel's source, if there is one.
    pub slot: String,
    /// Name of the buffer.
    pub buffer: String,
    /// The bytes.
    pub bytes: Range<u64>,
    /// Whether they are written.
    pub written: bool,
}

/// Commands that may run at the same time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Its commands, as indices into [`Explanation::commands`].
    pub commands: Range<usize>,
    /// The barrier before it; the first group may have none.
    pub barrier: Option<Barrier>,
}

/// A barrier, and why it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Barrier {
    /// Whether the caller asked for it: forced, by hand, or because everything is to run in order.
    pub asked: bool,
    /// Every conflict across it between the groups on its two sides, that of the first command first. Empty: it is not
    /// needed with all others in place.
    pub reasons: Vec<Reason>,
}

/// Two commands that conflict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// How.
    #[serde(serialize_with = "display")]
    pub kind: HazardKind,
    /// Index of the earlier command.
    pub earlier: usize,
    /// Index of the later one.
    pub later: usize,
    /// Name of the buffer, or of the part of it that has one.
    pub buffer: String,
    /// Bytes that both touch.
    pub bytes: Range<u64>,
}

/// A command as it is given to be explained.
#[derive(Default)]
pub(crate) struct Item<'a> {
    pub(crate) label: &'a str,
    pub(crate) kernel: Option<&'a str>,
    pub(crate) kind: OpKind,
    pub(crate) grid: String,
    /// Names for the first accesses.
    pub(crate) slots: Vec<&'a str>,
    pub(crate) accesses: &'a [Access],
    /// Whether a barrier stands before it.
    pub(crate) ordered: bool,
    /// Whether the caller asked for that.
    pub(crate) asked: bool,
}

/// Explains a recording.
pub(crate) fn explain(
    label: &str,
    items: Vec<Item<'_>>,
    name: impl Fn(ResourceId, &Range<u64>) -> String,
    cost: impl Fn(&Command) -> f64,
) -> Explanation {
    let mut dependencies = Dependencies::default();
    let mut commands: Vec<Command> = Vec::with_capacity(items.len());
    let mut groups: Vec<Group> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let barrier = (item.ordered || item.asked).then(|| Barrier { asked: item.asked, reasons: Vec::new() });
        match groups.last_mut() {
            Some(group) if barrier.is_none() => group.commands.end = index + 1,
            _ => groups.push(Group { commands: index..index + 1, barrier }),
        }
        let mut command = command(item, &name);
        command.group = groups.len() - 1;
        command.after = dependencies.add(index, item.accesses, &name);
        command.cost = cost(&command);
        commands.push(command);
    }
    let mut missing = Vec::new();
    for reason in commands.iter().flat_map(|command| &command.after) {
        let (earlier, later) = (commands[reason.earlier].group, commands[reason.later].group);
        if earlier == later {
            missing.push(reason.clone());
        } else if earlier + 1 == later
            && let Some(barrier) = &mut groups[later].barrier
        {
            barrier.reasons.push(reason.clone());
        }
    }
    let (critical_path, critical_cost) = depend::critical_path(&commands, &groups);
    for index in &critical_path {
        commands[*index].critical = true;
    }
    let total_cost = commands.iter().map(|command| command.cost).sum();
    Explanation { label: label.into(), commands, groups, critical_path, critical_cost, total_cost, missing }
}

fn command(item: &Item<'_>, name: &impl Fn(ResourceId, &Range<u64>) -> String) -> Command {
    let slots = item.slots.iter().copied().chain(std::iter::repeat(""));
    let uses = item.accesses.iter().zip(slots).map(|(access, slot)| Use {
        slot: slot.into(),
        buffer: name(access.resource, &access.range),
        bytes: access.range.clone(),
        written: access.mode == Mode::Write,
    });
    Command {
        label: item.label.into(),
        kernel: item.kernel.map(Into::into),
        kind: item.kind,
        grid: item.grid.clone(),
        group: 0,
        uses: uses.collect(),
        after: Vec::new(),
        cost: 1.0,
        critical: false,
    }
}

impl Explanation {
    /// The barriers: how many stand because of a conflict of each kind, and how many for the caller's wish alone.
    pub fn barriers(&self) -> BarrierCounts {
        let mut counts = BarrierCounts::default();
        for barrier in self.groups.iter().filter_map(|group| group.barrier.as_ref()) {
            let count = match barrier.reasons.first().map(|reason| reason.kind) {
                Some(HazardKind::Raw) => &mut counts.raw,
                Some(HazardKind::War) => &mut counts.war,
                Some(HazardKind::Waw) => &mut counts.waw,
                None => &mut counts.unneeded,
            };
            *count += 1;
        }
        counts
    }

    /// As JSON: this structure, field by field.
    pub fn to_json(&self) -> String {
        // Strings, numbers and lists always serialise.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// As text, a line a command.
    pub fn to_text(&self) -> String {
        self.to_string()
    }

    /// As a graph in the DOT language: groups as clusters, conflicts as edges.
    pub fn to_dot(&self) -> String {
        dot::write(self)
    }

    /// As a picture that needs nothing else: groups as columns, commands as boxes, barriers with their reasons as bars
    /// between the columns. A longer recording goes on in the next row, if it repeats itself then at each repeat.
    pub fn to_svg(&self) -> String {
        svg::write(self)
    }
}

/// Barriers by their first reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BarrierCounts {
    /// For a read after a write.
    pub raw: usize,
    /// For a write after a read.
    pub war: usize,
    /// For a write after a write.
    pub waw: usize,
    /// For no conflict between the groups on their sides.
    pub unneeded: usize,
}

impl BarrierCounts {
    /// All of them.
    pub fn total(&self) -> usize {
        self.raw + self.war + self.waw + self.unneeded
    }
}

impl fmt::Display for BarrierCounts {
    /// As in `12 barriers (9 RAW, 3 WAR)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [(self.raw, "RAW"), (self.war, "WAR"), (self.waw, "WAW"), (self.unneeded, "not needed")];
        let kinds: Vec<String> =
            kinds.iter().filter(|(count, _)| *count > 0).map(|(count, kind)| format!("{count} {kind}")).collect();
        match self.total() {
            0 => f.write_str("no barriers"),
            1 => write!(f, "1 barrier ({})", kinds.join(", ")),
            total => write!(f, "{total} barriers ({})", kinds.join(", ")),
        }
    }
}

fn name_of_kind<S: serde::Serializer>(kind: &OpKind, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&format!("{kind:?}"))
}

fn display<S: serde::Serializer>(kind: &HazardKind, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(kind)
}
