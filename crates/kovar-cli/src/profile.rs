//! Times of every command of a model's step.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use kovar::Timing;
use kovar::profile::{Profile as Kept, Profiler, Report};
use kovar_lm::{Decode, Model, Sampler, Sampling, Session, SessionOptions};
use serde_json::{Value, json};

use crate::arguments::Profile;
use crate::error::{Failure, Result};
use crate::peak::Measured;

/// Steps before those that count: the first compiles kernels and captures the step.
const WARM: usize = 2;
/// Times that peaks are measured.
const ROUNDS: usize = 3;

/// What a file is to hold.
#[derive(Clone, Copy)]
enum Form {
    Trace,
    Page,
}

impl Form {
    fn of(path: &Path) -> Result<Form> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => Ok(Form::Trace),
            Some("html") => Ok(Form::Page),
            _ => Err(Failure::new(format!("{}: name it .json or .html", path.display()))),
        }
    }
}

pub(crate) fn run(arguments: &Profile) -> Result<()> {
    // Measuring for nothing is slow.
    let file = match &arguments.out {
        Some(path) => Some((path, Form::of(path)?)),
        None => None,
    };
    let device = arguments.running.open()?;
    let model = Arc::new(arguments.weights.load(&device)?);
    let profiler = Profiler::attach(&device)?;
    let mut kept = arguments.steps(&model, &profiler, Timing::Whole)?;
    kept.append(arguments.steps(&model, &profiler, Timing::Dispatches)?);
    let report = Report::of(&kept).with_peaks(Measured::new(&device, ROUNDS)?.peaks());
    let what = format!("{} of {}", arguments.what(), arguments.weights.name());
    if let Some((path, form)) = file {
        let text = match form {
            Form::Trace => kept.to_trace().to_string(),
            Form::Page => kept.to_html(&what, &report),
        };
        std::fs::write(path, text).map_err(|error| Failure::file("write", path, error))?;
    }
    let mut out = std::io::stdout().lock();
    if arguments.json {
        let mut json = report.to_json();
        if let Value::Object(fields) = &mut json {
            fields.insert("what".into(), json!(what));
        }
        writeln!(out, "{json}")?;
    } else {
        write!(out, "{what} on {report}")?;
    }
    Ok(())
}

impl Profile {
    fn what(&self) -> String {
        match self.prompt {
            Some(tokens) => format!("{} prompts of {tokens} tokens", self.steps),
            None => format!("{} tokens decoded at {}", self.steps, self.ctx),
        }
    }

    /// The steps, in a session of their own.
    fn steps(&self, model: &Arc<Model>, profiler: &Profiler, timing: Timing) -> Result<Kept> {
        let decode = Decode::Replay { tokens: 1 };
        let precision = self.running.precision();
        let options = SessionOptions { precision, decode, timing, ..SessionOptions::default() };
        let mut session = Session::new(model.clone(), &options)?;
        match self.prompt {
            Some(tokens) => self.prompts(&mut session, profiler, tokens, options.chunk),
            None => self.tokens(&mut session, profiler),
        }
    }

    fn tokens(&self, session: &mut Session, profiler: &Profiler) -> Result<Kept> {
        // Room for all at once: a cache that grows in between captures the step anew.
        session.skip(self.ctx + self.steps + WARM)?;
        session.truncate(self.ctx);
        let mut token = 1;
        for _ in 0..WARM {
            token = session.likeliest(token, 1)?.pop().unwrap_or(token);
        }
        session.truncate(self.ctx);
        let mut kept = profiler.take()?;
        kept.runs.clear();
        kept.host.clear();
        for _ in 0..self.steps {
            let position = session.position() as u64;
            token = session.likeliest(token, 1)?.pop().unwrap_or(token);
            let mut step = profiler.take()?;
            step.runs.iter_mut().for_each(|run| run.position = Some(position));
            kept.append(step);
        }
        Ok(kept)
    }

    fn prompts(&self, session: &mut Session, profiler: &Profiler, tokens: usize, chunk: usize) -> Result<Kept> {
        let vocab = session.model().config().vocab;
        let tokens: Vec<u32> = (0..tokens).map(|i| (i * 7919 % vocab) as u32).collect();
        let mut sampler = Sampler::new(Sampling::default())?;
        for _ in 0..WARM {
            session.clear();
            session.next_token(&tokens, &mut sampler)?;
        }
        let mut kept = profiler.take()?;
        kept.runs.clear();
        kept.host.clear();
        for _ in 0..self.steps {
            session.clear();
            session.next_token(&tokens, &mut sampler)?;
            let mut step = profiler.take()?;
            for (run, position) in step.runs.iter_mut().zip((0u64..).step_by(chunk)) {
                run.position = Some(position);
            }
            kept.append(step);
        }
        Ok(kept)
    }
}
