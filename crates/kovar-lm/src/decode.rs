//! Decoding by replay: the step of one token, captured once and submitted again and again.

use kovar::{Buffer, Executable, ExecutableOptions, Graph, Timing};
use kovar_ops::{Precision, fusion_rules, step};

use crate::cache::Cache;
use crate::model::{Model, Pass};
use crate::workspace::{HeadRows, Rows};
use crate::{LmError, Result};

/// Commands that a captured step looks ahead for work that can join a group: about a layer.
pub const LOOK_AHEAD: usize = 16;

/// What a step of one token works on beside the weights. Token and position live on the device: the step itself moves
/// them on.
pub(crate) struct State<'a> {
    pub(crate) rows: &'a Rows,
    pub(crate) cache: &'a Cache,
    pub(crate) position: &'a Buffer,
    pub(crate) precision: Precision,
}

/// What a step ends with.
pub(crate) enum Ending<'a> {
    /// The logits, for the host.
    Logits(&'a HeadRows),
    /// The largest logit chosen as the next token, and kept in a u32 [capacity] by position.
    Choice(&'a Buffer),
}

/// Captures the step of one token, fused and reordered.
pub(crate) fn capture(model: &Model, state: &State<'_>, ending: &Ending<'_>) -> Result<Graph> {
    let mut graph = capture_plain(model, state, ending)?;
    graph.fuse(fusion_rules())?;
    graph.reorder(LOOK_AHEAD);
    Ok(graph)
}

/// Captures the step of one token as it is recorded.
pub(crate) fn capture_plain(model: &Model, state: &State<'_>, ending: &Ending<'_>) -> Result<Graph> {
    Graph::capture(model.device(), "decode", |encoder| {
        let State { rows, cache, position, precision } = *state;
        let scratch;
        let mut pass = Pass { encoder, rows: rows.clone(), cache, position, precision };
        model.record_layers(&mut pass)?;
        match ending {
            Ending::Logits(head) => model.record_head(&mut pass, 0, head, false),
            Ending::Choice(history) => {
                scratch = HeadRows::scratch(pass.encoder, model.config(), 1)?;
                model.record_head(&mut pass, 0, &scratch, true)?;
                Ok::<_, LmError>(step::advance(pass.encoder, &scratch.largest, &rows.tokens, position, history)?)
            }
        }
    })
}

/// Makes a step ready to run `tokens` times a submission.
pub(crate) fn compile(graph: Graph, tokens: usize, timing: Timing) -> Result<Executable> {
    let repeat = u32::try_from(tokens).unwrap_or(u32::MAX);
    let options = ExecutableOptions { repeat, in_flight: 1, timing, ..ExecutableOptions::default() };
    Ok(graph.compile(&options)?)
}
