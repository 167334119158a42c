use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use kovar::Device;
use kovar_checks::{model, ops};
use kovar_testing::{Subject, conformance};

/// Longest that a check may take. One that takes longer hangs, and with it the device.
pub(crate) const LIMIT: Duration = Duration::from_secs(600);

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// What every backend must do
    Conformance,
    /// Every operation against MLX and against f64 arithmetic
    Operations,
    /// The shipped model against mlx-lm
    Model,
}

impl Part {
    pub(crate) const ALL: [Part; 3] = [Part::Conformance, Part::Operations, Part::Model];
}

/// How a check ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    Passed,
    /// It is about devices of another kind.
    NotForThis,
    Failed(String),
    /// It did not end.
    Hangs,
    /// One before it hangs.
    NotReached,
}

#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) part: Part,
    pub(crate) check: &'static str,
    pub(crate) end: End,
    pub(crate) time: Duration,
}

/// What was found on one device.
pub(crate) struct Findings {
    pub(crate) subject: Arc<Subject>,
    pub(crate) findings: Vec<Finding>,
}

impl Findings {
    pub(crate) fn of(&self, part: Part) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| finding.part == part)
    }

    pub(crate) fn failures(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| matches!(finding.end, End::Failed(_) | End::Hangs))
    }
}

enum Task {
    Conformance(&'static conformance::Check),
    Operation(&'static ops::Check),
    Model,
}

impl Task {
    fn name(&self) -> &'static str {
        match self {
            Task::Conformance(check) => check.name,
            Task::Operation(check) => check.name,
            Task::Model => "model::shipped_agrees_with_mlx",
        }
    }
}

fn tasks(part: Part) -> Vec<Task> {
    match part {
        Part::Conformance => conformance::CHECKS.iter().map(Task::Conformance).collect(),
        Part::Operations => ops::CHECKS.iter().map(Task::Operation).collect(),
        Part::Model => vec![Task::Model],
    }
}

/// Runs every check of these parts, one after the other.
pub(crate) fn examine(
    subject: Subject,
    parts: &[Part],
    model: &Path,
    limit: Duration,
    progress: &mut dyn FnMut(&str),
) -> Findings {
    let mut patient = Patient { subject: Arc::new(subject), device: None, limit };
    let mut findings = Vec::new();
    let mut hangs = false;
    for part in parts {
        for task in tasks(*part) {
            progress(task.name());
            let begun = Instant::now();
            let end = if hangs { End::NotReached } else { patient.undergo(&task, model) };
            if end != End::Passed {
                patient.device = None;
            }
            hangs |= end == End::Hangs;
            findings.push(Finding { part: *part, check: task.name(), end, time: begun.elapsed() });
        }
    }
    Findings { subject: patient.subject, findings }
}

/// The device that is looked at.
struct Patient {
    subject: Arc<Subject>,
    /// Open: operations share it, so that each kernel is compiled once. After a failure the next gets a new one.
    device: Option<Device>,
    limit: Duration,
}

impl Patient {
    fn undergo(&mut self, task: &Task, model: &Path) -> End {
        let subject = self.subject.clone();
        match task {
            Task::Conformance(check) if !check.applies(&subject) => End::NotForThis,
            Task::Conformance(check) => {
                let check: &'static conformance::Check = check;
                self.guard(task.name(), move || check.run(&subject)).map_or_else(|end| end, |()| End::Passed)
            }
            Task::Operation(check) => {
                let check: &'static ops::Check = check;
                let open = self.device.clone();
                let body = move || {
                    let device = open.unwrap_or_else(|| ops::open(&subject));
                    let applies = check.applies(&device);
                    if applies {
                        check.run(&device);
                    }
                    (device, applies)
                };
                match self.guard(task.name(), body) {
                    Ok((device, applies)) => {
                        self.device = Some(device);
                        if applies { End::Passed } else { End::NotForThis }
                    }
                    Err(end) => end,
                }
            }
            Task::Model => {
                let folder: PathBuf = model.into();
                let body = move || model::shipped_agrees(&ops::open(&subject), &folder);
                self.guard(task.name(), body).map_or_else(|end| end, |()| End::Passed)
            }
        }
    }

    /// Runs a check in a thread of its name. A panic is its failure; one that does not end is left behind.
    fn guard<T: Send + 'static>(&self, name: &str, body: impl FnOnce() -> T + Send + 'static) -> Result<T, End> {
        let (send, receive) = mpsc::channel();
        let work = move || {
            // Whoever waited may have given up.
            let _ = send.send(body());
        };
        let failed = |error: std::io::Error| End::Failed(format!("no thread to run it: {error}"));
        let worker = thread::Builder::new().name(name.into()).spawn(work).map_err(failed)?;
        match receive.recv_timeout(self.limit) {
            Ok(value) => Ok(value),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(End::Hangs),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(End::Failed(match worker.join() {
                Ok(()) => "it ended without a word".into(),
                Err(payload) => said(payload.as_ref()),
            })),
        }
    }
}

/// The message of a panic.
fn said(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_string());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "it failed in another thread: see above the page".into())
}

#[cfg(test)]
mod tests {
    use kovar_hal::Adapter;
    use kovar_hal::faulty::{At, Call, Failure, Fault, Faults, Faulty};

    use super::*;

    /// The CPU through the wrapper that injects faults.
    fn faulty() -> (Subject, Faults) {
        let (adapter, faults) = Faulty::new(kovar_hal::cpu::adapter());
        let adapter: Box<dyn Adapter> = Box::new(adapter);
        (Subject { name: "faulty".into(), adapter, validation: false }, faults)
    }

    /// What fails of a part with a fault in it.
    fn failures(part: Part, fault: Fault, limit: Duration) -> Vec<(&'static str, End)> {
        let (subject, faults) = faulty();
        faults.inject(fault);
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/rustdoc-14m-mlx-4bit");
        let found = examine(subject, &[part], &model, limit, &mut |_| {});
        assert_eq!(faults.fired(), 1);
        assert_eq!(found.failures().count(), 1);
        let bad = |finding: &Finding| !matches!(finding.end, End::Passed | End::NotForThis | End::NotReached);
        found.findings.into_iter().filter(bad).map(|finding| (finding.check, finding.end)).collect()
    }

    #[test]
    fn a_backend_that_fails_a_call_fails_that_check_alone() {
        let fault = Fault { at: At::Nth(Call::ImportBuffer, 0), failure: Failure::Driver };
        let found = failures(Part::Conformance, fault, LIMIT);
        let [("memory::host_memory_becomes_a_buffer", End::Failed(message))] = found.as_slice() else {
            panic!("{found:?}")
        };
        assert!(message.contains("injected"), "{message}");
    }

    #[test]
    fn a_kernel_that_faults_fails_its_operation_and_the_next_has_a_new_device() {
        for failure in [Failure::Fault, Failure::Lost] {
            let fault = Fault { at: At::Nth(Call::Submit, 3), failure };
            let found = failures(Part::Operations, fault, LIMIT);
            assert!(matches!(found.as_slice(), [("argmax::agrees_with_mlx", End::Failed(_))]), "{found:?}");
        }
    }

    #[test]
    fn a_model_that_does_not_decode_fails() {
        let fault = Fault { at: At::Nth(Call::Submit, 20), failure: Failure::Fault };
        let found = failures(Part::Model, fault, LIMIT);
        assert!(matches!(found.as_slice(), [("model::shipped_agrees_with_mlx", End::Failed(_))]), "{found:?}");
    }

    #[test]
    fn what_hangs_ends_the_examination() {
        let fault = Fault { at: At::Nth(Call::Submit, 0), failure: Failure::Hang };
        let found = failures(Part::Model, fault, Duration::from_millis(300));
        assert_eq!(found, [("model::shipped_agrees_with_mlx", End::Hangs)]);
    }
}
