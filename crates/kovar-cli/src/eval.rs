use std::path::Path;

use kovar_lm::{Session, perplexity};
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use serde_json::{Value, json};

use crate::arguments::Eval;
use crate::error::{Failure, Result};
use crate::report::show;

/// Tokens shown that may come next.
const SHOWN: usize = 5;

pub(crate) fn run(arguments: &Eval) -> Result<()> {
    // The files of the caller first: loading a model for nothing is slow.
    let text = match &arguments.text {
        Some(path) => Some(std::fs::read_to_string(path).map_err(|error| Failure::file("read", path, error))?),
        None => None,
    };
    let mut session = arguments.setup.session()?;
    let (json, lines) = match (&text, &arguments.tokens) {
        (Some(text), _) => of_text(&mut session, text)?,
        (None, tokens) => of_tokens(&mut session, tokens.as_deref().unwrap_or_default(), arguments.logits.as_deref())?,
    };
    show(arguments.json, &json, |_| lines)
}

fn of_text(session: &mut Session, text: &str) -> Result<(Value, String)> {
    let model = session.model().clone();
    let tokens = model.tokenizer()?.encode(text)?;
    let result = perplexity(session, &tokens)?;
    let json = json!({
        "tokens": result.tokens,
        "predicted": result.predicted,
        "nll": result.nll,
        "perplexity": result.perplexity(),
        "context": tokens.len().min(session.context()),
    });
    let lines = format!(
        "perplexity: {:.4}\nnegative log likelihood: {:.5} nats a token\ntokens: {}\n",
        result.perplexity(),
        result.nll,
        result.tokens
    );
    Ok((json, lines))
}

fn of_tokens(session: &mut Session, tokens: &[u32], file: Option<&Path>) -> Result<(Value, String)> {
    let logits = session.eval_logits(tokens)?;
    let vocab = session.model().config().vocab;
    let last = &logits[logits.len() - vocab..];
    let mut order: Vec<usize> = (0..vocab).collect();
    order.sort_by(|a, b| last[*b].total_cmp(&last[*a]));
    order.truncate(SHOWN);
    let top: Vec<Value> = order.iter().map(|id| json!({"token": id, "logit": last[*id]})).collect();
    let json = json!({"tokens": tokens.len(), "vocab": vocab, "top": top, "logits": file});
    let mut lines = String::new();
    if let Some(path) = file {
        save(path, &logits, [tokens.len(), vocab])?;
        lines += &format!("logits [{}, {vocab}] written to {}\n", tokens.len(), path.display());
    }
    lines += "likeliest next tokens:\n";
    for id in order {
        lines += &format!("{id:>8} {:>9.4}\n", last[id]);
    }
    Ok((json, lines))
}

fn save(path: &Path, logits: &[f32], shape: [usize; 2]) -> Result<()> {
    let bytes: Vec<u8> = logits.iter().flat_map(|logit| logit.to_le_bytes()).collect();
    let failed = |error| Failure::file("write", path, error);
    let tensor = TensorView::new(Dtype::F32, shape.to_vec(), &bytes).map_err(failed)?;
    serialize_to_file([("logits", tensor)], None, path).map_err(failed)
}
