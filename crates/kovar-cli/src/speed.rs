//! Prompts and decoding, measured: what the benches of models share.

use std::time::Instant;

use kovar::profile::Summary;
use kovar::{Graph, Stats};
use kovar_lm::{Sampler, Sampling, Session};
use serde_json::{Value, json};

use crate::error::{Failure, Result};

/// Some tokens, processed or decoded once.
pub(crate) struct Round {
    pub(crate) tokens_per_s: f64,
    /// Microseconds a token in which the host did not wait for the device.
    pub(crate) host_us: f64,
}

/// Processes a prompt of so many tokens.
pub(crate) fn prompt(session: &mut Session, tokens: usize) -> Result<Round> {
    let vocab = session.model().config().vocab;
    let tokens: Vec<u32> = (0..tokens).map(|i| (i * 7919 % vocab) as u32).collect();
    session.clear();
    measured(session, tokens.len(), |session| {
        session.next_token(&tokens, &mut Sampler::new(Sampling::default())?)?;
        Ok(())
    })
}

/// Decodes so many tokens at a position.
pub(crate) fn decode(session: &mut Session, ctx: usize, tokens: usize) -> Result<Round> {
    session.clear();
    // Room for all at once: a cache that grows in between captures the step anew.
    session.skip(ctx + tokens)?;
    session.truncate(ctx);
    measured(session, tokens, |session| {
        let (mut done, mut token) = (0, 1);
        while done < tokens {
            let chosen = session.likeliest(token, tokens - done)?;
            done += chosen.len();
            token = chosen.last().copied().unwrap_or(token);
        }
        Ok(())
    })
}

fn measured(session: &mut Session, tokens: usize, work: impl FnOnce(&mut Session) -> Result<()>) -> Result<Round> {
    let device = session.model().device().clone();
    let (before, begun): (Stats, _) = (device.stats(), Instant::now());
    work(session)?;
    let time = begun.elapsed().as_secs_f64();
    let waited = (device.stats() - before).wait_ns as f64 / 1e9;
    Ok(Round { tokens_per_s: tokens as f64 / time, host_us: (time - waited) * 1e6 / tokens as f64 })
}

/// Without the first round, which compiles and captures.
pub(crate) fn warmed(rounds: Vec<f64>) -> Result<Summary> {
    Summary::of(rounds.into_iter().skip(1)).ok_or_else(|| Failure::new("nothing was measured"))
}

pub(crate) fn spread(summary: &Summary) -> Value {
    json!({ "median": summary.median(), "min": summary.min(), "max": summary.max(), "rounds": summary.count() })
}

/// Size of a graph, in numbers.
pub(crate) fn count(graph: &Graph) -> Value {
    let groups = graph.schedule().groups.len();
    json!({ "commands": graph.len(), "groups": groups, "barriers": groups.saturating_sub(1) })
}
