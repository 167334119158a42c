//! What a device can do at most, measured by kernels that do one thing.

use std::time::Instant;

use kovar::profile::{Peaks, Summary};
use kovar::{Backend, Buffer, CommandEncoder, DType, Device, DeviceKind, EncoderOptions, MemoryKind};
use kovar_ops::{peak, random};
use serde_json::{Value, json};

use crate::arguments::Peak;
use crate::error::{Failure, Result};
use crate::report::show;

/// Seconds that arithmetic is to take: long beside what starts it.
const LONG_ENOUGH: f64 = 0.02;
/// Rounds of arithmetic at most, whatever they take.
const MOST_ROUNDS: u32 = 1 << 22;
/// Workgroups that keep a GPU busy.
const GROUPS: usize = 4096;
/// Workgroups for the CPU, which makes a task of each or of each element.
const CPU_GROUPS: usize = 32;
/// Workgroups that multiply tiles.
const TILE_GROUPS: usize = 1024;

pub(crate) fn run(arguments: &Peak) -> Result<()> {
    let device = arguments.place.open()?;
    let measured = Measured::new(&device, arguments.rounds)?;
    show(arguments.json, &measured.to_json(&device), |_| measured.text(&device))
}

/// Rates a second, one value a round.
pub(crate) struct Measured {
    read: Summary,
    f32: Summary,
    dot: Summary,
    /// None: no matrix units.
    tiles: Option<Summary>,
}

impl Measured {
    pub(crate) fn new(device: &Device, rounds: usize) -> Result<Measured> {
        Ok(Measured {
            read: reading(device, rounds)?,
            f32: multiply_adds(device, rounds)?,
            dot: dots(device, rounds)?,
            tiles: tiles(device, rounds)?,
        })
    }

    /// The best of each.
    pub(crate) fn peaks(&self) -> Peaks {
        let tiles = self.tiles.as_ref().map_or(0.0, Summary::max);
        Peaks { read: Some(self.read.max()), f32: Some(self.f32.max()), matrix: Some(self.dot.max().max(tiles)) }
    }

    /// The best of reading.
    pub(crate) fn reading(&self) -> f64 {
        self.read.max()
    }

    /// The best of any arithmetic.
    pub(crate) fn arithmetic(&self) -> f64 {
        self.f32.max().max(self.peaks().matrix.unwrap_or(0.0))
    }

    pub(crate) fn to_json(&self, device: &Device) -> Value {
        json!({
            "device": device.info().name,
            "backend": device.info().backend.to_string(),
            "read_bytes_per_s": spread(&self.read),
            "f32_operations_per_s": spread(&self.f32),
            "dot_i8_operations_per_s": spread(&self.dot),
            "f16_tile_operations_per_s": self.tiles.as_ref().map(spread),
        })
    }

    pub(crate) fn text(&self, device: &Device) -> String {
        let info = device.info();
        let line = |what: &str, rates: &Summary, unit: &str| {
            let [best, median, least] = [rates.max(), rates.median(), rates.min()].map(|rate| rate / 1e9);
            let rounds = rates.count();
            format!("{what:<34} {best:>11.1} {unit:<5}  (median {median:.1}, least {least:.1} of {rounds} rounds)\n")
        };
        let mut text = format!("{} ({})\n", info.name, info.backend);
        text += &line("read memory", &self.read, "GB/s");
        text += &line("multiply-add f32", &self.f32, "Gop/s");
        text += &line("dot product of 8-bit integers", &self.dot, "Gop/s");
        text += &match &self.tiles {
            Some(rates) => line("matrix units, f16 summed up in f32", rates, "Gop/s"),
            None => "matrix units: none that Kovar uses\n".into(),
        };
        text
    }
}

fn spread(rates: &Summary) -> Value {
    json!({ "best": rates.max(), "median": rates.median(), "min": rates.min(), "rounds": rates.count() })
}

/// Bytes of memory read a second, one value a round.
pub(crate) fn reading(device: &Device, rounds: usize) -> Result<Summary> {
    let info = device.info();
    let most = match info.kind {
        DeviceKind::Discrete | DeviceKind::Virtual => 4 << 30,
        DeviceKind::Integrated | DeviceKind::Cpu => 1 << 29,
    };
    let free = device.memory_left().unwrap_or(info.memory.total) / 4;
    // A multiple of 16 that is less than each limit.
    let bytes = most.min(info.limits.binding).min(info.limits.buffer).min(free).saturating_sub(16) / 16 * 16;
    let x = device.buffer_in(MemoryKind::Device, DType::F32, &[bytes as usize / 4], "what is read")?;
    let y = parts(device, DType::F32)?;
    once(device, |enc| random::floats(enc, &x, 1.0, 1))?;
    rates(rounds, bytes as f64, || once(device, |enc| peak::read(enc, &x, &y)))
}

fn multiply_adds(device: &Device, rounds: usize) -> Result<Summary> {
    let y = parts(device, DType::F32)?;
    arithmetic(device, rounds, y.len() as f64 * 16.0, |enc, n| peak::fma(enc, &y, n))
}

fn dots(device: &Device, rounds: usize) -> Result<Summary> {
    let y = parts(device, DType::U32)?;
    arithmetic(device, rounds, y.len() as f64 * 64.0, |enc, n| peak::dot(enc, &y, n))
}

fn tiles(device: &Device, rounds: usize) -> Result<Option<Summary>> {
    let Some(edge) = peak::matrix_edge(device.info()) else { return Ok(None) };
    let (tile, n) = ((edge * edge) as usize, peak::matrix_elements(edge) * TILE_GROUPS);
    let x = device.buffer_in(MemoryKind::Device, DType::F16, &[2 * tile], "two tiles")?;
    let y = device.buffer_in(MemoryKind::Device, DType::F32, &[n], "tiles")?;
    // Two operations for each element of a tile and place along its edge.
    let each = n as f64 * f64::from(edge) * 2.0;
    arithmetic(device, rounds, each, |enc, n| peak::matrix(enc, &x, &y, n)).map(Some)
}

/// A result for each thread of as many as keep the device busy.
fn parts(device: &Device, dtype: DType) -> Result<Buffer> {
    let groups = if device.info().backend == Backend::Cpu { CPU_GROUPS } else { GROUPS };
    Ok(device.buffer_in(MemoryKind::Device, dtype, &[groups * 256], "results")?)
}

/// Operations a second of a kernel that does `each` of them a round, with as many rounds as take long enough.
fn arithmetic(
    device: &Device,
    rounds: usize,
    each: f64,
    record: impl Fn(&mut CommandEncoder, u32) -> kovar::Result<()>,
) -> Result<Summary> {
    let mut n = 16;
    while n < MOST_ROUNDS && once(device, |enc| record(enc, n))? < LONG_ENOUGH {
        n *= 2;
    }
    rates(rounds, each * f64::from(n), || once(device, |enc| record(enc, n)))
}

/// Seconds that one command takes: on the device's clock, else on the host's.
fn once(device: &Device, record: impl FnOnce(&mut CommandEncoder) -> kovar::Result<()>) -> Result<f64> {
    let mut encoder = device.encoder_with(EncoderOptions { label: "peak".into(), ..EncoderOptions::default() })?;
    record(&mut encoder)?;
    let begun = Instant::now();
    let done = encoder.commit()?.wait()?;
    let host = begun.elapsed().as_secs_f64();
    Ok(done.time.map_or(host, |time| time.end.saturating_sub(time.start) as f64 / 1e9))
}

/// Amounts a second. The first time, which warms up, is left out.
fn rates(rounds: usize, amount: f64, mut time: impl FnMut() -> Result<f64>) -> Result<Summary> {
    time()?;
    let times = (0..rounds).map(|_| time()).collect::<Result<Vec<f64>>>()?;
    let rates = times.into_iter().filter(|time| *time > 0.0).map(|time| amount / time);
    Summary::of(rates).ok_or_else(|| Failure::new("the device's clock stands still: nothing was measured"))
}
