//! The step of a model: its size before and after it is rewritten, and its speed in each way.

use std::sync::Arc;

use kovar::Device;
use kovar::profile::Summary;
use kovar::profile::columns::{aligned, known};
use kovar_lm::{Decode, LOOK_AHEAD, Session, SessionOptions};
use serde_json::{Value, json};

use super::object;
use crate::arguments::GraphBench;
use crate::error::Result;
use crate::speed::{self, Round, count, spread, warmed};

/// Ways to decode: name, and whether the first part of what is recorded goes early.
const WAYS: [(&str, Decode, bool); 4] = [
    ("eager", Decode::Eager, false),
    ("eager, first part early", Decode::Eager, true),
    ("replayed, 1 a submission", Decode::Replay { tokens: 1 }, false),
    ("replayed, 8 a submission", Decode::Replay { tokens: 8 }, false),
];

/// Ways to process a prompt.
const PROMPTS: [(&str, bool); 2] = [("prompt", false), ("prompt, first part early", true)];

struct Way {
    name: &'static str,
    /// Tokens a second.
    speed: Summary,
    /// Microseconds of a token.
    host: Summary,
}

/// A way that is being measured.
struct Run {
    name: &'static str,
    session: Session,
    rounds: Vec<Round>,
}

impl Run {
    fn finish(self) -> Result<Way> {
        let (speed, host) = self.rounds.iter().map(|round| (round.tokens_per_s, round.host_us)).unzip();
        Ok(Way { name: self.name, speed: warmed(speed)?, host: warmed(host)? })
    }
}

pub(super) struct Measured {
    model: String,
    prompt: usize,
    tokens: usize,
    context: usize,
    rounds: usize,
    /// Sizes by what was done to the graph.
    sizes: Vec<(&'static str, Value)>,
    /// How often each rule was applied.
    rules: Vec<(&'static str, usize)>,
    prompts: Vec<Way>,
    ways: Vec<Way>,
}

impl Measured {
    pub(super) fn new(device: &Device, arguments: &GraphBench) -> Result<Measured> {
        let model = Arc::new(arguments.weights.load(device)?);
        let session = |decode, split| {
            let precision = arguments.running.precision();
            Session::new(model.clone(), &SessionOptions { precision, decode, split, ..SessionOptions::default() })
        };
        let mut graph = session(Decode::Eager, false)?.plain_decode_graph()?;
        let mut sizes = vec![("as recorded", count(&graph))];
        let mut moved = graph.clone();
        moved.reorder(LOOK_AHEAD);
        sizes.push(("reordered", count(&moved)));
        let rules = graph.fuse(kovar_ops::fusion_rules())?;
        sizes.push(("fused", count(&graph)));
        graph.reorder(LOOK_AHEAD);
        sizes.push(("fused and reordered", count(&graph)));
        drop((graph, moved));
        let run = |(name, decode, split)| -> Result<Run> {
            Ok(Run { name, session: session(decode, split)?, rounds: Vec::new() })
        };
        let prompts = PROMPTS.map(|(name, split)| (name, Decode::Eager, split));
        let mut prompts = prompts.into_iter().map(run).collect::<Result<Vec<_>>>()?;
        let mut ways = WAYS.into_iter().map(run).collect::<Result<Vec<_>>>()?;
        for _ in 0..=arguments.rounds {
            for Run { session, rounds, .. } in &mut prompts {
                rounds.push(speed::prompt(session, arguments.prompt)?);
            }
            for Run { session, rounds, .. } in &mut ways {
                rounds.push(speed::decode(session, arguments.ctx, arguments.r#gen)?);
            }
        }
        Ok(Measured {
            model: arguments.weights.name(),
            prompt: arguments.prompt,
            tokens: arguments.r#gen,
            context: arguments.ctx,
            rounds: arguments.rounds,
            sizes,
            rules,
            prompts: prompts.into_iter().map(Run::finish).collect::<Result<_>>()?,
            ways: ways.into_iter().map(Run::finish).collect::<Result<_>>()?,
        })
    }

    pub(super) fn to_json(&self) -> Value {
        let way = |way: &Way| {
            (way.name, json!({ "tokens_per_s": spread(&way.speed), "host_us_per_token": spread(&way.host) }))
        };
        json!({
            "name": self.model,
            "graph": object(self.sizes.iter().cloned()),
            "rules": object(self.rules.iter().map(|(name, applied)| (*name, json!(applied)))),
            "prompt": { "tokens": self.prompt, "ways": object(self.prompts.iter().map(way)) },
            "decode": { "tokens": self.tokens, "context": self.context, "ways": object(self.ways.iter().map(way)) },
        })
    }

    pub(super) fn text(&self) -> String {
        let size = |(name, size): &(&str, Value)| {
            [name.to_string(), size["commands"].to_string(), size["groups"].to_string(), size["barriers"].to_string()]
        };
        let sizes: Vec<_> = self.sizes.iter().map(size).collect();
        let range = |summary: &Summary| format!("{:.1}..{:.1}", summary.min(), summary.max());
        let row = |way: &Way| {
            let [speed, host] = [&way.speed, &way.host].map(|summary| known(Some(summary.median()), 1));
            [way.name.into(), speed, range(&way.speed), host, range(&way.host)]
        };
        let ways: Vec<_> = self.prompts.iter().chain(&self.ways).map(row).collect();
        let applied = self.rules.iter().filter(|(_, applied)| *applied > 0);
        let rules: Vec<_> = applied.map(|(name, applied)| format!("{name}: {applied}")).collect();
        let Measured { model, prompt, tokens, context, rounds, .. } = self;
        format!(
            "{model}\n{}rules: {}\n\nprompt of {prompt}, {tokens} decoded at {context}, {rounds} rounds; host: a token, without waiting\n{}",
            aligned(["STEP", "COMMANDS", "GROUPS", "BARRIERS"], &sizes),
            if rules.is_empty() { "none applied".into() } else { rules.join(", ") },
            aligned(["TOKENS", "TOKENS/s", "LEAST..MOST", "HOST µs", "LEAST..MOST"], &ways),
        )
    }
}
