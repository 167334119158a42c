use std::time::Duration;

use kovar::DeviceInfo;

use super::examine::{End, Finding, Findings, Part};
use crate::devices;

/// Lines of a message that the page has room for.
const LINES: usize = 8;

/// What runs where.
pub(crate) fn head(missing: &[String]) -> String {
    let (os, processor) = (std::env::consts::OS, std::env::consts::ARCH);
    let mut text = format!("kovar doctor {}, {os} on {processor}\n", env!("CARGO_PKG_VERSION"));
    for reason in missing {
        text += &format!("missing: {}\n", one_line(reason));
    }
    text
}

/// What was found on a device.
pub(crate) fn section(findings: &Findings) -> String {
    let subject = &findings.subject;
    let mut text = format!("\n{}\n", described(&subject.name, subject.adapter.info()));
    text += match (subject.validation, subject.validates()) {
        (true, _) => "validation: the Khronos layer\n",
        (false, true) => "validation: Metal's rules, as Kovar knows them\n",
        (false, false) => "validation: none here\n",
    };
    for (part, name) in
        [(Part::Conformance, "backend"), (Part::Operations, "operations"), (Part::Model, "shipped model")]
    {
        if findings.of(part).next().is_some() {
            text += &format!("{name:<14} {}\n", summary(findings.of(part)));
        }
    }
    for finding in findings.failures() {
        let message = match &finding.end {
            End::Failed(message) => message.as_str(),
            _ => "it does not end",
        };
        text += &format!("FAILED {} after {:.1} s\n", finding.check, finding.time.as_secs_f64());
        for line in message.lines().take(LINES) {
            text += &format!("    {line}\n");
        }
    }
    text
}

fn described(name: &str, info: &DeviceInfo) -> String {
    let [_, of, driver, memory, subgroup, features] = devices::row(info, 0);
    let features = if features.is_empty() { "none".into() } else { features };
    format!("device {name}: {of}, {driver}\nmemory {memory}; subgroups {subgroup}; features {features}")
}

fn summary<'a>(findings: impl Iterator<Item = &'a Finding>) -> String {
    let mut counts = [0usize; 4];
    let mut time = Duration::ZERO;
    for finding in findings {
        time += finding.time;
        counts[match finding.end {
            End::Passed => 0,
            End::Failed(_) | End::Hangs => 1,
            End::NotForThis => 2,
            End::NotReached => 3,
        }] += 1;
    }
    let mut text = format!("{} passed", counts[0]);
    for (count, what) in counts[1..].iter().zip(["FAILED", "not for this device", "not reached"]) {
        if *count > 0 {
            text += &format!(", {count} {what}");
        }
    }
    format!("{text} ({:.1} s)", time.as_secs_f64())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_is_counted() {
        let finding = |end| Finding { part: Part::Model, check: "x", end, time: Duration::from_millis(600) };
        let all = [End::Passed, End::Passed, End::Failed("no".into()), End::NotForThis, End::Hangs, End::NotReached];
        let text = summary(all.map(finding).iter());
        assert_eq!(text, "2 passed, 2 FAILED, 1 not for this device, 1 not reached (3.6 s)");
        assert_eq!(summary([finding(End::Passed)].iter()), "1 passed (0.6 s)");
    }
}
