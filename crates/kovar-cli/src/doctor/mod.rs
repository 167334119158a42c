//! Whether Kovar works on the devices of this machine: every check of the test suites, on one page for a bug report.

mod examine;
mod page;

use std::io::{IsTerminal, Write};

use kovar::DeviceChoice;
use kovar_testing::Subject;

use crate::arguments::Doctor;
use crate::error::{Failure, Result};
pub(crate) use examine::Part;
use examine::{LIMIT, examine};

pub(crate) fn run(arguments: &Doctor) -> Result<()> {
    let (subjects, missing) = subjects(arguments.device)?;
    let mut out = std::io::stdout().lock();
    write!(out, "{}", page::head(&missing))?;
    let parts: Vec<Part> = if arguments.only.is_empty() { Part::ALL.to_vec() } else { arguments.only.clone() };
    let mut failed = Vec::new();
    for subject in subjects {
        let name = subject.name.clone();
        let findings = examine(subject, &parts, &arguments.model, LIMIT, &mut |check| progress(&name, check));
        progress(&name, "");
        write!(out, "{}", page::section(&findings))?;
        out.flush()?;
        failed.extend(findings.failures().map(|finding| format!("{} on {name}", finding.check)));
    }
    match failed.as_slice() {
        [] => Ok(writeln!(out, "everything passed")?),
        [first, rest @ ..] => {
            let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            Err(Failure::new(format!("{first}{more} failed; the page above is for a bug report")))
        }
    }
}

/// What is being done is for people: it shows on a terminal only.
fn progress(device: &str, check: &str) {
    let mut terminal = std::io::stderr();
    if terminal.is_terminal() {
        let _ =
            if check.is_empty() { write!(terminal, "\r\x1b[K") } else { write!(terminal, "\r\x1b[K{device}: {check}") };
    }
}

/// The device that was asked for, or all; and which backends are missing, and why.
fn subjects(choice: Option<DeviceChoice>) -> Result<(Vec<Subject>, Vec<String>)> {
    let Some(choice) = choice else {
        let (adapters, missing) = kovar_hal::adapters();
        return Ok((Subject::all(adapters), missing.iter().map(ToString::to_string).collect()));
    };
    let adapters = kovar_hal::adapters_of(choice.backend).map_err(kovar::Error::from)?;
    match Subject::all(adapters).into_iter().nth(choice.index) {
        Some(subject) => Ok((vec![subject], vec![])),
        None => Err(Failure::new(format!("there is no device {choice}; `kovar devices` lists what there is"))),
    }
}
