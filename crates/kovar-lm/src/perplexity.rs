//! How well a model predicts a text.

use crate::{LmError, Result, Session};

/// How well a text was predicted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Perplexity {
    /// Tokens of the text.
    pub tokens: usize,
    /// Tokens that were predicted: all but the first.
    pub predicted: usize,
    /// Mean negative log likelihood of a predicted token, in nats.
    pub nll: f64,
}

impl Perplexity {
    /// e to the mean negative log likelihood.
    pub fn perplexity(&self) -> f64 {
        self.nll.exp()
    }
}

/// Predicts each token of a text from those before it. A text longer than the context is cut into windows of the
/// context's length; the last token of one is the first of the next, so that every token but the first is predicted
/// once.
///
/// The session begins a new text.
///
/// # Errors
/// [`LmError::TextTooShort`] for less than two tokens, and those of [`Session::eval_logits`].
pub fn perplexity(session: &mut Session, tokens: &[u32]) -> Result<Perplexity> {
    if tokens.len() < 2 {
        return Err(LmError::TextTooShort { tokens: tokens.len() });
    }
    // The last token of a window is only predicted, so the context has room for one more.
    let step = session.context().min(tokens.len());
    let mut sum = 0.0;
    for start in (0..tokens.len() - 1).step_by(step) {
        let targets = &tokens[start + 1..(start + 1 + step).min(tokens.len())];
        session.clear();
        session.each_logits(&tokens[start..start + targets.len()], |place, logits| {
            sum += negative_log_likelihood(logits, targets[place]);
        })?;
    }
    let predicted = tokens.len() - 1;
    Ok(Perplexity { tokens: tokens.len(), predicted, nll: sum / predicted as f64 })
}

/// Of one token, by a softmax in f64.
fn negative_log_likelihood(logits: &[f32], token: u32) -> f64 {
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|logit| (f64::from(*logit) - largest).exp()).sum();
    let own = logits.get(token as usize).copied().map_or(f64::NEG_INFINITY, f64::from);
    sum.ln() + largest - own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likelihoods_are_those_of_a_softmax() {
        let logits = [1.0f32, 2.0, 3.0].map(f32::ln);
        assert!((negative_log_likelihood(&logits, 2) - 2f64.ln()).abs() < 1e-6);
        assert!((negative_log_likelihood(&[1000.0, 1000.0], 0) - 2f64.ln()).abs() < 1e-9);
    }
}
