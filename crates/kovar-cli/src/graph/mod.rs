//! What a graph saves: recorded anew each time, handed over in parts, and replayed.

mod chain;
mod step;

use std::io::Write;

use serde_json::{Value, json};

use crate::arguments::GraphBench;
use crate::error::Result;

pub(crate) fn run(arguments: &GraphBench) -> Result<()> {
    let device = arguments.running.open()?;
    let chain = chain::Measured::new(&device, arguments.dispatches, arguments.rounds)?;
    let step = match arguments.weights.is_given() {
        true => Some(step::Measured::new(&device, arguments)?),
        false => None,
    };
    let mut out = std::io::stdout().lock();
    let info = device.info();
    if arguments.json {
        let step = step.as_ref().map(step::Measured::to_json);
        let (name, backend) = (&info.name, info.backend.to_string());
        let report = json!({ "device": name, "backend": backend, "chain": chain.to_json(), "model": step });
        writeln!(out, "{report}")?;
        return Ok(());
    }
    writeln!(out, "{} ({})\n\n{}", info.name, info.backend, chain.text())?;
    if let Some(step) = step {
        writeln!(out, "{}", step.text())?;
    }
    Ok(())
}

/// An object of named values.
fn object(values: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    Value::Object(values.into_iter().map(|(name, value)| (name.to_string(), value)).collect())
}
