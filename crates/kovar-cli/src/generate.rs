use std::io::Write;

use kovar_lm::{Finish, GenerateOptions, Sampling, generate};

use crate::arguments::Generate;
use crate::error::Result;
use crate::report;

pub(crate) fn run(arguments: &Generate) -> Result<()> {
    let Generate { max_tokens, temp, top_k, top_p, seed, .. } = *arguments;
    let sampling = Sampling { temperature: temp, top_k, top_p, seed };
    let mut session = arguments.setup.session()?;
    let model = session.model().clone();
    let mut tokens = generate(&mut session, &arguments.prompt, &GenerateOptions { max_tokens, sampling })?;
    let mut out = std::io::stdout().lock();
    let mut finish = None;
    for token in &mut tokens {
        let token = token?;
        finish = token.finish;
        out.write_all(token.text.as_bytes())?;
        out.flush()?;
    }
    writeln!(out)?;
    let mut notes = report::generation(&tokens.timing(), &model.loaded(), &model.device().info().backend.to_string());
    if finish == Some(Finish::Context) {
        notes += "the text ends here because the context is full\n";
    }
    // The text is out: whether anyone reads the notes does not matter.
    let _ = std::io::stderr().write_all(notes.as_bytes());
    Ok(())
}
