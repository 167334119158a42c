//! The trace file: the fields that the Trace Event Format asks of each kind of event, and host and device on one timeline.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;

use common::{AXPY, AxpyParams, cpu, null};
use kovar::profile::{Profile, Profiler, Report};
use kovar::{DType, Device, Dispatch, EncoderOptions, ExecutableOptions, Graph, Timing};
use serde::Deserialize;
use serde_json::Value;

/// JSON object form of "Trace Event Format".
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(non_snake_case)]
struct TraceFile {
    traceEvents: Vec<Event>,
    displayTimeUnit: TimeUnit,
    otherData: BTreeMap<String, Value>,
}

#[derive(Deserialize, PartialEq, Debug)]
#[serde(rename_all = "lowercase")]
enum TimeUnit {
    Ms,
    Ns,
}

#[derive(Deserialize)]
#[serde(tag = "ph", deny_unknown_fields)]
enum Event {
    /// Metadata.
    M {
        name: String,
        pid: u32,
        #[serde(rename = "tid")]
        _tid: u32,
        args: Name,
    },
    /// A complete event: times in microseconds.
    X { name: String, cat: String, pid: u32, tid: u32, ts: f64, dur: f64, args: BTreeMap<String, Value> },
    /// The start of a flow.
    #[serde(rename = "s")]
    Start { name: String, cat: String, id: u64, pid: u32, tid: u32, ts: f64 },
    /// Its end, at the enclosing slice.
    #[serde(rename = "f")]
    Finish { name: String, cat: String, id: u64, pid: u32, tid: u32, ts: f64, bp: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Name {
    name: String,
}

/// Two recordings, one of them command by command, and a replayed graph.
fn profile(device: &Device) -> Profile {
    let [x, y] = [(); 2].map(|()| device.buffer(DType::F32, &[1 << 16]).unwrap());
    let axpy = device.kernel(&AXPY, &[]).unwrap();
    let params = AxpyParams { n: 1 << 16, a: 2.0 };
    let dispatch = Dispatch::new(&axpy).bind(0, &x).bind(1, &y).constants(&params).threads([1 << 16, 1, 1]);
    let profiler = Profiler::attach(device).unwrap();
    for timing in [Timing::Whole, Timing::Dispatches] {
        let options = EncoderOptions { label: "<live> & \"quoted\"".into(), timing, ..EncoderOptions::default() };
        let mut encoder = device.encoder_with(options).unwrap();
        (0..5).for_each(|_| encoder.dispatch(dispatch.label("step")).unwrap());
        encoder.commit().unwrap().wait().unwrap();
    }
    let graph = Graph::capture(device, "replayed", |encoder| encoder.dispatch(dispatch)).unwrap();
    let options = ExecutableOptions { timing: Timing::Dispatches, ..ExecutableOptions::default() };
    let mut step = graph.compile(&options).unwrap();
    for _ in 0..3 {
        step.submit().unwrap().wait().unwrap();
    }
    profiler.take().unwrap()
}

fn devices(test: &str) -> Vec<Device> {
    let mut devices = vec![cpu()];
    match Device::open(&kovar::DeviceOptions::of(kovar::Backend::Vulkan)) {
        Ok(device) => devices.push(device),
        Err(reason) => kovar_testing::skip(test, "vulkan", &reason.to_string()),
    }
    devices
}

/// Start and end of an event with its row.
type Slice = (f64, f64, String);

/// The events of each process and thread.
fn rows(events: &[Event]) -> BTreeMap<(u32, u32), Vec<Slice>> {
    let mut rows: BTreeMap<_, Vec<Slice>> = BTreeMap::new();
    for event in events {
        if let Event::X { name, cat, pid, tid, ts, dur, args } = event {
            assert!(*ts >= 0.0 && *dur >= 0.0 && !name.is_empty() && !cat.is_empty() && !args.is_empty());
            rows.entry((*pid, *tid)).or_default().push((*ts, ts + dur, name.clone()));
        }
    }
    rows
}

#[test]
fn every_event_has_what_its_kind_asks_for() {
    for device in devices("every_event_has_what_its_kind_asks_for") {
        let text = profile(&device).to_trace().to_string();
        let file: TraceFile = serde_json::from_str(&text).unwrap();
        assert_eq!(file.displayTimeUnit, TimeUnit::Ns);
        assert!(file.otherData["device_times_may_be_off_by_us"].is_number());
        let mut named = Vec::new();
        for event in &file.traceEvents {
            match event {
                Event::M { name, pid, args, .. } => {
                    assert!(["process_name", "thread_name"].contains(&name.as_str()) && !args.name.is_empty());
                    named.push(*pid);
                }
                Event::X { pid, .. } => assert!(named.contains(pid), "a process without a name"),
                Event::Start { name, cat, pid, .. } => {
                    assert_eq!((name.as_str(), cat.as_str(), *pid), ("submission", "submission", 1));
                }
                Event::Finish { name, cat, pid, tid, bp, .. } => {
                    assert_eq!((name.as_str(), cat.as_str(), bp.as_str()), ("submission", "submission", "e"));
                    assert_eq!((*pid, *tid), (2, 1));
                }
            }
        }
        // Events of one row nest or follow each other: a viewer draws them in one row.
        for (row, mut slices) in rows(&file.traceEvents) {
            slices.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
            for pair in slices.windows(2) {
                let (a, b) = (&pair[0], &pair[1]);
                assert!(b.0 >= a.1 - 1e-3 || b.1 <= a.1 + 1e-3, "{row:?}: {a:?} and {b:?}");
            }
        }
    }
}

#[test]
fn commands_lie_in_their_command_buffers_and_those_after_their_submission() {
    for device in devices("commands_lie_in_their_command_buffers_and_those_after_their_submission") {
        let file: TraceFile = serde_json::from_str(&profile(&device).to_trace().to_string()).unwrap();
        let error = file.otherData["device_times_may_be_off_by_us"].as_f64().unwrap() * 2.0 + 1e-3;
        let rows = rows(&file.traceEvents);
        let (buffers, commands) = (&rows[&(2, 1)], &rows[&(2, 2)]);
        assert_eq!((buffers.len(), commands.len()), (5, 5 + 3));
        for (start, end, name) in commands {
            assert!(buffers.iter().any(|b| b.0 <= start + 1e-3 && *end <= b.1 + 1e-3), "{name} {start} to {end}");
        }
        let flows = |starts: bool| -> BTreeMap<u64, f64> {
            let one = |event: &Event| match event {
                Event::Start { id, ts, .. } if starts => Some((*id, *ts)),
                Event::Finish { id, ts, .. } if !starts => Some((*id, *ts)),
                _ => None,
            };
            file.traceEvents.iter().filter_map(one).collect()
        };
        let (starts, ends) = (flows(true), flows(false));
        assert_eq!(starts.len(), 5);
        assert!(starts.keys().eq(ends.keys()));
        for (id, start) in &starts {
            assert!(ends[id] + error >= *start, "submission {id} ran before it was handed over: {start} {}", ends[id]);
        }
        // An arrow begins in a slice of the host.
        for event in &file.traceEvents {
            if let Event::Start { pid, tid, ts, .. } = event {
                assert!(rows[&(*pid, *tid)].iter().any(|slice| slice.0 <= *ts && *ts <= slice.1));
            }
        }
    }
}

#[test]
fn a_device_without_a_clock_leaves_only_the_host() {
    let file: TraceFile = serde_json::from_str(&profile(&null()).to_trace().to_string()).unwrap();
    assert!(file.otherData["device_times_may_be_off_by_us"].is_null());
    assert!(rows(&file.traceEvents).keys().all(|(pid, _)| *pid == 1));
}

#[test]
fn pages_need_nothing_else_and_are_well_formed() {
    for device in devices("pages_need_nothing_else_and_are_well_formed") {
        let kept = profile(&device);
        let peaks = kovar::profile::Peaks { read: Some(1e10), f32: Some(1e11), matrix: None };
        let report = Report::of(&kept).with_peaks(peaks);
        let page = kept.to_html("<title> & more", &report);
        assert!(page.contains("&lt;title&gt; &amp; more") && page.contains("&lt;live&gt; &amp; &quot;quoted&quot;"));
        // The names of XML's own vocabulary are the only addresses in it, and nothing is loaded or run.
        assert_eq!(page.matches("http").count(), page.matches("xmlns=\"http://www.w3.org/2000/svg\"").count());
        for word in ["<script", "<link", "<img", "src=", "url("] {
            assert!(!page.contains(word), "{word}");
        }
        for tag in ["svg", "table", "tr", "td", "th", "g", "title", "text", "p", "h1", "h2", "body", "html"] {
            let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
        }
        let timeline = kept.timeline_svg().unwrap();
        assert!(timeline.contains(">axpy") && !timeline.contains("NaN") && !page.contains("NaN"));
    }
    assert_eq!(profile(&null()).timeline_svg(), None);
}
