//! Buffers of intermediate results, made once a session.

use kovar::{Buffer, CommandEncoder, DType, Device, MemoryKind};

use crate::{Config, Result};

/// A result seen in two ways: as rows for products, and as heads for what works on heads.
#[derive(Debug, Clone)]
pub(crate) struct Heads {
    /// [rows, heads · head_dim]
    pub(crate) flat: Buffer,
    /// [rows, heads, head_dim]
    pub(crate) heads: Buffer,
}

/// The workspace as `rows` tokens use it: f32 but for the tokens.
#[derive(Debug, Clone)]
pub(crate) struct Rows {
    /// u32 [rows]
    pub(crate) tokens: Buffer,
    /// The residual stream [rows, hidden] into a layer, after its attention, and out of it. In a workspace that serves
    /// every layer, the last is the first.
    pub(crate) stream: [Buffer; 3],
    /// [rows, hidden], of attention and feed-forward
    pub(crate) normed: [Buffer; 2],
    /// As they come from the product, normed, and turned by their position.
    pub(crate) queries: [Heads; 3],
    pub(crate) keys: [Heads; 3],
    pub(crate) values: Heads,
    /// What attention gives.
    pub(crate) attended: Heads,
    /// [rows, intermediate]
    pub(crate) gate: Buffer,
    pub(crate) up: Buffer,
    pub(crate) activated: Buffer,
    /// [rows, hidden]: what attention and feed-forward add to the stream.
    pub(crate) block: [Buffer; 2],
}

impl Rows {
    /// Buffers for so many rows, that serve every layer.
    pub(crate) fn new(device: &Device, config: &Config, rows: usize) -> Result<Rows> {
        let tokens = device.buffer_in(MemoryKind::Shared, DType::U32, &[rows], "tokens")?;
        let mut rows = Rows::with(config, tokens, |shape, label| {
            Ok(device.buffer_in(MemoryKind::Device, DType::F32, shape, label)?)
        })?;
        rows.stream[2] = rows.stream[0].clone();
        Ok(rows)
    }

    /// Scratch of a recording, for one layer after these. Layers that share nothing but the stream leave a graph free to
    /// order them and to place their memory.
    pub(crate) fn next_layer(&self, encoder: &CommandEncoder, config: &Config) -> Result<Rows> {
        let scratch = |shape: &[usize], _: &str| Ok(encoder.scratch(DType::F32, shape)?);
        let mut next = Rows::with(config, self.tokens.clone(), scratch)?;
        next.stream[0] = self.stream[2].clone();
        Ok(next)
    }

    fn with(config: &Config, tokens: Buffer, float: impl Fn(&[usize], &str) -> Result<Buffer>) -> Result<Rows> {
        let rows = tokens.len();
        let hidden = |label| float(&[rows, config.hidden], label);
        let wide = |label| float(&[rows, config.intermediate], label);
        let heads = |count: usize, label: &str| -> Result<Heads> {
            let flat = float(&[rows, count * config.head_dim], label)?;
            let heads = flat.reshape(&[rows, count, config.head_dim])?;
            Ok(Heads { flat, heads })
        };
        let three = |count, labels: [&str; 3]| -> Result<[Heads; 3]> {
            let [plain, normed, turned] = labels;
            Ok([heads(count, plain)?, heads(count, normed)?, heads(count, turned)?])
        };
        Ok(Rows {
            tokens,
            stream: [hidden("stream")?, hidden("stream after attention")?, hidden("stream after layer")?],
            normed: [hidden("attention input")?, hidden("feed-forward input")?],
            queries: three(config.heads, ["queries", "queries normed", "queries turned"])?,
            keys: three(config.kv_heads, ["new keys", "new keys normed", "new keys turned"])?,
            values: heads(config.kv_heads, "new values")?,
            attended: heads(config.heads, "attended")?,
            gate: wide("gate")?,
            up: wide("up")?,
            activated: wide("activated")?,
            block: [hidden("attention output")?, hidden("feed-forward output")?],
        })
    }

    /// The same buffers as fewer rows use them.
    pub(crate) fn first(&self, rows: usize) -> Result<Rows> {
        let cut = |buffer: &Buffer| first_rows(buffer, rows);
        let heads = |pair: &Heads| -> Result<Heads> { Ok(Heads { flat: cut(&pair.flat)?, heads: cut(&pair.heads)? }) };
        let three = |[a, b, c]: &[Heads; 3]| -> Result<[Heads; 3]> { Ok([heads(a)?, heads(b)?, heads(c)?]) };
        let [into, middle, out] = &self.stream;
        Ok(Rows {
            tokens: cut(&self.tokens)?,
            stream: [cut(into)?, cut(middle)?, cut(out)?],
            normed: [cut(&self.normed[0])?, cut(&self.normed[1])?],
            queries: three(&self.queries)?,
            keys: three(&self.keys)?,
            values: heads(&self.values)?,
            attended: heads(&self.attended)?,
            gate: cut(&self.gate)?,
            up: cut(&self.up)?,
            activated: cut(&self.activated)?,
            block: [cut(&self.block[0])?, cut(&self.block[1])?],
        })
    }

    /// How many rows these are.
    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }
}

/// What the head works in: rows of the stream to logits.
#[derive(Debug, Clone)]
pub(crate) struct HeadRows {
    /// [rows, hidden]: rows of the stream that do not begin where the device can bind them.
    pub(crate) input: Buffer,
    /// [rows, hidden]
    pub(crate) normed: Buffer,
    /// [rows, vocab]
    pub(crate) logits: Buffer,
    /// u32 [rows]: the place of the largest logit.
    pub(crate) largest: Buffer,
}

impl HeadRows {
    pub(crate) fn new(device: &Device, config: &Config, rows: usize) -> Result<HeadRows> {
        let float = |kind, width: usize, label: &str| device.buffer_in(kind, DType::F32, &[rows, width], label);
        Ok(HeadRows {
            input: float(MemoryKind::Device, config.hidden, "head input")?,
            normed: float(MemoryKind::Device, config.hidden, "head normed")?,
            logits: float(MemoryKind::Device, config.vocab, "logits")?,
            largest: device.buffer_in(MemoryKind::Readback, DType::U32, &[rows], "largest")?,
        })
    }

    /// Scratch of a recording.
    pub(crate) fn scratch(encoder: &CommandEncoder, config: &Config, rows: usize) -> Result<HeadRows> {
        let float = |width: usize| encoder.scratch(DType::F32, &[rows, width]);
        Ok(HeadRows {
            input: float(config.hidden)?,
            normed: float(config.hidden)?,
            logits: float(config.vocab)?,
            largest: encoder.scratch(DType::U32, &[rows])?,
        })
    }

    pub(crate) fn first(&self, rows: usize) -> Result<HeadRows> {
        Ok(HeadRows {
            input: first_rows(&self.input, rows)?,
            normed: first_rows(&self.normed, rows)?,
            logits: first_rows(&self.logits, rows)?,
            largest: first_rows(&self.largest, rows)?,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.largest.len()
    }
}

/// The first rows of a buffer; the other axes stay.
fn first_rows(buffer: &Buffer, rows: usize) -> Result<Buffer> {
    rows_of(buffer, 0, rows)
}

/// `count` rows of a buffer from `start` on; the other axes stay.
pub(crate) fn rows_of(buffer: &Buffer, start: usize, count: usize) -> Result<Buffer> {
    let mut shape = [1; 3];
    let axes = &mut shape[..buffer.shape().len()];
    axes.copy_from_slice(buffer.shape());
    axes[0] = count;
    let width: usize = axes[1..].iter().product();
    Ok(buffer.view(start * width..(start + count) * width)?.reshape(axes)?)
}
