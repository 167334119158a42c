//! What is measured: the kernels of a model's step and of its prompts.

use kovar::{Backend, Buffer, CommandEncoder, DType, Device, MemoryKind};
use kovar_lm::{Config, shape};
use kovar_ops::linear::{Normed, add_linear, gated_linear, linear, norm_linear};
use kovar_ops::{AffineMatrix, Matrix, Precision, activation, argmax, attention, norm, random};

use crate::arguments::Ops;
use crate::error::{Failure, Result};

/// Bytes of weights, or of keys and values, that calls take turns on, so that no cache holds them all.
const IN_TURNS: usize = 512 << 20;
/// Copies of them at most.
const MOST_COPIES: usize = 512;
/// Copies of what is used by many rows at once.
const FEW_COPIES: usize = 4;
/// Rows of a prompt.
const ROWS: usize = 512;
/// Positions at which attention is measured.
const CONTEXTS: [usize; 4] = [128, 1024, 4096, 16_384];
/// And for which it is cut.
const TUNED: [usize; 2] = [512, 4096];
/// Of norms.
const EPS: f32 = 1e-6;
/// Weights that share a scale.
const GROUP: usize = 64;

type Call = Box<dyn Fn(&mut CommandEncoder, usize) -> kovar::Result<()>>;

/// One kernel, or an op of several.
pub(crate) struct Case {
    pub(super) name: String,
    /// Positions of the context before.
    pub(super) position: u64,
    /// Calls after which one has the data of the first again.
    pub(super) turns: usize,
    call: Call,
}

impl Case {
    /// Records a call. Calls of other numbers write elsewhere.
    pub(super) fn record(&self, encoder: &mut CommandEncoder, number: usize) -> Result<()> {
        Ok((self.call)(encoder, number)?)
    }
}

/// The cases one after the other: each is made when it is its turn, since their weights would not fit together.
pub(crate) struct Cases<'a> {
    device: &'a Device,
    config: Config,
    precision: Precision,
    kinds: std::vec::IntoIter<Kind>,
}

/// What is cut by numbers of its own.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    Products,
    Attention,
}

#[derive(Clone, Copy)]
enum Kind {
    Product {
        bits: usize,
        rows: usize,
        n: usize,
        k: usize,
    },
    /// A norm, and the products of queries, keys and values; of gate and up.
    Normed {
        bits: usize,
        gated: bool,
    },
    /// A product and the addition to the stream.
    Added {
        bits: usize,
    },
    Attention {
        rows: usize,
        context: usize,
    },
    Norm {
        rows: usize,
    },
    Activation {
        rows: usize,
    },
    Choice,
}

impl Kind {
    fn name(self, config: &Config) -> String {
        let Config { hidden, intermediate, heads, kv_heads, head_dim, vocab, .. } = *config;
        match self {
            Kind::Product { bits, rows, n, k } => format!("{bits} bit [{n}, {k}], {rows} rows"),
            Kind::Normed { bits, gated: true } => format!("{bits} bit norm, gate·up 2 x [{intermediate}, {hidden}]"),
            Kind::Normed { bits, gated: false } => {
                format!("{bits} bit norm, qkv [{} + 2 x {}, {hidden}]", heads * head_dim, kv_heads * head_dim)
            }
            Kind::Added { bits } => format!("{bits} bit [{hidden}, {intermediate}], add"),
            Kind::Attention { rows, context } => format!("attention, {rows} rows at {context}"),
            Kind::Norm { rows } => format!("norm {hidden}, {rows} rows"),
            Kind::Activation { rows } => format!("silu·mul {intermediate}, {rows} rows"),
            Kind::Choice => format!("argmax {vocab}"),
        }
    }
}

impl<'a> Cases<'a> {
    pub(super) fn new(device: &'a Device, arguments: &Ops) -> Result<Cases<'a>> {
        let config = shape(&arguments.shape).ok_or_else(|| Failure::new("no such shape"))?;
        let precision = arguments.running.precision();
        let mut kinds = kinds(&config, device, precision);
        if let Some(only) = &arguments.only {
            kinds.retain(|kind| kind.name(&config).contains(only.as_str()));
        }
        Ok(Cases { device, config, precision, kinds: kinds.into_iter() })
    }

    /// The kernels of a token's step, of 4 bits: those that are cut by a table.
    pub(crate) fn of_one_row(device: &'a Device, name: &str, part: Part) -> Result<Cases<'a>> {
        let config = shape(name).ok_or_else(|| Failure::new("no such shape"))?;
        let (n, k) = (config.hidden, config.heads * config.head_dim);
        let kinds = match part {
            Part::Products => vec![
                Kind::Normed { bits: 4, gated: false },
                Kind::Product { bits: 4, rows: 1, n, k },
                Kind::Normed { bits: 4, gated: true },
                Kind::Added { bits: 4 },
            ],
            Part::Attention => TUNED.map(|context| Kind::Attention { rows: 1, context }).to_vec(),
        };
        Ok(Cases { device, config, precision: Precision::Fast, kinds: kinds.into_iter() })
    }

    fn make(&self, kind: Kind) -> Result<Case> {
        let (turns, call) = self.call(kind)?;
        let position = if let Kind::Attention { context, .. } = kind { context as u64 } else { 0 };
        Ok(Case { name: kind.name(&self.config), position, turns, call })
    }

    fn call(&self, kind: Kind) -> Result<(usize, Call)> {
        let call: Call = match kind {
            Kind::Product { bits, rows, n, k } => return self.product(bits, rows, [n, k]),
            Kind::Normed { bits, gated: true } => return self.gated(bits),
            Kind::Normed { bits, gated: false } => return self.normed(bits),
            Kind::Added { bits } => return self.added(bits),
            Kind::Attention { rows, context } => return self.attention(rows, context),
            Kind::Norm { rows } => {
                let (x, weight) = (self.floats(&[rows, self.config.hidden])?, self.weight(self.config.hidden)?);
                Box::new(move |enc, _| norm::rms_norm(enc, &x, &weight, &enc.scratch(DType::F32, x.shape())?, EPS))
            }
            Kind::Activation { rows } => {
                let shape = [rows, self.config.intermediate];
                let (gate, up) = (self.floats(&shape)?, self.floats(&shape)?);
                Box::new(move |enc, _| activation::silu_mul(enc, &gate, &up, &enc.scratch(DType::F32, &shape)?))
            }
            Kind::Choice => {
                let x = self.floats(&[1, self.config.vocab])?;
                Box::new(move |enc, _| argmax::argmax(enc, &x, &enc.scratch(DType::U32, &[1])?))
            }
        };
        Ok((1, call))
    }

    fn product(&self, bits: usize, rows: usize, [n, k]: [usize; 2]) -> Result<(usize, Call)> {
        let mut matrices: Vec<Matrix> = self.matrices(bits, [n, k])?.into_iter().map(Matrix::Affine).collect();
        if rows > 1 {
            // Arithmetic sets the pace, and calls are long.
            matrices.truncate(FEW_COPIES);
        }
        let (x, precision) = (self.floats(&[rows, k])?, self.precision);
        let turns = matrices.len();
        let call: Call = Box::new(move |enc, number| {
            let y = enc.scratch(DType::F32, &[rows, n])?;
            linear(enc, &matrices[number % matrices.len()], &x, &y, precision)
        });
        Ok((turns, call))
    }

    fn gated(&self, bits: usize) -> Result<(usize, Call)> {
        let Config { hidden, intermediate, .. } = self.config;
        let (x, weight) = (self.floats(&[1, hidden])?, self.weight(hidden)?);
        let [gates, ups] = [self.matrices(bits, [intermediate, hidden])?, self.matrices(bits, [intermediate, hidden])?];
        let turns = gates.len();
        let call: Call = Box::new(move |enc, number| {
            let at = number % gates.len();
            let y = enc.scratch(DType::F32, &[1, intermediate])?;
            gated_linear(enc, Normed { weight: &weight, eps: EPS }, [&gates[at], &ups[at]], &x, &y)
        });
        Ok((turns, call))
    }

    fn normed(&self, bits: usize) -> Result<(usize, Call)> {
        let Config { hidden, heads, kv_heads, head_dim, .. } = self.config;
        let (x, weight) = (self.floats(&[1, hidden])?, self.weight(hidden)?);
        let sizes = [heads * head_dim, kv_heads * head_dim, kv_heads * head_dim];
        let all: Vec<_> = sizes.into_iter().map(|n| self.matrices(bits, [n, hidden])).collect::<Result<_>>()?;
        let turns = all.iter().map(Vec::len).max().unwrap_or(1);
        let call: Call = Box::new(move |enc, number| {
            let matrices: Vec<_> = all.iter().map(|matrices| &matrices[number % matrices.len()]).collect();
            let ys = sizes.into_iter().map(|n| enc.scratch(DType::F32, &[1, n])).collect::<kovar::Result<Vec<_>>>()?;
            let ys: Vec<&Buffer> = ys.iter().collect();
            norm_linear(enc, Normed { weight: &weight, eps: EPS }, &matrices, &x, &ys)
        });
        Ok((turns, call))
    }

    fn added(&self, bits: usize) -> Result<(usize, Call)> {
        let Config { hidden, intermediate, .. } = self.config;
        let matrices = self.matrices(bits, [hidden, intermediate])?;
        let (x, other) = (self.floats(&[1, intermediate])?, self.floats(&[1, hidden])?);
        let turns = matrices.len();
        let call: Call = Box::new(move |enc, number| {
            let y = enc.scratch(DType::F32, &[1, hidden])?;
            add_linear(enc, &matrices[number % matrices.len()], &x, &other, &y)
        });
        Ok((turns, call))
    }

    fn attention(&self, rows: usize, context: usize) -> Result<(usize, Call)> {
        let Config { heads, kv_heads, head_dim, .. } = self.config;
        let q = self.floats(&[rows, heads, head_dim])?;
        let cache = [context + rows, kv_heads, head_dim];
        let most = if rows > 1 { FEW_COPIES } else { MOST_COPIES };
        let turns = copies(2 * 4 * cache.iter().product::<usize>()).min(most);
        let caches =
            (0..turns).map(|_| Ok([self.floats(&cache)?, self.floats(&cache)?])).collect::<Result<Vec<_>>>()?;
        let position = self.device.upload(&[context as u32], &[1])?;
        let scale = (head_dim as f32).sqrt().recip();
        let call: Call = Box::new(move |enc, number| {
            let [keys, values] = &caches[number % turns];
            attention::attention(enc, &q, keys, values, &position, &enc.scratch(DType::F32, q.shape())?, scale)
        });
        Ok((turns, call))
    }

    fn fill(&self, dtype: DType, shape: &[usize], mean: Option<f32>) -> Result<Buffer> {
        let buffer = self.device.buffer_in(MemoryKind::Device, dtype, shape, "made up")?;
        let mut encoder = self.device.encoder()?;
        match mean {
            Some(mean) => random::floats(&mut encoder, &buffer, mean, 1)?,
            None => random::bits(&mut encoder, &buffer, 1)?,
        }
        encoder.commit()?.wait()?;
        Ok(buffer)
    }

    fn floats(&self, shape: &[usize]) -> Result<Buffer> {
        self.fill(DType::F32, shape, Some(1.0))
    }

    fn weight(&self, len: usize) -> Result<Buffer> {
        self.fill(DType::BF16, &[len], Some(1.0))
    }

    /// Copies of a matrix, in memory of their own.
    fn matrices(&self, bits: usize, [n, k]: [usize; 2]) -> Result<Vec<AffineMatrix>> {
        let matrix = |_| {
            let codes = self.fill(DType::U32, &[n, k * bits / 32], None)?;
            let scales = self.fill(DType::BF16, &[n, k / GROUP], Some(0.01))?;
            let biases = self.fill(DType::BF16, &[n, k / GROUP], Some(-0.08))?;
            Ok(AffineMatrix::new(codes, scales, biases, bits as u32, GROUP as u32)?)
        };
        (0..copies(n * k * bits / 8)).map(matrix).collect()
    }
}

fn copies(bytes: usize) -> usize {
    (IN_TURNS / bytes.max(1)).clamp(1, MOST_COPIES)
}

impl Iterator for Cases<'_> {
    type Item = Result<Case>;

    fn next(&mut self) -> Option<Result<Case>> {
        self.kinds.next().map(|kind| self.make(kind))
    }
}

fn kinds(config: &Config, device: &Device, precision: Precision) -> Vec<Kind> {
    let Config { hidden, intermediate, heads, kv_heads, head_dim, vocab, .. } = *config;
    let mut shapes = vec![
        [heads * head_dim, hidden],
        [kv_heads * head_dim, hidden],
        [hidden, heads * head_dim],
        [intermediate, hidden],
        [hidden, intermediate],
    ];
    shapes.sort_unstable();
    shapes.dedup();
    let mut kinds = Vec::new();
    for bits in [4, 8] {
        kinds.extend(shapes.iter().chain([&[vocab, hidden]]).map(|&[n, k]| Kind::Product { bits, rows: 1, n, k }));
        // The CPU does not run what is fused with products of rounded rows.
        if precision == Precision::Fast && device.info().backend != Backend::Cpu {
            kinds.extend([false, true].map(|gated| Kind::Normed { bits, gated }));
            kinds.push(Kind::Added { bits });
        }
        kinds.extend(shapes.iter().map(|&[n, k]| Kind::Product { bits, rows: ROWS, n, k }));
    }
    kinds.extend(CONTEXTS.map(|context| Kind::Attention { rows: 1, context }));
    kinds.push(Kind::Attention { rows: ROWS, context: 0 });
    kinds.extend([1, ROWS].map(|rows| Kind::Norm { rows }));
    kinds.extend([1, ROWS].map(|rows| Kind::Activation { rows }));
    kinds.push(Kind::Choice);
    kinds
}
