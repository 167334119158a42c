//! Speed of single kernels, at the shapes of a model.

mod cases;

use std::io::Write;

use kovar::profile::Summary;
use kovar::profile::columns::{aligned, known, percent};
use kovar::{Barriers, CommandEncoder, Device, EncoderOptions, Timing};
use serde_json::{Value, json};

use crate::arguments::Ops;
use crate::error::{Failure, Result};
use crate::peak::Measured;
use cases::Case;
pub(crate) use cases::{Cases, Part};

/// Seconds that a recording is to take: long beside what starts it.
const LONG_ENOUGH: f64 = 0.003;
/// Calls of a recording at most.
const MOST_CALLS: usize = 1024;
/// Times that peaks are measured.
const PEAK_ROUNDS: usize = 3;

pub(crate) fn run(arguments: &Ops) -> Result<()> {
    let device = arguments.running.open()?;
    let peaks = Measured::new(&device, PEAK_ROUNDS)?;
    let mut rows = Vec::new();
    let mut out = std::io::stdout().lock();
    for case in Cases::new(&device, arguments)? {
        rows.push(Row::measure(&device, &case?, arguments.rounds)?);
    }
    if arguments.json {
        let rows: Vec<Value> = rows.iter().map(|row| row.to_json(&peaks)).collect();
        let info = device.info();
        let report = json!({
            "device": info.name,
            "backend": info.backend.to_string(),
            "shape": arguments.shape,
            "peaks": peaks.to_json(&device),
            "kernels": rows,
        });
        writeln!(out, "{report}")?;
        return Ok(());
    }
    out.write_all(peaks.text(&device).as_bytes())?;
    writeln!(
        out,
        "\neach kernel among others that may overlap it, and behind barriers; beyond 100 % of the peak, data comes from a cache\n"
    )?;
    let rows: Vec<_> = rows.iter().map(|row| row.text(&peaks)).collect();
    out.write_all(aligned(HEAD, &rows).as_bytes())?;
    Ok(())
}

const HEAD: [&str; 10] = [
    "KERNEL",
    "MB",
    "OVERLAPPED µs",
    "LEAST..MOST",
    "GB/s",
    "OF PEAK",
    "Gop/s",
    "BARRIER µs",
    "LEAST..MOST",
    "OF PEAK",
];

/// What a call takes.
struct Row {
    name: String,
    /// Bytes and operations of a call.
    bytes: Option<u64>,
    operations: Option<u64>,
    /// Seconds of a call among independent ones, and of one that waits for the last.
    overlapped: Summary,
    chained: Summary,
}

impl Row {
    fn measure(device: &Device, case: &Case, rounds: usize) -> Result<Row> {
        let (bytes, operations) = cost(device, case)?;
        let overlapped = measured(device, case, Barriers::Auto, rounds)?;
        let chained = chained(device, case, rounds)?;
        Ok(Row { name: case.name.clone(), bytes, operations, overlapped, chained })
    }

    fn rate(amount: Option<u64>, time: &Summary) -> Option<f64> {
        Some(amount? as f64 / time.median()).filter(|rate| rate.is_finite())
    }

    /// Share of the peak that is nearer: of reading or of arithmetic.
    fn of_peak(&self, time: &Summary, peaks: &Measured) -> Option<f64> {
        let bytes = Row::rate(self.bytes, time).map(|rate| rate / peaks.reading());
        let operations = Row::rate(self.operations, time).map(|rate| rate / peaks.arithmetic());
        match (bytes, operations) {
            (Some(bytes), Some(operations)) => Some(bytes.max(operations)),
            (bytes, operations) => bytes.or(operations),
        }
    }

    fn text(&self, peaks: &Measured) -> [String; HEAD.len()] {
        let micros = |seconds: f64| format!("{:.2}", seconds * 1e6);
        let range = |time: &Summary| format!("{}..{}", micros(time.min()), micros(time.max()));
        let giga = |amount| known(Row::rate(amount, &self.overlapped).map(|rate| rate / 1e9), 1);
        [
            self.name.clone(),
            known(self.bytes.map(|bytes| bytes as f64 / 1e6), 3),
            micros(self.overlapped.median()),
            range(&self.overlapped),
            giga(self.bytes),
            percent(self.of_peak(&self.overlapped, peaks)),
            giga(self.operations),
            micros(self.chained.median()),
            range(&self.chained),
            percent(self.of_peak(&self.chained, peaks)),
        ]
    }

    fn to_json(&self, peaks: &Measured) -> Value {
        let part = |time: &Summary| {
            json!({
                "seconds": { "median": time.median(), "min": time.min(), "max": time.max(), "rounds": time.count() },
                "bytes_per_s": Row::rate(self.bytes, time),
                "operations_per_s": Row::rate(self.operations, time),
                "of_peak": self.of_peak(time, peaks),
            })
        };
        json!({
            "kernel": self.name,
            "bytes": self.bytes,
            "operations": self.operations,
            "overlapped": part(&self.overlapped),
            "behind_barriers": part(&self.chained),
        })
    }
}

/// Seconds of a call that waits for the last.
pub(crate) fn chained(device: &Device, case: &Case, rounds: usize) -> Result<Summary> {
    measured(device, case, Barriers::Serial, rounds)
}

fn measured(device: &Device, case: &Case, barriers: Barriers, rounds: usize) -> Result<Summary> {
    let mut calls = case.turns.max(4);
    while calls < MOST_CALLS && time(device, case, barriers, calls)? < LONG_ENOUGH {
        calls *= 2;
    }
    let times: Result<Vec<f64>> = (0..rounds).map(|_| time(device, case, barriers, calls)).collect();
    let each = times?.into_iter().map(|time| time / calls as f64);
    Summary::of(each).ok_or_else(|| Failure::new("nothing was measured"))
}

/// Seconds of a recording of so many calls, on the device's clock, else on the host's.
fn time(device: &Device, case: &Case, barriers: Barriers, calls: usize) -> Result<f64> {
    let options = EncoderOptions { label: case.name.clone(), barriers, ..EncoderOptions::default() };
    let mut encoder = device.encoder_with(options)?;
    for call in 0..calls {
        case.record(&mut encoder, call)?;
    }
    let begun = std::time::Instant::now();
    let done = encoder.commit()?.wait()?;
    let host = begun.elapsed().as_secs_f64();
    Ok(done.time.map_or(host, |time| time.end.saturating_sub(time.start) as f64 / 1e9))
}

/// Bytes and operations of a call; `None` for what a command does not tell.
fn cost(device: &Device, case: &Case) -> Result<(Option<u64>, Option<u64>)> {
    let options = EncoderOptions { timing: Timing::Dispatches, ..EncoderOptions::default() };
    let mut encoder: CommandEncoder = device.encoder_with(options)?;
    case.record(&mut encoder, 0)?;
    let commands = encoder.commit()?.wait()?.commands;
    let costs = || commands.iter().map(|command| command.cost);
    let told: Vec<u64> = costs().filter_map(|cost| cost.operations(Some(case.position))).collect();
    let bytes = costs().map(|cost| cost.bytes(Some(case.position))).sum();
    Ok((bytes, (!told.is_empty()).then(|| told.iter().sum())))
}
