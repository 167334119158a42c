//! The report for people and for programs.

use std::fmt;

use serde_json::{Value, json};

use super::{BufferTimes, CommandTimes, Report};
use crate::profile::Summary;
use crate::profile::columns::{aligned, known, percent};

const HEAD: [&str; 12] = [
    "KERNEL", "GRID", "CALLS", "TOTAL ms", "SHARE", "MEAN µs", "P50 µs", "P99 µs", "MB/CALL", "GB/s", "OF PEAK",
    "Gop/s",
];

impl CommandTimes {
    /// Kernel, with the label where that is another name.
    pub fn name(&self) -> String {
        match &self.command.kernel {
            Some(kernel) if *kernel != self.command.label => format!("{} ({kernel})", self.command.label),
            _ => self.command.label.to_string(),
        }
    }

    /// Workgroups, as `x·y·z` without trailing ones.
    fn grid(&self) -> String {
        match self.command.groups {
            None => "-".into(),
            Some([x, 1, 1]) => format!("{x}"),
            Some([x, y, 1]) => format!("{x}x{y}"),
            Some([x, y, z]) => format!("{x}x{y}x{z}"),
        }
    }

    fn of(&self, what: fn(&Summary) -> f64) -> Option<f64> {
        self.times.as_ref().map(what)
    }
}

impl Report {
    /// Share of the time of all commands.
    fn share(&self, row: &CommandTimes) -> Option<f64> {
        let total = self.total();
        row.of(Summary::total).filter(|_| total > 0.0).map(|time| time / total)
    }

    /// Share of the memory's measured peak.
    fn of_peak(&self, row: &CommandTimes) -> Option<f64> {
        row.bytes_per_s().zip(self.peaks.read).map(|(rate, peak)| rate / peak)
    }

    fn row(&self, row: &CommandTimes) -> [String; HEAD.len()] {
        let micros = |what| known(row.of(what).map(|time: f64| time / 1e3), 1);
        let each = row.bytes.map(|bytes| bytes as f64 / row.calls.max(1) as f64 / 1e6);
        [
            row.name(),
            row.grid(),
            row.calls.to_string(),
            known(row.of(Summary::total).map(|time| time / 1e6), 3),
            percent(self.share(row)),
            micros(|times| times.total() / times.count() as f64),
            micros(Summary::median),
            micros(|times| times.percentile(99.0)),
            known(each, 3),
            known(row.bytes_per_s().map(|rate| rate / 1e9), 1),
            percent(self.of_peak(row)),
            known(row.operations_per_s().map(|rate| rate / 1e9), 1),
        ]
    }

    /// As JSON: times in nanoseconds, sizes in bytes, rates a second, shares of 1; `null` for what is not known.
    pub fn to_json(&self) -> Value {
        json!({
            "device": self.device.name,
            "backend": self.device.backend.to_string(),
            "peaks": self.peaks,
            "command_buffers": self.buffers.iter().map(BufferTimes::to_json).collect::<Vec<_>>(),
            "commands": self.commands.iter().map(|row| self.command_json(row)).collect::<Vec<_>>(),
        })
    }

    fn command_json(&self, row: &CommandTimes) -> Value {
        json!({
            "label": *row.command.label,
            "kernel": row.command.kernel.as_deref(),
            "kind": format!("{:?}", row.command.kind),
            "groups": row.command.groups,
            "calls": row.calls,
            "times": row.times.as_ref().map(summary),
            "share": self.share(row),
            "bytes": row.bytes,
            "operations": row.operations,
            "bytes_per_s": row.bytes_per_s(),
            "operations_per_s": row.operations_per_s(),
            "of_read_peak": self.of_peak(row),
        })
    }
}

fn summary(times: &Summary) -> Value {
    json!({
        "count": times.count(),
        "total": times.total(),
        "min": times.min(),
        "p50": times.median(),
        "p90": times.percentile(90.0),
        "p99": times.percentile(99.0),
        "max": times.max(),
    })
}

impl BufferTimes {
    fn to_json(&self) -> Value {
        json!({
            "label": self.label,
            "count": self.count,
            "whole": self.whole.as_ref().map(summary),
            "split": self.split.as_ref().map(summary),
            "commands_of_split": self.commands.as_ref().map(summary),
        })
    }

    /// What splitting did to the time.
    fn note(&self) -> Option<String> {
        let (split, commands) = (self.split.as_ref()?, self.commands.as_ref()?);
        let ms = |time: f64| format!("{:.3} ms", time / 1e6);
        let whole = match &self.whole {
            Some(whole) => format!("the same unsplit took {}", ms(whole.median())),
            None => "the same unsplit was not measured".into(),
        };
        Some(format!(
            "{}: timing each command runs it by itself, between barriers: {} of commands in {} a command buffer; {whole}",
            self.label,
            ms(commands.median()),
            ms(split.median()),
        ))
    }
}

const BUFFER_HEAD: [&str; 8] =
    ["COMMAND BUFFER", "COUNT", "TOTAL ms", "MIN ms", "P50 ms", "P90 ms", "P99 ms", "MAX ms"];

fn buffer_rows(times: &BufferTimes) -> Vec<[String; BUFFER_HEAD.len()]> {
    let row = |name: String, times: Option<&Summary>, count: usize| {
        let ms = |what: fn(&Summary) -> f64| known(times.map(|times| what(times) / 1e6), 3);
        let count = times.map_or(count, Summary::count).to_string();
        let [p90, p99] = [|times: &Summary| times.percentile(90.0), |times: &Summary| times.percentile(99.0)].map(ms);
        [name, count, ms(Summary::total), ms(Summary::min), ms(Summary::median), p90, p99, ms(Summary::max)]
    };
    let mut rows = Vec::new();
    if times.whole.is_some() || times.split.is_none() {
        rows.push(row(times.label.clone(), times.whole.as_ref(), times.count));
    }
    if times.split.is_some() {
        rows.push(row(format!("{}, split", times.label), times.split.as_ref(), times.count));
    }
    rows
}

impl Report {
    /// Heads and cells of the commands.
    pub(in crate::profile) fn command_table(&self) -> ([&'static str; HEAD.len()], Vec<[String; HEAD.len()]>) {
        (HEAD, self.commands.iter().map(|row| self.row(row)).collect())
    }

    /// Heads and cells of the command buffers.
    pub(in crate::profile) fn buffer_table(
        &self,
    ) -> ([&'static str; BUFFER_HEAD.len()], Vec<[String; BUFFER_HEAD.len()]>) {
        (BUFFER_HEAD, self.buffers.iter().flat_map(buffer_rows).collect())
    }

    /// What splitting did to times, and what is to be known of shares.
    pub(in crate::profile) fn notes(&self) -> impl Iterator<Item = String> {
        let cached = self.commands.iter().any(|row| self.of_peak(row).is_some_and(|share| share > 1.0));
        let cached = cached.then(|| "beyond 100 % of the peak, data comes from a cache".into());
        self.buffers.iter().filter_map(BufferTimes::note).chain(cached)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({})", self.device.name, self.device.backend)?;
        if let Some(peak) = self.peaks.read {
            writeln!(f, "measured peak of reading: {:.1} GB/s", peak / 1e9)?;
        }
        if !self.commands.is_empty() {
            writeln!(f)?;
            let (head, rows) = self.command_table();
            f.write_str(&aligned(head, &rows))?;
        }
        writeln!(f)?;
        let (head, rows) = self.buffer_table();
        f.write_str(&aligned(head, &rows))?;
        self.notes().try_for_each(|note| writeln!(f, "{note}"))
    }
}
