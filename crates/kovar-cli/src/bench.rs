//! Speed of a model, measured through the same session that generates text.

use std::sync::Arc;

use kovar::profile::Summary;
use kovar_lm::{Decode, Model, Session, SessionOptions};
use serde_json::{Value, json};

use crate::arguments::BenchModel;
use crate::error::Result;
use crate::peak;
use crate::report::{mebibytes, peak_memory, show};
use crate::speed::{self, Round, count, spread, warmed};

/// Tokens decoded in the way that is not measured for speed, to see what it costs the host.
const OTHER_WAY: usize = 32;
/// Times that the memory's speed is measured.
const PEAK_ROUNDS: usize = 3;

pub(crate) fn run(arguments: &BenchModel) -> Result<()> {
    let device = arguments.running.open()?;
    let model = Arc::new(arguments.weights.load(&device)?);
    let replay = Decode::Replay { tokens: arguments.tokens_per_submission };
    let (way, other) = if arguments.eager { (Decode::Eager, replay) } else { (replay, Decode::Eager) };
    let mut session = arguments.session(&model, way)?;
    let prompt = arguments.prompt_speed(&mut session)?;
    let decode = arguments.decode_speed(&mut session, arguments.r#gen, arguments.rounds)?;
    let graphs = [session.plain_decode_graph()?, session.decode_graph()?];
    let bytes = session.step_bytes(arguments.ctx + arguments.r#gen / 2);
    drop(session);
    let other = arguments.decode_speed(&mut arguments.session(&model, other)?, arguments.r#gen.min(OTHER_WAY), 1)?;
    let (replayed, eager) = if arguments.eager { (&other, &decode) } else { (&decode, &other) };
    let memory =
        json!({ "process_peak_bytes": peak_memory(), "device_allocated_bytes": device.stats().bytes_allocated });
    drop(model);
    let peak = peak::reading(&device, PEAK_ROUNDS)?.max();
    let rate = bytes.total() as f64 * decode.speed.median();
    let report = json!({
        "device": device.info().name,
        "backend": device.info().backend.to_string(),
        "model": arguments.weights.name(),
        "arithmetic": arguments.running.arithmetic(),
        "prompt": { "tokens": arguments.prompt, "tokens_per_s": spread(&prompt) },
        "decode": {
            "way": if arguments.eager { "eager" } else { "replayed" },
            "tokens": arguments.r#gen,
            "context": arguments.ctx,
            "tokens_per_s": spread(&decode.speed),
            "bytes_per_token": bytes.total(),
            "weight_bytes": bytes.weights,
            "cache_bytes": bytes.cache,
            "bytes_per_s": rate,
            "read_peak_bytes_per_s": peak,
            "of_read_peak": rate / peak,
            "host_us_per_token": { "replayed": replayed.host, "eager": eager.host },
            "recorded": count(&graphs[0]),
            "fused_and_reordered": count(&graphs[1]),
        },
        "memory": memory,
    });
    show(arguments.json, &report, text)
}

/// Speed of decoding.
struct Decoded {
    /// Tokens a second, one value a round.
    speed: Summary,
    /// Microseconds a token in which the host did not wait for the device.
    host: f64,
}

impl BenchModel {
    fn session(&self, model: &Arc<Model>, decode: Decode) -> Result<Session> {
        let options = SessionOptions { precision: self.running.precision(), decode, ..SessionOptions::default() };
        Ok(Session::new(model.clone(), &options)?)
    }

    /// Tokens a second of the prompt, one value a round.
    fn prompt_speed(&self, session: &mut Session) -> Result<Summary> {
        let rounds: Result<Vec<Round>> = (0..=self.rounds).map(|_| speed::prompt(session, self.prompt)).collect();
        warmed(rounds?.iter().map(|round| round.tokens_per_s).collect())
    }

    fn decode_speed(&self, session: &mut Session, tokens: usize, rounds: usize) -> Result<Decoded> {
        let decoded: Result<Vec<Round>> = (0..=rounds).map(|_| speed::decode(session, self.ctx, tokens)).collect();
        let (speed, host) = decoded?.iter().map(|round| (round.tokens_per_s, round.host_us)).unzip();
        Ok(Decoded { speed: warmed(speed)?, host: warmed(host)?.median() })
    }
}

/// The report for people.
fn text(report: &Value) -> String {
    let number = |value: &Value| value.as_f64().map_or("unknown".into(), |number| format!("{number:.1}"));
    let speed = |part: &Value| {
        let speed = &part["tokens_per_s"];
        let [median, min, max, rounds] = ["median", "min", "max", "rounds"].map(|name| &speed[name]);
        format!("{} tokens/s ({} to {} in {rounds} rounds)", number(median), number(min), number(max))
    };
    let count = |graph: &Value| {
        format!("{} commands, {} groups, {} barriers", graph["commands"], graph["groups"], graph["barriers"])
    };
    let word = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let size = |value: &Value| value.as_u64().map_or("unknown".into(), mebibytes);
    let (prompt, decode, memory) = (&report["prompt"], &report["decode"], &report["memory"]);
    let host = &decode["host_us_per_token"];
    let rate = decode["bytes_per_s"].as_f64().unwrap_or(f64::NAN) / 1e9;
    [
        format!(
            "{} on {} ({}), {}",
            word(&report["model"]),
            word(&report["device"]),
            word(&report["backend"]),
            word(&report["arithmetic"])
        ),
        format!("prompt of {} tokens: {}", prompt["tokens"], speed(prompt)),
        format!(
            "decode of {} tokens at {}, {}: {}",
            decode["tokens"],
            decode["context"],
            word(&decode["way"]),
            speed(decode)
        ),
        format!(
            "each token reads {} of weights and {} of cache: {rate:.1} GB/s, {:.1} % of the measured peak of {:.1}",
            size(&decode["weight_bytes"]),
            size(&decode["cache_bytes"]),
            decode["of_read_peak"].as_f64().unwrap_or(f64::NAN) * 100.0,
            decode["read_peak_bytes_per_s"].as_f64().unwrap_or(f64::NAN) / 1e9,
        ),
        format!("each token as recorded: {}", count(&decode["recorded"])),
        format!("each token fused and reordered: {}", count(&decode["fused_and_reordered"])),
        format!("host busy a token: {} µs replayed, {} µs eager", number(&host["replayed"]), number(&host["eager"])),
        format!(
            "memory: {} at most in this process, {} allocated from the device in all",
            size(&memory["process_peak_bytes"]),
            size(&memory["device_allocated_bytes"])
        ),
    ]
    .map(|line| line + "\n")
    .concat()
}
