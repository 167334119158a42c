//! Tokens to text as they come.

use crate::{Result, Tokenizer};

/// Tokens that may be held back. A character is spread over 4 at most, but decoders that work on runs of bytes can take
/// back more; whatever is still no text after so many tokens is no text at all.
const LONGEST: usize = 64;

/// Tokens of the past that the text of the next ones may depend on.
const CONTEXT: usize = 4;

/// Text of tokens as they come, held back until its characters are whole: a token can end in the middle of one.
///
/// The pieces together are the text of all tokens.
#[derive(Debug, Default)]
pub struct TextStream {
    /// Tokens whose text was given out whole, then those of which some may be held back.
    tokens: Vec<u32>,
    /// How many are of the first kind.
    past: usize,
    /// What was given out of their text.
    shown: String,
}

impl TextStream {
    /// A stream that goes on after these tokens. Some tokenizers spell the first token of a text in another way.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn after(tokenizer: &Tokenizer, tokens: &[u32]) -> Result<TextStream> {
        let tokens = tokens[tokens.len().saturating_sub(CONTEXT)..].to_vec();
        let shown = tokenizer.decode(&tokens)?;
        Ok(TextStream { past: tokens.len(), tokens, shown })
    }

    /// Takes one more token and gives the text that is certain now: often that of the token, sometimes none.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn push(&mut self, tokenizer: &Tokenizer, token: u32) -> Result<String> {
        self.tokens.push(token);
        let text = tokenizer.decode(&self.tokens)?;
        // A character that is not whole yet shows as U+FFFD at the end.
        let certain = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
        let overdue = self.tokens.len() - self.past >= LONGEST;
        let piece = self.rest(if overdue { &text } else { certain });
        if overdue || (certain.len() == text.len() && !piece.is_empty()) {
            self.tokens.drain(..self.past);
            self.past = self.tokens.len();
            self.shown = tokenizer.decode(&self.tokens)?;
        } else {
            self.shown.push_str(&piece);
        }
        Ok(piece)
    }

    /// What is still held back, at the end.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn finish(&mut self, tokenizer: &Tokenizer) -> Result<String> {
        let piece = self.rest(&tokenizer.decode(&self.tokens)?);
        *self = TextStream::default();
        Ok(piece)
    }

    /// What comes after the text given out. Nothing, while a decoder takes some of it back.
    fn rest(&self, text: &str) -> String {
        text.strip_prefix(self.shown.as_str()).unwrap_or_default().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    fn shipped() -> &'static Tokenizer {
        static SHIPPED: LazyLock<Tokenizer> = LazyLock::new(|| {
            Tokenizer::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/rustdoc-14m-mlx-4bit")).unwrap()
        });
        &SHIPPED
    }

    fn pieces(tokenizer: &Tokenizer, start: &[u32], tokens: &[u32]) -> Vec<String> {
        let mut stream = TextStream::after(tokenizer, start).unwrap();
        let mut pieces: Vec<String> = tokens.iter().map(|token| stream.push(tokenizer, *token).unwrap()).collect();
        pieces.push(stream.finish(tokenizer).unwrap());
        pieces
    }

    #[test]
    fn a_character_of_many_tokens_comes_whole() {
        let tokenizer = shipped();
        for text in ["naïve 🦀🦀 – “数学”", "e\u{301}👩‍💻", "\u{fffd} stays", "🦀"] {
            let tokens = tokenizer.encode(text).unwrap();
            let pieces = pieces(tokenizer, &tokens[..1], &tokens[1..]);
            assert_eq!(pieces.concat(), text);
            assert!(text.contains('\u{fffd}') || !pieces.concat().contains('\u{fffd}'), "{pieces:?}");
        }
        let crab = tokenizer.encode("🦀").unwrap();
        assert!(crab.len() > 2, "the vocabulary has a token for it: take a rarer character");
        assert_eq!(pieces(tokenizer, &[], &crab).iter().filter(|piece| !piece.is_empty()).count(), 1);
    }

    #[test]
    fn a_broken_end_is_shown_at_the_end() {
        let tokenizer = shipped();
        let crab = tokenizer.encode("a🦀").unwrap();
        let pieces = pieces(tokenizer, &[], &crab[..crab.len() - 1]);
        assert_eq!(pieces.concat().trim_end_matches('\u{fffd}'), "a");
        assert_eq!(pieces.last().unwrap(), "\u{fffd}");
    }

    proptest! {
        #[test]
        fn pieces_make_the_text(tokens in prop::collection::vec(1u32..4096, 0..50)) {
            let tokenizer = shipped();
            prop_assert_eq!(pieces(tokenizer, &[], &tokens).concat(), tokenizer.decode(&tokens).unwrap());
        }

        #[test]
        fn whole_texts_come_back(text in "\\PC{0,40}") {
            let tokenizer = shipped();
            let tokens = tokenizer.encode(&text).unwrap();
            prop_assert_eq!(tokenizer.decode(&tokens).unwrap(), text);
        }
    }
}
