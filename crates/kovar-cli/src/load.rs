//! What loading a model takes, from opening its folder to the first token.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kovar::Placement;
use kovar_lm::{Model, Sampler, Sampling, Session, SessionOptions, SyntheticWeights, shape};
use serde_json::{Value, json};

use crate::arguments::LoadBench;
use crate::error::{Failure, Result};
use crate::report::{anonymous_memory, mebibytes, show};

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(2);

pub(crate) fn run(arguments: &LoadBench) -> Result<()> {
    let folder = &arguments.model;
    let wanted = arguments.write.as_deref().filter(|_| !folder.join("config.json").exists());
    if let Some(config) = wanted.and_then(shape) {
        std::fs::create_dir_all(folder).map_err(|e| Failure::file("make", folder, e))?;
        Model::write_synthetic(folder, &config, &SyntheticWeights::default(), arguments.ragged)?;
    }
    let in_cache = read_through(folder)?;
    let report = measure(arguments, in_cache)?;
    show(arguments.json, &report, text)
}

/// Reads the files of weights once, so that they are in the system's cache; gives their bytes.
fn read_through(folder: &Path) -> Result<u64> {
    let failed = |error| Failure::file("read", folder, error);
    let mut bytes = 0;
    let mut part = vec![0; 1 << 20];
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            let mut file = File::open(&path).map_err(failed)?;
            while let count @ 1.. = file.read(&mut part).map_err(failed)? {
                bytes += count as u64;
            }
        }
    }
    Ok(bytes)
}

fn measure(arguments: &LoadBench, in_cache: u64) -> Result<Value> {
    let (peak, ended) = (AtomicU64::new(0), AtomicBool::new(false));
    let before = anonymous_memory();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                peak.fetch_max(anonymous_memory().unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(LOOK);
            }
        });
        let report = first_tokens(arguments);
        peak.fetch_max(anonymous_memory().unwrap_or(0), Ordering::Relaxed);
        ended.store(true, Ordering::Relaxed);
        let (mut report, session) = report?;
        report["file_bytes"] = json!(in_cache);
        report["anonymous_bytes"] = json!({
            "before": before,
            "peak": before.map(|_| peak.load(Ordering::Relaxed)),
            "cache_and_scratch": session,
        });
        Ok(report)
    })
}

/// Loads the model and chooses two tokens; gives the bytes of cache and scratch, too.
fn first_tokens(arguments: &LoadBench) -> Result<(Value, u64)> {
    let begun = Instant::now();
    let mut last = begun;
    let mut step = || {
        let now = Instant::now();
        (now - std::mem::replace(&mut last, now)).as_secs_f64()
    };
    let device = arguments.running.open()?;
    let opened = step();
    let model = Arc::new(Model::load(&device, &arguments.model)?);
    let loaded = step();
    let used = device.memory_used();
    let options = SessionOptions { precision: arguments.running.precision(), ..SessionOptions::default() };
    let mut session = Session::new(model.clone(), &options)?;
    let made = step();
    let mut sampler = Sampler::new(Sampling::default())?;
    let token = session.next_token(&[1], &mut sampler)?;
    let first = step();
    let total = begun.elapsed().as_secs_f64();
    session.next_token(&[token], &mut sampler)?;
    let second = step();
    let copied = model.tensors().iter().filter(|tensor| tensor.placement == Placement::Copied);
    let report = json!({
        "device": device.info().name,
        "backend": device.info().backend.to_string(),
        "model": arguments.model.display().to_string(),
        "seconds": {
            "to_first_token": total, "device": opened, "load": loaded, "session": made, "first_token": first,
            "second_token": second,
        },
        "tensors": { "all": model.tensors().len(), "copied": copied.count() },
        "in_place_bytes": model.loaded().imported,
        "copied_bytes": model.loaded().copied,
    });
    Ok((report, device.memory_used() - used))
}

fn text(report: &Value) -> String {
    let size = |value: &Value| value.as_u64().map_or("unknown".into(), mebibytes);
    let millis = |name: &str| format!("{:.1}", report["seconds"][name].as_f64().unwrap_or(f64::NAN) * 1e3);
    let word = |name: &str| report[name].as_str().unwrap_or_default();
    let (tensors, memory) = (&report["tensors"], &report["anonymous_bytes"]);
    [
        format!("{} on {} ({})", word("model"), word("device"), word("backend")),
        format!("weights: {}, read once before", size(&report["file_bytes"])),
        format!(
            "first token after {} ms: device {}, load {}, session {}, token {}; the second token takes {}",
            millis("to_first_token"),
            millis("device"),
            millis("load"),
            millis("session"),
            millis("first_token"),
            millis("second_token"),
        ),
        format!(
            "{} tensors, {} of them copied: {} used in place, {} copied",
            tensors["all"],
            tensors["copied"],
            size(&report["in_place_bytes"]),
            size(&report["copied_bytes"]),
        ),
        format!(
            "memory of no file: {} at most, {} before; cache and scratch have room for {}",
            size(&memory["peak"]),
            size(&memory["before"]),
            size(&memory["cache_and_scratch"]),
        ),
    ]
    .map(|line| line + "\n")
    .concat()
}
