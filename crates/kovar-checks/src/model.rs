//! The shipped model against mlx-lm: logits at every position, and the tokens of a greedy path.

use std::path::Path;
use std::sync::Arc;

use kovar::Device;
use kovar_lm::{Model, Precision, Sampler, Sampling, Session, SessionOptions};
use safetensors::SafeTensors;

/// Prompts that the shipped model has golden results for.
pub const PROMPTS: usize = 3;

static FILES: [&[u8]; PROMPTS] = [
    include_bytes!("../../../tests/golden/rustdoc-14m/prompt0.safetensors"),
    include_bytes!("../../../tests/golden/rustdoc-14m/prompt1.safetensors"),
    include_bytes!("../../../tests/golden/rustdoc-14m/prompt2.safetensors"),
];

/// Relative L2 error of the logits at any position, activations in f32. MLX itself is 2e-5 away from f64 arithmetic.
const EXACT: f64 = 2e-3;

/// What mlx-lm computed in f32.
pub struct Golden {
    /// The text that `tokens` stand for.
    pub text: Option<String>,
    /// The text that `greedy` stand for.
    pub greedy_text: Option<String>,
    /// What the model was given.
    pub tokens: Vec<u32>,
    /// [tokens, vocab]
    pub logits: Vec<f32>,
    /// What follows the first `prompt` tokens.
    pub greedy: Vec<u32>,
    /// Tokens that `greedy` follows.
    pub prompt: usize,
}

impl Golden {
    /// Of the shipped model, for one of [`PROMPTS`] prompts.
    pub fn shipped(prompt: usize) -> Golden {
        Golden::parse(FILES[prompt])
    }

    /// Of a small model, which lies in its folder.
    pub fn small(model: &Path) -> Golden {
        let path = model.join("golden.safetensors");
        Golden::parse(&std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    fn parse(bytes: &[u8]) -> Golden {
        let (_, header) = SafeTensors::read_metadata(bytes).unwrap();
        let metadata = header.metadata().clone().unwrap();
        let file = SafeTensors::deserialize(bytes).unwrap();
        let words = |name: &str| -> Vec<[u8; 4]> { file.tensor(name).unwrap().data().as_chunks().0.to_vec() };
        let integers = |name: &str| -> Vec<u32> { words(name).into_iter().map(u32::from_le_bytes).collect() };
        let tokens = integers("tokens");
        Golden {
            text: metadata.get("text").cloned(),
            greedy_text: metadata.get("greedy_text").cloned(),
            logits: words("logits").into_iter().map(f32::from_le_bytes).collect(),
            greedy: integers("greedy"),
            prompt: metadata.get("prompt_len").map_or(tokens.len(), |n| n.parse().unwrap()),
            tokens,
        }
    }
}

/// Loads a model and begins a text. Panics if that fails.
pub fn session(device: &Device, model: &Path, precision: Precision) -> Session {
    let model = Model::load(device, model).unwrap_or_else(|error| panic!("{}: {error}", model.display()));
    Session::new(Arc::new(model), &SessionOptions { precision, ..SessionOptions::default() }).unwrap()
}

/// The likeliest tokens behind a prompt.
pub fn greedy(session: &mut Session, prompt: &[u32], count: usize) -> Vec<u32> {
    let mut sampler = Sampler::new(Sampling::default()).unwrap();
    session.clear();
    let mut tokens: Vec<u32> = Vec::new();
    while tokens.len() < count {
        let next = match tokens.last() {
            None => session.next_token(prompt, &mut sampler).unwrap(),
            Some(last) => session.next_token(&[*last], &mut sampler).unwrap(),
        };
        tokens.push(next);
    }
    tokens
}

/// The largest distance of a row from its golden, relative to the golden's length (L2).
pub fn worst_error(got: &[f32], wanted: &[f32], vocab: usize) -> f64 {
    assert_eq!(got.len(), wanted.len());
    let square = |x: f64| x * x;
    got.chunks_exact(vocab)
        .zip(wanted.chunks_exact(vocab))
        .map(|(got, wanted)| {
            let error: f64 = got.iter().zip(wanted).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
            let length: f64 = wanted.iter().map(|b| square(f64::from(*b))).sum();
            (error / length).sqrt()
        })
        .fold(0.0, |worst, error| if error.is_nan() { f64::INFINITY } else { f64::max(worst, error) })
}

/// Logits at every position; panics if one is further away than `limit` (L2, relative).
pub fn compare_logits(name: &str, session: &mut Session, golden: &Golden, limit: f64) {
    let device = session.model().device().info().backend;
    let vocab = session.model().config().vocab;
    session.clear();
    let logits = session.eval_logits(&golden.tokens).unwrap();
    let error = worst_error(&logits, &golden.logits, vocab);
    assert!(error <= limit, "{name} on {device}: relative error {error:.2e}, allowed {limit:.0e}");
}

/// Logits with exact arithmetic, and the tokens of the greedy path.
pub fn compare(name: &str, session: &mut Session, golden: &Golden) {
    compare_logits(name, session, golden, EXACT);
    let tokens = greedy(session, &golden.tokens[..golden.prompt], golden.greedy.len());
    assert_eq!(tokens, golden.greedy, "{name} on {:?}", session.model().device());
}

/// The model that is shipped with Kovar does on this device what it does in mlx-lm. Panics if it does not.
pub fn shipped_agrees(device: &Device, folder: &Path) {
    let mut session = session(device, folder, Precision::Exact);
    for prompt in 0..PROMPTS {
        let golden = Golden::shipped(prompt);
        let text = golden.text.as_deref().unwrap();
        let tokenizer = session.model().tokenizer().unwrap();
        let tokens = tokenizer.encode(text).unwrap();
        assert!(tokens == golden.tokens, "{} is not the model that is shipped with Kovar", folder.display());
        assert_eq!(tokenizer.decode(&golden.greedy).unwrap(), golden.greedy_text.clone().unwrap());
        compare(&format!("prompt {prompt}"), &mut session, &golden);
    }
}
