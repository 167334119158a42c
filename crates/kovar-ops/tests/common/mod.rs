//! Programs of small commands over buffers of 64 numbers, recorded from a list: for fusion rules.
#![allow(dead_code)]

use std::ops::Range;

use kovar::{Buffer, CommandEncoder, DType, Device, Error, ExecutableOptions, Graph, Result};
use kovar_checks::ops::sample::{Random, Sample};
use kovar_ops::{Matrix, Precision, activation, cache, elementwise, linear, norm, rotary};

/// Numbers in a buffer.
pub const N: usize = 64;
/// Buffers that the host sees. The last two share half their bytes.
pub const KEPT: usize = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Norm,
    Product,
    Silu,
    Add,
    HeadNorm,
    Rotary,
    Write,
}

/// A command over numbered buffers: those that are kept, then scratch. Seen as one row of 64 and two heads, or, if it is
/// narrow, as two rows of 32 and one head.
#[derive(Debug, Clone, Copy)]
pub struct Command {
    pub op: Op,
    pub a: usize,
    /// The second operand, of `Silu` and `Add`.
    pub b: usize,
    pub y: usize,
    pub narrow: bool,
    /// Which matrix or weight.
    pub which: usize,
}

impl Command {
    /// Buffers that it reads.
    pub fn reads(&self) -> Vec<usize> {
        if matches!(self.op, Op::Silu | Op::Add) { vec![self.a, self.b] } else { vec![self.a] }
    }
}

/// Number of the allocation behind a buffer, and the elements of it.
fn place(buffer: usize) -> (usize, Range<usize>) {
    if buffer == KEPT - 1 { (KEPT - 2, N / 2..N / 2 + N) } else { (buffer, 0..N) }
}

/// Whether two buffers share bytes.
pub fn meet(a: usize, b: usize) -> bool {
    let ((a, x), (b, y)) = (place(a), place(b));
    a == b && x.start < y.end && y.start < x.end
}

/// What programs run on.
pub struct World {
    pub device: Device,
    /// Of 64 and of 32 numbers a row; the third is stored otherwise.
    matrices: [[Matrix; 3]; 2],
    weights: [[Buffer; 2]; 2],
    freqs: Buffer,
    position: Buffer,
    kept: Vec<Buffer>,
    start: Vec<Vec<f32>>,
}

impl World {
    pub fn new(device: Device, seed: u64) -> World {
        let random = &mut Random(seed);
        let matrices = [64, 32]
            .map(|k| [4, 4, 8].map(|bits| Sample::affine(&device, random, [k, k], (bits, 32), DType::F32).matrix));
        let weights = [64, 32].map(|width| [(); 2].map(|()| device.upload(&random.normals(width), &[width]).unwrap()));
        let freqs: Vec<f32> = (0..16).map(|i| 1e4f32.powf(i as f32 / -16.0)).collect();
        let shared = device.buffer(DType::F32, &[N + N / 2]).unwrap();
        let mut kept: Vec<Buffer> = (0..KEPT - 2).map(|_| device.buffer(DType::F32, &[N]).unwrap()).collect();
        kept.extend([0..N, N / 2..N / 2 + N].map(|range| shared.view(range).unwrap()));
        World {
            matrices,
            weights,
            freqs: device.upload(&freqs, &[16]).unwrap(),
            position: device.upload(&[(seed % 2) as u32], &[1]).unwrap(),
            start: (0..KEPT).map(|_| random.normals(N)).collect(),
            kept,
            device,
        }
    }

    pub fn capture(&self, commands: &[Command]) -> Graph {
        let buffers = commands.iter().map(|command| command.y + 1).max().unwrap_or(0);
        Graph::capture(&self.device, "commands", |encoder| {
            let mut all = self.kept.clone();
            for _ in KEPT..buffers {
                all.push(encoder.scratch(DType::F32, &[N])?);
            }
            commands.iter().try_for_each(|command| self.record(encoder, command, &all))?;
            Ok::<_, Error>(())
        })
        .unwrap()
    }

    fn record(&self, encoder: &mut CommandEncoder, command: &Command, all: &[Buffer]) -> Result<()> {
        let Command { op, narrow, which, .. } = *command;
        let at = usize::from(narrow);
        let rows = |buffer: usize| all[buffer].reshape(if narrow { &[2, 32] } else { &[1, 64] });
        let heads = |buffer: usize| all[buffer].reshape(if narrow { &[2, 1, 32] } else { &[1, 2, 32] });
        let [a, b, y] = [command.a, command.b, command.y];
        match op {
            Op::Norm => norm::rms_norm(encoder, &rows(a)?, &self.weights[at][which % 2], &rows(y)?, 1e-5),
            Op::Product => {
                linear::linear(encoder, &self.matrices[at][which % 3], &rows(a)?, &rows(y)?, Precision::Fast)
            }
            Op::Silu => activation::silu_mul(encoder, &rows(a)?, &rows(b)?, &rows(y)?),
            Op::Add => elementwise::add(encoder, &rows(a)?, &rows(b)?, &rows(y)?),
            Op::HeadNorm => norm::rms_norm(encoder, &heads(a)?, &self.weights[1][which % 2], &heads(y)?, 1e-5),
            Op::Rotary => rotary::rotary(encoder, &heads(a)?, &self.freqs, &self.position, &heads(y)?),
            Op::Write => cache::write(encoder, &heads(a)?, &self.position, &heads(y)?),
        }
    }

    /// Runs a graph twice from the same start, and gives the bits of all that the host sees.
    pub fn run(&self, graph: Graph) -> Vec<Vec<u32>> {
        for (buffer, values) in self.kept.iter().zip(&self.start) {
            buffer.write(values).unwrap();
        }
        let mut executable = graph.compile(&ExecutableOptions::default()).unwrap();
        for _ in 0..2 {
            executable.submit().unwrap().wait().unwrap();
        }
        self.kept.iter().map(|kept| kept.read::<f32>().unwrap().iter().map(|value| value.to_bits()).collect()).collect()
    }
}
