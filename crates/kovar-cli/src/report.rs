//! What commands tell: reports on standard output, numbers for people on standard error.

use std::fmt::Write;
use std::io::Write as _;
use std::time::Duration;

use kovar_lm::{LoadProgress, Timing};
use serde_json::Value;

use crate::error::Result;

/// Prints a report: as one JSON object, or as text for people.
pub(crate) fn show(json: bool, report: &Value, text: impl FnOnce(&Value) -> String) -> Result<()> {
    let line = if json { format!("{report}\n") } else { text(report) };
    Ok(std::io::stdout().lock().write_all(line.as_bytes())?)
}

pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Most memory that this process has had, in bytes. Linux tells in `/proc`; elsewhere nothing does without a system call
/// that the standard library does not have.
pub(crate) fn peak_memory() -> Option<u64> {
    of_process("VmHWM:")
}

/// Memory of this process that is of no file, in bytes; as [`peak_memory`], on Linux alone.
pub(crate) fn anonymous_memory() -> Option<u64> {
    of_process("RssAnon:")
}

fn of_process(what: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(what))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

fn rate(count: usize, time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if count == 0 || seconds == 0.0 { "-".into() } else { format!("{:.1}", count as f64 / seconds) }
}

/// What a generation took, in four lines.
pub(crate) fn generation(timing: &Timing, loaded: &LoadProgress, device: &str) -> String {
    let Timing { prompt_tokens, prompt_time, decode_steps, decode_time, .. } = *timing;
    let memory = peak_memory().map_or("unknown".into(), mebibytes);
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(out, "prompt: {prompt_tokens} tokens, {} tokens/s", rate(prompt_tokens, prompt_time));
    let _ = writeln!(out, "decode: {decode_steps} tokens, {} tokens/s on {device}", rate(decode_steps, decode_time));
    let _ = writeln!(
        out,
        "memory: {memory} at most; weights {} used in place, {} copied",
        mebibytes(loaded.imported),
        mebibytes(loaded.copied)
    );
    let each = |count: u64| match decode_steps {
        0 => "-".into(),
        steps => format!("{:.1}", count as f64 / steps as f64),
    };
    let (dispatches, barriers) = (each(timing.decode_dispatches), each(timing.decode_barriers));
    let _ = writeln!(out, "each decoded token: {dispatches} dispatches, {barriers} barriers");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_in_four_lines() {
        let timing = Timing {
            prompt_tokens: 6,
            prompt_time: Duration::from_millis(20),
            decode_steps: 4,
            decode_time: Duration::from_millis(8),
            decode_dispatches: 40,
            decode_barriers: 22,
        };
        let loaded = LoadProgress { imported: 3 << 20, copied: 1 << 19, total: 7 << 19 };
        let text = generation(&timing, &loaded, "cpu");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "prompt: 6 tokens, 300.0 tokens/s");
        assert_eq!(lines[1], "decode: 4 tokens, 500.0 tokens/s on cpu");
        assert!(lines[2].ends_with("weights 3.0 MiB used in place, 0.5 MiB copied"), "{}", lines[2]);
        assert_eq!(lines[3], "each decoded token: 10.0 dispatches, 5.5 barriers");
    }

    #[test]
    fn nothing_decoded_is_no_division() {
        let text = generation(&Timing::default(), &LoadProgress::default(), "cpu");
        assert!(text.contains("decode: 0 tokens, - tokens/s") && text.contains("- dispatches"), "{text}");
    }
}
