//! A chain of small dispatches, each of which waits for the last.

use std::time::Instant;

use kovar::profile::Summary;
use kovar::profile::columns::{aligned, known};
use kovar::{Buffer, CommandEncoder, DType, Device, EncoderOptions, Executable, ExecutableOptions, Graph, Split};
use kovar_ops::elementwise::add;
use serde_json::{Value, json};

use super::object;
use crate::error::Result;
use crate::speed::{spread, warmed};

/// Elements of each addition: one workgroup has more to do in starting than in adding.
const ELEMENTS: usize = 256;

/// How the chain gets to the device.
#[derive(Clone, Copy)]
enum Way {
    /// Recorded, then submitted.
    Recorded,
    /// Recorded, with the first part handed over early.
    Split,
    /// Submitted again.
    Replayed,
}

impl Way {
    const ALL: [Way; 3] = [Way::Recorded, Way::Split, Way::Replayed];

    fn name(self) -> &'static str {
        match self {
            Way::Recorded => "recorded",
            Way::Split => "recorded, first part early",
            Way::Replayed => "replayed",
        }
    }
}

struct Chain {
    device: Device,
    step: Buffer,
    sums: [Buffer; 2],
    dispatches: usize,
}

impl Chain {
    fn new(device: &Device, dispatches: usize) -> Result<Chain> {
        let buffer = || device.buffer(DType::F32, &[ELEMENTS]);
        Ok(Chain { device: device.clone(), step: buffer()?, sums: [buffer()?, buffer()?], dispatches })
    }

    fn record(&self, encoder: &mut CommandEncoder) -> kovar::Result<()> {
        (0..self.dispatches).try_for_each(|at| {
            let (from, to) = (&self.sums[at % 2], &self.sums[(at + 1) % 2]);
            add(encoder, from, &self.step, to)
        })
    }

    fn run(&self, way: Way, replayed: &mut Executable) -> Result<Once> {
        let begun = Instant::now();
        let submission = match way {
            Way::Replayed => replayed.submit()?,
            Way::Recorded | Way::Split => {
                let split = matches!(way, Way::Split).then(|| Split::of(self.dispatches as u32));
                let options = EncoderOptions { label: "chain".into(), split, ..EncoderOptions::default() };
                let mut encoder = self.device.encoder_with(options)?;
                self.record(&mut encoder)?;
                encoder.commit()?
            }
        };
        let host = begun.elapsed();
        let completed = submission.wait()?;
        let total = begun.elapsed();
        let device = completed.time.map(|time| time.end.saturating_sub(time.start) as f64 / 1e3);
        Ok(Once { host: host.as_secs_f64() * 1e6, total: total.as_secs_f64() * 1e6, device })
    }
}

/// Microseconds of one run.
struct Once {
    host: f64,
    total: f64,
    /// On the device's clock, if it has one.
    device: Option<f64>,
}

/// Microseconds of a way: until the host is done, until the device is, and what the device says itself.
struct Times {
    way: Way,
    host: Summary,
    total: Summary,
    device: Option<Summary>,
}

pub(super) struct Measured {
    dispatches: usize,
    barriers: u64,
    rounds: usize,
    times: Vec<Times>,
}

impl Measured {
    pub(super) fn new(device: &Device, dispatches: usize, rounds: usize) -> Result<Measured> {
        let chain = Chain::new(device, dispatches)?;
        let graph = Graph::capture(device, "chain", |encoder| chain.record(encoder))?;
        let mut replayed = graph.compile(&ExecutableOptions::default())?;
        let mut runs = Way::ALL.map(|way| (way, Vec::with_capacity(rounds + 1)));
        for _ in 0..=rounds {
            for (way, runs) in &mut runs {
                runs.push(chain.run(*way, &mut replayed)?);
            }
        }
        let times = runs.into_iter().map(|(way, runs)| {
            let of = |part: fn(&Once) -> f64| warmed(runs.iter().map(part).collect());
            let device = Summary::of(runs.iter().skip(1).filter_map(|run| run.device));
            Ok(Times { way, host: of(|run| run.host)?, total: of(|run| run.total)?, device })
        });
        let times = times.collect::<Result<_>>()?;
        Ok(Measured { dispatches, barriers: replayed.stats().barriers(), rounds, times })
    }

    pub(super) fn to_json(&self) -> Value {
        let times = self.times.iter().map(|times| {
            let device = times.device.as_ref().map(spread);
            let part = json!({ "host_us": spread(&times.host), "total_us": spread(&times.total), "device_us": device });
            (times.way.name(), part)
        });
        json!({ "dispatches": self.dispatches, "barriers": self.barriers, "ways": object(times) })
    }

    pub(super) fn text(&self) -> String {
        let micros = |time: &Summary| known(Some(time.median()), 1);
        let range = |time: &Summary| format!("{:.1}..{:.1}", time.min(), time.max());
        let row = |times: &Times| {
            let device = times.device.as_ref().map(Summary::median);
            [
                times.way.name().into(),
                micros(&times.host),
                range(&times.host),
                micros(&times.total),
                range(&times.total),
                known(device, 1),
            ]
        };
        let rows: Vec<_> = self.times.iter().map(row).collect();
        let head = ["CHAIN", "HOST µs", "LEAST..MOST", "TOTAL µs", "LEAST..MOST", "DEVICE µs"];
        let Measured { dispatches, barriers, rounds, .. } = self;
        format!(
            "{dispatches} dependent dispatches, {barriers} barriers, {rounds} rounds; host: until handed over, total: until done\n{}",
            aligned(head, &rows)
        )
    }
}
