//! Tokens a second of a model on the CPU, and where the time of a decoded token goes.
//!
//! `cargo bench -p kovar-lm --bench speed -- MODEL [--threads N] [--prompt N] [--decode N] [--rounds N] [--exact]
//! [--copy] [--ops]`: each round is a new text, a prompt of made-up tokens and then likeliest ones. One line of JSON a
//! round. `--copy` copies the weights into memory of the device; `--ops` adds the time of each kind of command in one step,
//! with a barrier behind each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use kovar::{Backend, Device, DeviceOptions, ExecutableOptions, Timing};
use kovar_lm::{Model, Precision, Sampler, Sampling, Session, SessionOptions};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let Some(path) = arguments.first().filter(|path| !path.starts_with("--")) else {
        println!("speed: no model folder given, nothing is measured");
        return;
    };
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let number = |name: &str, default: usize| {
        let at = arguments.iter().position(|argument| argument == name);
        at.map_or(default, |at| arguments[at + 1].parse().unwrap())
    };
    let (threads, copy_files) = (Some(number("--threads", 2)), has("--copy"));
    let options = DeviceOptions { threads, copy_files, ..DeviceOptions::of(Backend::Cpu) };
    let model = Arc::new(Model::load(&Device::open(&options).unwrap(), path).unwrap());
    let precision = if has("--exact") { Precision::Exact } else { Precision::Fast };
    let mut session = Session::new(model.clone(), &SessionOptions { precision, ..Default::default() }).unwrap();
    let (prompt, decode) = (number("--prompt", 128), number("--decode", 64));
    let vocab = model.config().vocab as u64;
    let tokens: Vec<u32> = (1..=prompt as u64).map(|i| (i * 2_654_435_761 % vocab) as u32).collect();
    // The first round also reads the file and captures the step.
    for round in 0..=number("--rounds", 5) {
        let (prompt_rate, decode_rate) = measure(&mut session, &tokens, decode);
        if round > 0 {
            println!(r#"{{"prompt":{prompt_rate:.2},"decode":{decode_rate:.2}}}"#);
        }
    }
    if has("--ops") {
        show_ops(&session);
    }
}

/// Tokens a second of a prompt, and of as many likeliest tokens after it.
fn measure(session: &mut Session, tokens: &[u32], count: usize) -> (f64, f64) {
    session.clear();
    let start = Instant::now();
    let mut token = session.next_token(tokens, &mut Sampler::new(Sampling::default()).unwrap()).unwrap();
    let prompt = tokens.len() as f64 / start.elapsed().as_secs_f64();
    let (start, mut made) = (Instant::now(), 0);
    while made < count {
        let next = session.likeliest(token, count - made).unwrap();
        made += next.len();
        token = *next.last().unwrap();
    }
    (prompt, made as f64 / start.elapsed().as_secs_f64())
}

/// The fastest of some runs of the captured step, command by command.
fn show_ops(session: &Session) {
    let graph = session.decode_graph().unwrap();
    let labels: Vec<String> = graph.commands().map(|(label, _)| label.to_owned()).collect();
    let options = ExecutableOptions { timing: Timing::Dispatches, in_flight: 1, ..Default::default() };
    let mut step = graph.compile(&options).unwrap();
    let mut best = vec![u64::MAX; labels.len()];
    for _ in 0..10 {
        let done = step.submit().unwrap().wait().unwrap();
        for (best, time) in best.iter_mut().zip(done.times) {
            *best = (*best).min(time.map_or(u64::MAX, |span| span.end - span.start));
        }
    }
    let mut kinds = BTreeMap::<&str, (u32, u64)>::new();
    for (label, time) in labels.iter().zip(&best) {
        let kind = kinds.entry(label).or_default();
        *kind = (kind.0 + 1, kind.1 + time);
    }
    for (label, (count, time)) in kinds {
        println!("{count:5} {:10.1} us {label}", time as f64 / 1e3);
    }
    println!("{:5} {:10.1} us", labels.len(), best.iter().sum::<u64>() as f64 / 1e3);
}
