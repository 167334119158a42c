//! A text in the making: cache, position, and the buffers that steps work in.

use std::sync::Arc;

use kovar::{Buffer, CommandEncoder, DType, EncoderOptions, Executable, Graph, MemoryKind, Split, Timing};
use kovar_ops::Precision;

use crate::cache::Cache;
use crate::decode::{self, Ending, State};
use crate::model::{Model, Pass};
use crate::workspace::{HeadRows, Rows};
use crate::{Decode, LmError, Result, Sampler, SessionOptions};

/// Logits that are computed at a time when those of many positions are wanted: 16 MiB.
const LOGITS: usize = 4 << 20;

/// Dispatches of a layer, about: from them follows how many are a tenth of a step.
const LAYER: u32 = 17;

/// Bytes that the step of one token has to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepBytes {
    /// Weights: every matrix once.
    pub weights: u64,
    /// Keys and values of the positions before, and of its own.
    pub cache: u64,
}

impl StepBytes {
    /// Both.
    pub fn total(&self) -> u64 {
        self.weights + self.cache
    }
}

/// What is wanted of a step's last row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    Nothing,
    Largest,
    Logits,
}

/// One text in the making. Its buffers are made when it is; a decoded token allocates none.
pub struct Session {
    model: Arc<Model>,
    precision: Precision,
    cache: Cache,
    /// Tokens in the cache.
    position: usize,
    /// The same on the device, for the kernels.
    device_position: Buffer,
    rows: Rows,
    single: Rows,
    head: HeadRows,
    /// Logits of the last row, on the host.
    logits: Vec<f32>,
    decode: Decode,
    split: bool,
    timing: Timing,
    /// u32 [capacity of the cache]: the tokens that the device chose, by position.
    history: Buffer,
    steps: Steps,
}

/// Captured steps, made when first wanted and gone when the cache grows.
#[derive(Default)]
struct Steps {
    /// With logits for the host.
    logits: Option<Executable>,
    /// With the choice on the device, for some number of tokens.
    choice: Vec<(usize, Executable)>,
}

impl Session {
    /// An empty text.
    ///
    /// # Errors
    /// [`LmError::Option`] for an empty chunk or context, device errors.
    pub fn new(model: Arc<Model>, options: &SessionOptions) -> Result<Session> {
        let (device, config) = (model.device(), model.config());
        let limit = options.limit(config);
        let empty = |option| LmError::Option { option, value: "0".into(), range: "at least 1" };
        if limit == 0 {
            return Err(empty("context"));
        }
        if options.chunk == 0 {
            return Err(empty("chunk"));
        }
        if options.decode == (Decode::Replay { tokens: 0 }) {
            return Err(empty("tokens a submission"));
        }
        let rows = Rows::new(device, config, options.chunk.min(limit))?;
        let cache = Cache::new(device, config, limit)?;
        Ok(Session {
            precision: options.precision,
            history: history(&model, &cache)?,
            cache,
            decode: options.decode,
            split: options.split,
            timing: options.timing,
            steps: Steps::default(),
            position: 0,
            device_position: device.buffer_in(MemoryKind::Shared, DType::U32, &[1], "position")?,
            single: rows.first(1)?,
            rows,
            head: HeadRows::new(device, config, 1)?,
            logits: Vec::new(),
            model,
        })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Tokens so far.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Tokens that the context can hold.
    pub fn context(&self) -> usize {
        self.cache.limit()
    }

    /// Begins a new text; what was allocated stays.
    pub fn clear(&mut self) {
        self.position = 0;
    }

    /// Appends tokens and chooses the one that comes next, which is *not* appended.
    ///
    /// # Errors
    /// [`LmError::ContextFull`], [`LmError::EmptyPrompt`] for no tokens, [`LmError::TokenOutOfRange`]; the session is then
    /// as before. Device errors.
    pub fn next_token(&mut self, tokens: &[u32], sampler: &mut Sampler) -> Result<u32> {
        if sampler.is_greedy() {
            return self.largest(tokens);
        }
        self.append(tokens, Want::Logits)?;
        self.logits.resize(self.model.config().vocab, 0.0);
        self.head.logits.read_into(&mut self.logits)?;
        sampler.choose(&self.logits)
    }

    /// Appends tokens and gives the likeliest next one.
    fn largest(&mut self, tokens: &[u32]) -> Result<u32> {
        if let ([token], Decode::Replay { .. }) = (tokens, self.decode) {
            self.check(tokens)?;
            self.make_room(1)?;
            let [next] = self.replay_choices(*token, [0])?;
            return Ok(next);
        }
        self.append(tokens, Want::Largest)?;
        let mut largest = [0u32];
        self.head.largest.read_into(&mut largest)?;
        Ok(largest[0])
    }

    /// Appends tokens and gives the logits at each of them: f32 [tokens, vocab].
    ///
    /// # Errors
    /// As [`next_token`](Session::next_token).
    pub fn eval_logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        let mut all = Vec::with_capacity(tokens.len() * self.model.config().vocab);
        self.each_logits(tokens, |_, logits| all.extend_from_slice(logits))?;
        Ok(all)
    }

    /// Appends tokens and shows the logits at each of them, in order: the place of the token, and f32 `[vocab]`.
    ///
    /// # Errors
    /// As [`next_token`](Session::next_token).
    pub fn each_logits(&mut self, tokens: &[u32], mut see: impl FnMut(usize, &[f32])) -> Result<()> {
        self.check(tokens)?;
        let vocab = self.model.config().vocab;
        let batch = (LOGITS / vocab).clamp(1, self.rows.len().min(tokens.len()));
        let head = HeadRows::new(self.model.device(), self.model.config(), batch)?;
        let mut logits = vec![0.0; batch * vocab];
        for (chunk, place) in tokens.chunks(self.rows.len()).zip((0..).step_by(self.rows.len())) {
            let rows = self.rows.first(chunk.len())?;
            self.make_room(chunk.len())?;
            self.record_layers(&rows, chunk)?.commit()?.wait()?;
            for start in (0..chunk.len()).step_by(batch) {
                let head = head.first(batch.min(chunk.len() - start))?;
                let mut encoder = self.model.device().encoder()?;
                self.model.record_head(&mut self.pass(&mut encoder, &rows), start, &head, false)?;
                encoder.commit()?.wait()?;
                let logits = &mut logits[..head.len() * vocab];
                head.logits.read_into(logits)?;
                logits.chunks_exact(vocab).zip(place + start..).for_each(|(row, place)| see(place, row));
            }
            self.position += chunk.len();
        }
        Ok(())
    }

    /// Refuses tokens that cannot be appended.
    fn check(&self, tokens: &[u32]) -> Result<()> {
        if tokens.is_empty() {
            return Err(LmError::EmptyPrompt);
        }
        let vocab = self.model.config().vocab;
        if let Some(token) = tokens.iter().find(|token| **token as usize >= vocab) {
            return Err(LmError::TokenOutOfRange { token: *token, vocab });
        }
        self.cache.check(self.position.saturating_add(tokens.len()))
    }

    fn append(&mut self, tokens: &[u32], want: Want) -> Result<()> {
        self.check(tokens)?;
        if let [token] = tokens {
            return self.append_one(*token, want);
        }
        let size = self.rows.len();
        let last = tokens.len().div_ceil(size) - 1;
        for (index, chunk) in tokens.chunks(size).enumerate() {
            let rows = self.rows.first(chunk.len())?;
            self.make_room(chunk.len())?;
            self.run(&rows, chunk, if index == last { want } else { Want::Nothing })?;
            self.position += chunk.len();
        }
        Ok(())
    }

    /// The step that decoding repeats.
    fn append_one(&mut self, token: u32, want: Want) -> Result<()> {
        self.make_room(1)?;
        if self.decode == Decode::Eager || want != Want::Logits {
            self.run(&self.single, &[token], want)?;
        } else {
            self.place(&self.single, &[token])?;
            let mut step = match self.steps.logits.take() {
                Some(step) => step,
                None => decode::compile(self.capture(&Ending::Logits(&self.head))?, 1, self.timing)?,
            };
            step.submit()?.wait()?;
            self.steps.logits = Some(step);
        }
        self.position += 1;
        Ok(())
    }

    /// Appends a token, and then each that is chosen but the last, until `out` is full of choices.
    fn replay_choices<T: AsMut<[u32]>>(&mut self, token: u32, mut out: T) -> Result<T> {
        let count = out.as_mut().len();
        self.place(&self.single, &[token])?;
        let at = match self.steps.choice.iter().position(|(tokens, _)| *tokens == count) {
            Some(at) => at,
            None => {
                let step = decode::compile(self.capture(&Ending::Choice(&self.history))?, count, self.timing)?;
                self.steps.choice.push((count, step));
                self.steps.choice.len() - 1
            }
        };
        self.steps.choice[at].1.submit()?.wait()?;
        self.history.view(self.position..self.position + count)?.read_into(out.as_mut())?;
        self.position += count;
        Ok(out)
    }

    /// Appends a token and then the likeliest next ones: as many of them as one submission computes, at most `most` and
    /// as the context has room for, at least one. The last is *not* appended.
    ///
    /// # Errors
    /// As [`next_token`](Session::next_token), and [`LmError::Option`] for `most` of 0.
    pub fn likeliest(&mut self, token: u32, most: usize) -> Result<Vec<u32>> {
        if most == 0 {
            return Err(LmError::Option { option: "most", value: "0".into(), range: "at least 1" });
        }
        let room = self.cache.limit().saturating_sub(self.position);
        let count = match self.decode {
            // Two sizes of submission are enough: a step is then captured twice at most.
            Decode::Replay { tokens } if tokens <= most.min(room) => tokens,
            _ => 1,
        };
        if count == 1 {
            return Ok(vec![self.largest(&[token])?]);
        }
        self.check(&[token])?;
        self.make_room(count)?;
        self.replay_choices(token, vec![0; count])
    }

    /// Goes back to a shorter text: what came after `position` is forgotten. Going forward is not possible.
    pub fn truncate(&mut self, position: usize) {
        self.position = self.position.min(position);
    }

    /// Goes on by so many positions without computing them, to measure at a context: their keys and values are zero, or
    /// what an earlier text left there.
    ///
    /// # Errors
    /// [`LmError::ContextFull`], device errors.
    pub fn skip(&mut self, tokens: usize) -> Result<()> {
        self.cache.check(self.position.saturating_add(tokens))?;
        self.make_room(tokens)?;
        self.position += tokens;
        Ok(())
    }

    /// What the step of a token at this position has to read.
    pub fn step_bytes(&self, position: usize) -> StepBytes {
        let cache = self.cache.position_bytes() * (position as u64 + 1);
        StepBytes { weights: self.model.weight_bytes(), cache }
    }

    /// The captured step of one token as it decodes: for inspection, its barriers proved and explained.
    ///
    /// # Errors
    /// Device errors.
    pub fn decode_graph(&self) -> Result<Graph> {
        self.capture(&Ending::Choice(&self.history))
    }

    /// The same before anything is fused or moved: as it is recorded.
    ///
    /// # Errors
    /// Device errors.
    pub fn plain_decode_graph(&self) -> Result<Graph> {
        decode::capture_plain(&self.model, &self.state(), &Ending::Choice(&self.history))
    }

    fn capture(&self, ending: &Ending<'_>) -> Result<Graph> {
        decode::capture(&self.model, &self.state(), ending)
    }

    fn state(&self) -> State<'_> {
        let (rows, cache, position) = (&self.single, &self.cache, &self.device_position);
        State { rows, cache, position, precision: self.precision }
    }

    /// Room for more tokens in the cache. When it grows, what was captured is of no use.
    fn make_room(&mut self, tokens: usize) -> Result<()> {
        if self.cache.grow(self.position, self.position + tokens)? {
            self.steps = Steps::default();
            self.history = history(&self.model, &self.cache)?;
        }
        Ok(())
    }

    fn pass<'a>(&'a self, encoder: &'a mut CommandEncoder, rows: &Rows) -> Pass<'a> {
        let (cache, position, precision) = (&self.cache, &self.device_position, self.precision);
        Pass { encoder, rows: rows.clone(), cache, position, precision }
    }

    /// Records the step of some tokens. A part of it may be at work already when this returns, and so tokens and position
    /// are written first.
    fn record_layers(&self, rows: &Rows, tokens: &[u32]) -> Result<CommandEncoder> {
        self.place(rows, tokens)?;
        let label = if rows.len() == 1 { "decode" } else { "prompt" };
        let expected = u32::try_from(self.model.config().layers).unwrap_or(u32::MAX).saturating_mul(LAYER);
        let split = self.split.then(|| Split::of(expected));
        let options = EncoderOptions { label: label.into(), timing: self.timing, split, ..EncoderOptions::default() };
        let mut encoder = self.model.device().encoder_with(options)?;
        self.model.record_layers(&mut self.pass(&mut encoder, rows))?;
        Ok(encoder)
    }

    /// Records the step of some tokens, and waits for it.
    fn run(&self, rows: &Rows, tokens: &[u32], want: Want) -> Result<()> {
        let mut encoder = self.record_layers(rows, tokens)?;
        if want != Want::Nothing {
            let mut pass = self.pass(&mut encoder, rows);
            self.model.record_head(&mut pass, rows.len() - 1, &self.head, want == Want::Largest)?;
        }
        encoder.commit()?.wait()?;
        Ok(())
    }

    /// Tells the device where the text is and what comes next.
    fn place(&self, rows: &Rows, tokens: &[u32]) -> Result<()> {
        // Positions fit 32 bits: a cache of more would not fit any memory.
        self.device_position.write(&[self.position as u32])?;
        Ok(rows.tokens.write(tokens)?)
    }
}

/// Room for the tokens that the device chooses: one for each position of the cache.
fn history(model: &Model, cache: &Cache) -> Result<Buffer> {
    Ok(model.device().buffer_in(MemoryKind::Readback, DType::U32, &[cache.capacity()], "history")?)
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("position", &self.position).field("cache", &self.cache).finish_non_exhaustive()
    }
}
