//! Text to tokens and back, all at once.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::config::optional_file;
use crate::{LmError, Result};

/// The tokenizer of a model folder: `tokenizer.json`, and `tokenizer_config.json` if it is there.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    file: PathBuf,
    /// The token that begins each text, with its spelling.
    begin: Option<(u32, String)>,
    eos: Option<u32>,
}

#[derive(Deserialize, Default)]
struct Settings {
    add_bos_token: Option<bool>,
    bos_token: Option<Value>,
    eos_token: Option<Value>,
}

/// A special token is a string, or an object whose `content` is one.
fn spelling(token: Option<Value>) -> Option<String> {
    match token? {
        Value::String(text) => Some(text),
        Value::Object(mut object) => match object.remove("content") {
            Some(Value::String(text)) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

impl Tokenizer {
    /// Reads the tokenizer of the model in `dir`.
    ///
    /// # Errors
    /// [`LmError::Tokenizer`] if there is none or it cannot be used.
    pub fn open(dir: impl AsRef<Path>) -> Result<Tokenizer> {
        let dir = dir.as_ref();
        let file = dir.join("tokenizer.json");
        let unusable = |reason: String| LmError::Tokenizer { file: file.clone(), reason: one_line(&reason) };
        let bytes = std::fs::read(&file).map_err(|error| unusable(error.to_string()))?;
        let inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| unusable(error.to_string()))?;
        let settings: Settings = optional_file(&dir.join("tokenizer_config.json"))?;
        let id = |text: &String| inner.token_to_id(text);
        let bos = spelling(settings.bos_token).and_then(|text| Some((id(&text)?, text)));
        let eos = spelling(settings.eos_token).as_ref().and_then(id);
        let begin = bos.filter(|_| settings.add_bos_token == Some(true));
        Ok(Tokenizer { inner, file, begin, eos })
    }

    /// Tokens of a text as a model is to see it: with the token that begins a text if this tokenizer adds one, unless the
    /// text is spelt with it.
    ///
    /// # Errors
    /// [`LmError::Tokenizer`] with the tokenizer's own message.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let spelt_out = self.begin.as_ref().is_some_and(|(_, spelling)| text.starts_with(spelling.as_str()));
        let encoding = self.inner.encode_fast(text, !spelt_out).map_err(|error| self.failed(&error.to_string()))?;
        let mut tokens = encoding.get_ids().to_vec();
        if let Some((begin, _)) = &self.begin
            && tokens.first() != Some(begin)
        {
            tokens.insert(0, *begin);
        }
        Ok(tokens)
    }

    /// Text of tokens, without special ones. Bytes that are no UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// [`LmError::Tokenizer`] with the tokenizer's own message.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        self.inner.decode(tokens, true).map_err(|error| self.failed(&error.to_string()))
    }

    /// The token that ends a text, if the tokenizer names one.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    fn failed(&self, reason: &str) -> LmError {
        LmError::Tokenizer { file: self.file.clone(), reason: one_line(reason) }
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("file", &self.file).field("begin", &self.begin).finish_non_exhaustive()
    }
}

fn one_line(reason: &str) -> String {
    reason.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect()
}
