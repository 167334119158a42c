//! Times summed up: by command buffer and by command.

mod table;

use std::sync::Arc;

use kovar_hal::DeviceInfo;
use rustc_hash::FxHashMap;

use super::cost::Cost;
use super::recorder::{Command, Profile, Run};
use super::summary::Summary;
use crate::OpKind;

/// What a device was measured to do at most. `None`: not measured.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize)]
pub struct Peaks {
    /// Bytes read from memory a second.
    pub read: Option<f64>,
    /// Operations on f32 a second, a multiplication and an addition counted each.
    pub f32: Option<f64>,
    /// Operations a second of the fastest matrix products that it has.
    pub matrix: Option<f64>,
}

/// Command buffers of one label.
#[derive(Debug, Clone, PartialEq)]
pub struct BufferTimes {
    /// The label.
    pub label: String,
    /// How many there were.
    pub count: usize,
    /// Nanoseconds of each that ran whole; `None` if none was timed so.
    pub whole: Option<Summary>,
    /// Nanoseconds of each whose commands ran one by one.
    pub split: Option<Summary>,
    /// Nanoseconds of the commands of each of these, summed up.
    pub commands: Option<Summary>,
}

/// Commands of one kernel, grid and cost.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandTimes {
    /// One of them.
    pub command: Command,
    /// How many there were.
    pub calls: usize,
    /// Nanoseconds of each; `None` if none was timed.
    pub times: Option<Summary>,
    /// Bytes that they moved in all; `None` if that is not known of each.
    pub bytes: Option<u64>,
    /// Operations in all; `None` if they are not known of each.
    pub operations: Option<u64>,
}

impl CommandTimes {
    fn per_second(&self, what: Option<u64>) -> Option<f64> {
        let times = self.times.as_ref().filter(|times| times.count() == self.calls)?;
        let seconds = times.total() / 1e9;
        (seconds > 0.0).then_some(what? as f64 / seconds)
    }

    /// Bytes a second; `None` if a time or a size is not known.
    pub fn bytes_per_s(&self) -> Option<f64> {
        self.per_second(self.bytes)
    }

    /// Operations a second.
    pub fn operations_per_s(&self) -> Option<f64> {
        self.per_second(self.operations)
    }
}

/// A profile summed up. As text it is a table.
#[derive(Debug, Clone)]
pub struct Report {
    /// The device.
    pub device: DeviceInfo,
    /// What it can do at most, for the shares in the table.
    pub peaks: Peaks,
    /// By label, in the order of the first of each.
    pub buffers: Vec<BufferTimes>,
    /// What took longest first.
    pub commands: Vec<CommandTimes>,
}

impl Report {
    /// Sums a profile up.
    pub fn of(profile: &Profile) -> Report {
        Report {
            device: profile.device.clone(),
            peaks: Peaks::default(),
            buffers: buffers(&profile.runs),
            commands: commands(&profile.runs),
        }
    }

    /// Sets times in relation to what the device can do at most.
    #[must_use]
    pub fn with_peaks(mut self, peaks: Peaks) -> Report {
        self.peaks = peaks;
        self
    }

    /// Nanoseconds of all commands that were timed one by one.
    pub fn total(&self) -> f64 {
        self.commands.iter().filter_map(|row| row.times.as_ref()).map(Summary::total).sum()
    }
}

fn nanoseconds(span: kovar_hal::TimeSpan) -> f64 {
    span.end.saturating_sub(span.start) as f64
}

fn buffers(runs: &[Run]) -> Vec<BufferTimes> {
    let mut labels: Vec<&str> = Vec::new();
    for run in runs {
        if !labels.contains(&run.label.as_str()) {
            labels.push(&run.label);
        }
    }
    let times = |label: &str| {
        let of = || runs.iter().filter(move |run| run.label == label);
        let whole = |split: bool| {
            let timed = of().filter(move |run| run.commands.is_empty() != split);
            Summary::of(timed.filter_map(|run| run.time).map(nanoseconds))
        };
        let sum = |run: &Run| run.times.iter().copied().map(|time| time.map(nanoseconds)).sum::<Option<f64>>();
        let commands = Summary::of(of().filter(|run| !run.commands.is_empty()).filter_map(sum));
        BufferTimes { label: label.into(), count: of().count(), whole: whole(false), split: whole(true), commands }
    };
    labels.into_iter().map(times).collect()
}

#[derive(Default)]
struct Row {
    first: Option<Command>,
    calls: usize,
    times: Vec<f64>,
    bytes: Option<u64>,
    operations: Option<u64>,
}

impl Row {
    fn add(&mut self, command: &Command, time: Option<f64>, position: Option<u64>) {
        let (bytes, operations) = (command.cost.bytes(position), command.cost.operations(position));
        if self.first.is_none() {
            self.first = Some(command.clone());
            (self.bytes, self.operations) = (Some(0), Some(0));
        }
        self.calls += 1;
        self.times.extend(time);
        self.bytes = self.bytes.zip(bytes).map(|(sum, more)| sum + more);
        self.operations = self.operations.zip(operations).map(|(sum, more)| sum + more);
    }
}

fn commands(runs: &[Run]) -> Vec<CommandTimes> {
    type Key = (Arc<str>, Option<Arc<str>>, OpKind, Option<[u32; 3]>, Cost);
    let mut rows: FxHashMap<Key, Row> = FxHashMap::default();
    for run in runs {
        for (at, command) in run.commands.iter().enumerate() {
            let Command { label, kernel, kind, groups, cost } = command.clone();
            let time = run.times.get(at).copied().flatten().map(nanoseconds);
            rows.entry((label, kernel, kind, groups, cost)).or_default().add(command, time, run.position);
        }
    }
    let times = |row: Row| {
        let Row { first, calls, times, bytes, operations } = row;
        Some(CommandTimes { command: first?, calls, times: Summary::of(times), bytes, operations })
    };
    let mut rows: Vec<CommandTimes> = rows.into_values().filter_map(times).collect();
    let total = |row: &CommandTimes| row.times.as_ref().map_or(0.0, Summary::total);
    let name = |row: &CommandTimes| (row.command.label.clone(), row.command.groups, row.command.cost.read);
    rows.sort_by(|a, b| total(b).total_cmp(&total(a)).then_with(|| name(a).cmp(&name(b))));
    rows
}
