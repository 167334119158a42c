//! Host and device on one timeline, as Chrome's trace viewer and Perfetto read it: "Trace Event Format", JSON object form.

use std::time::{Duration, Instant};

use kovar_hal::TimeSpan;
use serde_json::{Value, json};

use super::clocks::Clock;
use super::recorder::{HostSpan, HostWork, Profile, Run};

const HOST: u32 = 1;
const DEVICE: u32 = 2;
/// Rows of the device.
const BUFFERS: usize = 1;
const COMMANDS: usize = 2;

impl HostWork {
    pub(super) fn name(self) -> &'static str {
        match self {
            HostWork::Record => "record",
            HostWork::Submit => "submit",
            HostWork::Wait => "wait",
        }
    }
}

impl Profile {
    /// When the first thing happened that is kept.
    pub(super) fn begin(&self) -> Option<Instant> {
        let host = self.host.iter().map(|span| span.start);
        let device = self.runs.iter().filter_map(|run| self.clock?.host(run.time?.start));
        host.chain(device).chain(self.runs.iter().map(|run| run.submitted)).min()
    }

    /// A trace in Chrome's format, which <https://ui.perfetto.dev> and `chrome://tracing` open. Device times are host
    /// times by the profile's [`Clock`]; `otherData` says how far off they may be. What has no time is left out.
    pub fn to_trace(&self) -> Value {
        let begin = self.begin();
        let timeline = begin.map(|begin| Timeline { begin, clock: self.clock });
        let mut events = names(self);
        if let Some(timeline) = &timeline {
            events.extend(self.host.iter().map(|span| timeline.host_event(span)));
            for run in &self.runs {
                let is_its = |span: &&HostSpan| span.work == HostWork::Submit && span.submission == Some(run.number);
                timeline.run_events(run, self.host.iter().find(is_its), &mut events);
            }
        }
        json!({
            "displayTimeUnit": "ns",
            "traceEvents": events,
            "otherData": {
                "device": self.device.name,
                "backend": self.device.backend.to_string(),
                "device_times_may_be_off_by_us": self.clock.map(|clock| micros(clock.error())),
                "commands": "each command that has a time of its own ran by itself, between barriers",
            },
        })
    }
}

fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}

fn name(what: &str, pid: u32, tid: usize, name: &str) -> Value {
    json!({ "ph": "M", "name": what, "pid": pid, "tid": tid, "args": { "name": name } })
}

fn names(profile: &Profile) -> Vec<Value> {
    let device = format!("{} ({})", profile.device.name, profile.device.backend);
    let mut events = vec![
        name("process_name", HOST, 0, "host"),
        name("process_name", DEVICE, 0, &device),
        name("thread_name", DEVICE, BUFFERS, "command buffers"),
        name("thread_name", DEVICE, COMMANDS, "commands"),
    ];
    let threads = profile.host.iter().map(|span| span.thread + 1).max().unwrap_or(0);
    events.extend((0..threads).map(|thread| name("thread_name", HOST, thread + 1, &format!("thread {thread}"))));
    events
}

/// Where a moment lies from the first on.
struct Timeline {
    begin: Instant,
    clock: Option<Clock>,
}

impl Timeline {
    /// Microseconds.
    fn at(&self, moment: Instant) -> f64 {
        micros(moment.saturating_duration_since(self.begin))
    }

    /// Start and duration of a span of the device, in microseconds of the host.
    fn device(&self, span: TimeSpan) -> Option<(f64, f64)> {
        let start = self.at(self.clock?.host(span.start)?);
        Some((start, self.at(self.clock?.host(span.end)?) - start))
    }

    fn host_event(&self, span: &HostSpan) -> Value {
        let HostSpan { work, label, submission, thread, start, end } = span;
        let ts = self.at(*start);
        let name = if label.is_empty() { work.name().into() } else { format!("{}: {label}", work.name()) };
        json!({
            "ph": "X", "cat": "host", "name": name, "pid": HOST, "tid": thread + 1,
            "ts": ts, "dur": self.at(*end) - ts, "args": { "submission": submission },
        })
    }

    fn run_events(&self, run: &Run, submit: Option<&HostSpan>, events: &mut Vec<Value>) {
        let Some((ts, dur)) = run.time.and_then(|time| self.device(time)) else { return };
        if let Some(submit) = submit {
            // An arrow from where the host hands over to where the device begins.
            events.push(json!({
                "ph": "s", "cat": "submission", "name": "submission", "id": run.number,
                "pid": HOST, "tid": submit.thread + 1, "ts": self.at(submit.start),
            }));
            events.push(json!({
                "ph": "f", "bp": "e", "cat": "submission", "name": "submission", "id": run.number,
                "pid": DEVICE, "tid": BUFFERS, "ts": ts,
            }));
        }
        events.push(json!({
            "ph": "X", "cat": "command buffer", "name": run.label, "pid": DEVICE, "tid": BUFFERS,
            "ts": ts, "dur": dur, "args": { "submission": run.number, "commands": run.commands.len() },
        }));
        for (order, (command, time)) in run.commands.iter().zip(&run.times).enumerate() {
            let Some((ts, dur)) = time.and_then(|time| self.device(time)) else { continue };
            events.push(json!({
                "ph": "X", "cat": format!("{:?}", command.kind), "name": *command.label, "pid": DEVICE, "tid": COMMANDS,
                "ts": ts, "dur": dur,
                "args": {
                    "order": order,
                    "kernel": command.kernel.as_deref(),
                    "groups": command.groups,
                    "bytes": command.cost.bytes(run.position),
                    "operations": command.cost.operations(run.position),
                },
            }));
        }
    }
}
