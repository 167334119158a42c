//! Times of commands and command buffers: what is kept, of what, and what is not known.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{AXPY, AxpyParams, cpu, null};
use kovar::profile::{Command, Cost, Profiler, Report};
use kovar::{
    Buffer, CommandEncoder, DType, Device, Dispatch, DispatchRecord, EncoderOptions, ExecutableOptions, Graph, OpKind,
    Timing,
};

const N: usize = 256;

/// What each test records: a kernel, the same with a cost and a label, a record, a copy, a fill.
struct Work {
    x: Buffer,
    y: Buffer,
    z: Buffer,
}

impl Work {
    fn new(device: &Device) -> Work {
        let [x, y, z] = [(); 3].map(|()| device.buffer(DType::F32, &[N]).unwrap());
        Work { x, y, z }
    }

    fn record(&self, encoder: &mut CommandEncoder) -> kovar::Result<()> {
        let Work { x, y, z } = self;
        let axpy = encoder.device().kernel(&AXPY, &[])?;
        let params = AxpyParams { n: N as u32, a: 2.0 };
        let dispatch = Dispatch::new(&axpy).constants(&params).threads([N as u32, 1, 1]);
        encoder.dispatch(dispatch.bind(0, x).bind(1, y))?;
        let cost = Cost { read: Some(40), operations: Some(100), read_per_position: 8, ..Cost::default() };
        let said = dispatch.label("said").kind(OpKind::Norm).cost(&cost);
        encoder.dispatch(said.bind(0, y).bind(1, z))?;
        encoder.dispatch_record(&DispatchRecord::bake(&said)?, &[z, x])?;
        encoder.copy(x, y)?;
        encoder.fill(z, 7)
    }

    fn expected(&self) -> Vec<Command> {
        let bytes = N as u64 * 4;
        let plain = Command {
            label: "axpy".into(),
            kernel: Some("axpy".into()),
            kind: OpKind::Other,
            groups: Some([4, 1, 1]),
            // It updates y, which it therefore reads too.
            cost: Cost { read: Some(2 * bytes), written: Some(bytes), ..Cost::default() },
        };
        let cost = Cost {
            read: Some(40),
            written: Some(bytes),
            operations: Some(100),
            read_per_position: 8,
            operations_per_position: 0,
        };
        let said = Command { label: "said".into(), kind: OpKind::Norm, cost, ..plain.clone() };
        let transfer = |label: &str, read| Command {
            label: label.into(),
            kernel: None,
            kind: OpKind::Transfer,
            groups: None,
            cost: Cost { read: Some(read), written: Some(bytes), ..Cost::default() },
        };
        vec![plain, said.clone(), said, transfer("copy", bytes), transfer("fill", 0)]
    }
}

fn live(device: &Device, work: &Work, timing: Timing) -> kovar::Completed {
    let options = EncoderOptions { label: "live".into(), timing, ..EncoderOptions::default() };
    let mut encoder = device.encoder_with(options).unwrap();
    work.record(&mut encoder).unwrap();
    encoder.commit().unwrap().wait().unwrap()
}

fn graph(device: &Device, work: &Work) -> Graph {
    Graph::capture(device, "replayed", |encoder| work.record(encoder)).unwrap()
}

/// Devices that execute, and the null device, which keeps no time.
fn devices(test: &str) -> Vec<Device> {
    let mut devices = vec![cpu(), null()];
    match Device::open(&kovar::DeviceOptions::of(kovar::Backend::Vulkan)) {
        Ok(device) => devices.push(device),
        Err(reason) => kovar_testing::skip(test, "vulkan", &reason.to_string()),
    }
    devices
}

#[test]
fn every_command_is_listed_with_what_it_is_and_moves() {
    for device in devices("every_command_is_listed_with_what_it_is_and_moves") {
        let work = Work::new(&device);
        let timed = device.info().features.timestamp_ns.is_some();
        let options = ExecutableOptions { timing: Timing::Dispatches, ..ExecutableOptions::default() };
        let mut replayed = graph(&device, &work).compile(&options).unwrap();
        for done in [
            live(&device, &work, Timing::Dispatches),
            replayed.submit().unwrap().wait().unwrap(),
            replayed.submit().unwrap().wait().unwrap(),
        ] {
            assert_eq!(done.commands.to_vec(), work.expected(), "{device:?} {}", done.label);
            if timed {
                assert_eq!(done.times.len(), done.commands.len(), "{device:?}");
            }
            assert!(done.times.iter().all(|time| time.is_some() == timed));
        }
        for timing in [Timing::Off, Timing::Whole] {
            assert!(live(&device, &work, timing).commands.is_empty());
            let options = ExecutableOptions { timing, ..ExecutableOptions::default() };
            let mut step = graph(&device, &work).compile(&options).unwrap();
            assert!(step.submit().unwrap().wait().unwrap().commands.is_empty());
        }
    }
}

#[test]
fn a_profiler_keeps_what_is_submitted_while_it_is_attached() {
    for device in devices("a_profiler_keeps_what_is_submitted_while_it_is_attached") {
        let work = Work::new(&device);
        live(&device, &work, Timing::Whole);
        let profiler = Profiler::attach(&device).unwrap();
        let first = live(&device, &work, Timing::Dispatches);
        // Nobody waits for this one.
        let mut encoder = device.encoder_with(EncoderOptions { label: "alone".into(), ..EncoderOptions::default() });
        work.record(encoder.as_mut().unwrap()).unwrap();
        drop(encoder.unwrap().commit().unwrap());
        device.wait_idle().unwrap();
        let kept = profiler.take().unwrap();
        let labels: Vec<&str> = kept.runs.iter().map(|run| run.label.as_str()).collect();
        assert_eq!(labels, ["live", "alone"], "{device:?}");
        assert_eq!((kept.runs[0].time, &kept.runs[0].times), (first.time, &first.times));
        assert_eq!(kept.runs[1].time.is_some(), kept.clock.is_some());
        assert!(kept.runs[1].commands.is_empty());
        if let Some(clock) = kept.clock {
            for run in &kept.runs {
                let time = run.time.unwrap();
                let (start, end) = (clock.host(time.start).unwrap(), clock.host(time.end).unwrap());
                assert!(start + 2 * clock.error() >= run.submitted && end >= start, "{device:?}");
                assert!(end <= std::time::Instant::now() + 2 * clock.error());
            }
        }
        assert!(profiler.take().unwrap().runs.is_empty());
        // The last that was attached is the one, and leaves no other behind.
        let other = Profiler::attach(&device).unwrap();
        drop(profiler);
        live(&device, &work, Timing::Whole);
        assert_eq!(other.take().unwrap().runs.len(), 1);
    }
}

#[test]
fn a_report_sums_up_by_command_and_by_buffer() {
    let device = cpu();
    let work = Work::new(&device);
    let profiler = Profiler::attach(&device).unwrap();
    for timing in [Timing::Whole, Timing::Whole, Timing::Dispatches] {
        live(&device, &work, timing);
    }
    let mut kept = profiler.take().unwrap();
    let report = Report::of(&kept);
    let row =
        |report: &Report, label: &str| report.commands.iter().find(|row| *row.command.label == *label).unwrap().clone();
    let bytes = N as u64 * 4;
    assert_eq!((row(&report, "axpy").calls, row(&report, "axpy").bytes), (1, Some(3 * bytes)));
    // Two of one kernel, kind, grid and cost are one row; what they read depends on a position that nobody told.
    assert_eq!((row(&report, "said").calls, row(&report, "said").bytes), (2, None));
    assert_eq!(row(&report, "said").operations, Some(200));
    assert_eq!((row(&report, "said").bytes_per_s(), row(&report, "fill").operations_per_s()), (None, None));
    kept.runs.iter_mut().for_each(|run| run.position = Some(10));
    assert_eq!(row(&Report::of(&kept), "said").bytes, Some(2 * (40 + 80 + bytes)));

    let [buffer] = &report.buffers[..] else { panic!("one label: {:?}", report.buffers) };
    assert_eq!((buffer.label.as_str(), buffer.count), ("live", 3));
    let counts = [&buffer.whole, &buffer.split, &buffer.commands].map(|times| times.as_ref().unwrap().count());
    assert_eq!(counts, [2, 1, 1]);
    assert!(buffer.commands.as_ref().unwrap().total() <= buffer.split.as_ref().unwrap().total());
    let text = report.to_string();
    assert!(text.contains("live: timing each command runs it by itself"), "{text}");
    assert!(text.lines().any(|line| line.starts_with("said (axpy)")), "{text}");
}

#[test]
fn what_is_not_known_is_never_zero() {
    let device = null();
    let work = Work::new(&device);
    let profiler = Profiler::attach(&device).unwrap();
    live(&device, &work, Timing::Dispatches);
    let report = Report::of(&profiler.take().unwrap());
    assert!(report.commands.iter().all(|row| row.times.is_none() && row.bytes_per_s().is_none()));
    assert!(report.buffers.iter().all(|row| row.whole.is_none() && row.split.is_none()));
    let json = report.to_json();
    for row in json["commands"].as_array().unwrap() {
        assert!(row["times"].is_null() && row["share"].is_null() && row["bytes_per_s"].is_null(), "{row}");
    }
    for line in report.to_string().lines().filter(|line| line.starts_with("axpy")) {
        assert_eq!(line.split_whitespace().filter(|word| *word == "-").count(), 8, "{line}");
    }
}
