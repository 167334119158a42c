//! Text from a prompt, token by token.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::{LmError, Result, Sampler, Sampling, Session, TextStream};

/// How a text is generated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GenerateOptions {
    /// Tokens at most.
    pub max_tokens: usize,
    /// How they are chosen.
    pub sampling: Sampling,
}

impl Default for GenerateOptions {
    /// 128 tokens, greedily.
    fn default() -> GenerateOptions {
        GenerateOptions { max_tokens: 128, sampling: Sampling::default() }
    }
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it.
    End,
    /// As many tokens were generated as were asked for.
    MaxTokens,
    /// The context is full.
    Context,
}

/// A generated token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its number.
    pub id: u32,
    /// The text that it completes: none while a character is not whole, and none for the token that ends a text.
    pub text: String,
    /// With the last token: why it is the last.
    pub finish: Option<Finish>,
}

/// What a generation took so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timing {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// From its first token to the choice of the first new one.
    pub prompt_time: Duration,
    /// Steps after that: one for each new token but the first.
    pub decode_steps: usize,
    /// What they took.
    pub decode_time: Duration,
    /// Kernels that the decode steps dispatched.
    pub decode_dispatches: u64,
    /// Barriers in the decode steps.
    pub decode_barriers: u64,
}

/// Continues a prompt: an iterator over new tokens, which are computed as they are asked for.
///
/// The prompt begins a new text in the session, and is computed with the first token.
///
/// ```
/// use std::sync::Arc;
/// use kovar::{Backend, Device, DeviceOptions};
/// use kovar_lm::{GenerateOptions, Model, Session, SessionOptions, generate};
///
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/rustdoc-14m-mlx-4bit");
/// let device = Device::open(&DeviceOptions::of(Backend::Cpu))?;
/// let model = Arc::new(Model::load(&device, path)?);
/// let mut session = Session::new(model, &SessionOptions::default())?;
/// let options = GenerateOptions { max_tokens: 16, ..GenerateOptions::default() };
/// let mut text = String::new();
/// for token in generate(&mut session, "# The borrow checker", &options)? {
///     text += &token?.text;
/// }
/// assert!(!text.is_empty());
/// # Ok::<(), kovar_lm::LmError>(())
/// ```
///
/// # Errors
/// [`LmError::ContextFull`] if the prompt does not fit, [`LmError::Tokenizer`], [`LmError::EmptyPrompt`],
/// [`LmError::Option`]. After that the iterator ends with the first error.
pub fn generate<'s>(session: &'s mut Session, prompt: &str, options: &GenerateOptions) -> Result<Generation<'s>> {
    let tokenizer = session.model().tokenizer()?;
    let tokens = tokenizer.encode(prompt)?;
    let stream = TextStream::after(tokenizer, &tokens)?;
    let sampler = Sampler::new(options.sampling)?;
    if tokens.is_empty() {
        return Err(LmError::EmptyPrompt);
    }
    if tokens.len() > session.context() {
        return Err(LmError::ContextFull { wanted: tokens.len(), limit: session.context() });
    }
    session.clear();
    let timing = Timing { prompt_tokens: tokens.len(), ..Timing::default() };
    let ready = VecDeque::new();
    Ok(Generation { session, next: tokens, ready, sampler, stream, left: options.max_tokens, timing, first: true })
}

/// New tokens of a text; see [`generate`].
#[derive(Debug)]
pub struct Generation<'s> {
    session: &'s mut Session,
    /// Tokens to be appended before the next choice: the prompt, then the token chosen last.
    next: Vec<u32>,
    /// Tokens that are chosen and not yet asked for. All but the last are appended.
    ready: VecDeque<u32>,
    sampler: Sampler,
    stream: TextStream,
    left: usize,
    timing: Timing,
    first: bool,
}

impl Generation<'_> {
    /// What it took so far.
    pub fn timing(&self) -> Timing {
        self.timing
    }

    fn step(&mut self) -> Result<Token> {
        let id = match self.ready.pop_front() {
            Some(id) => id,
            None => self.timed_choice()?,
        };
        self.next.clear();
        self.next.push(id);
        self.left -= 1;
        let model = self.session.model();
        let tokenizer = model.tokenizer()?;
        let finish = if model.is_end(id) {
            Some(Finish::End)
        } else if self.left == 0 {
            Some(Finish::MaxTokens)
        } else if self.ready.is_empty() && self.session.position() == self.session.context() {
            Some(Finish::Context)
        } else {
            None
        };
        let mut text = match finish {
            Some(Finish::End) => String::new(),
            _ => self.stream.push(tokenizer, id)?,
        };
        if finish.is_some() {
            text += &self.stream.finish(tokenizer)?;
            self.left = 0;
            // What was computed past the end is no part of the text.
            let past = std::mem::take(&mut self.ready).len();
            self.session.truncate(self.session.position() - past);
        }
        Ok(Token { id, text, finish })
    }

    fn timed_choice(&mut self) -> Result<u32> {
        let device = self.session.model().device();
        let (before, start) = (device.stats(), Instant::now());
        let first = std::mem::take(&mut self.first);
        let id = match self.next[..] {
            [token] if !first && self.sampler.is_greedy() => {
                self.ready.extend(self.session.likeliest(token, self.left)?);
                // At least one is chosen.
                self.ready.pop_front().unwrap_or(token)
            }
            _ => self.session.next_token(&self.next, &mut self.sampler)?,
        };
        let timing = &mut self.timing;
        if first {
            timing.prompt_time = start.elapsed();
        } else {
            let stats = self.session.model().device().stats() - before;
            timing.decode_steps += 1 + self.ready.len();
            timing.decode_time += start.elapsed();
            timing.decode_dispatches += stats.dispatches;
            timing.decode_barriers += stats.barriers();
        }
        Ok(id)
    }
}

impl Iterator for Generation<'_> {
    type Item = Result<Token>;

    fn next(&mut self) -> Option<Result<Token>> {
        if self.left == 0 {
            return None;
        }
        let token = self.step();
        if token.is_err() {
            self.left = 0;
        }
        Some(token)
    }
}
