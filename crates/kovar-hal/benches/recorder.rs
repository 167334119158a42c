//! What recording and executing one dispatch cost, on every device of the machine: `cargo bench -p kovar-hal`.
//!
//! Each sample records or executes 1000 dispatches, so a figure in microseconds is nanoseconds a dispatch. The kernel does
//! next to nothing. At the end, device times of the same recordings, which leave submission and waiting out.

#![allow(clippy::panic, clippy::expect_used, clippy::unwrap_used)]

use std::sync::Arc;

use divan::Bencher;
use kovar_hal::{Adapter, CommandBuffer, OpenOptions, RawBuffer, RawPipeline, Timing};
use kovar_testing::conformance::kernels::STEP;
use kovar_testing::conformance::rig::{Rig, dispatch};

const DISPATCHES: u32 = 1000;

/// How the dispatches of a recording differ.
#[derive(Debug, Clone, Copy)]
enum Form {
    /// In nothing: pipeline, slots and constants stay.
    Same,
    /// Each has another buffer and other constants than the one before.
    Rebound,
    /// As `Rebound`, and a barrier after each.
    Barriers,
}

const FORMS: [Form; 3] = [Form::Same, Form::Rebound, Form::Barriers];

fn adapters() -> Vec<Box<dyn Adapter>> {
    let (mut adapters, _) = kovar_hal::adapters();
    adapters.push(kovar_hal::null::adapter());
    adapters
}

fn cases() -> Vec<String> {
    let names = adapters().iter().enumerate().map(|(i, a)| format!("{i} {}", a.info().backend)).collect::<Vec<_>>();
    names.iter().flat_map(|name| FORMS.map(|form| format!("{name} {form:?}"))).collect()
}

struct Setting {
    rig: Rig,
    pipeline: RawPipeline,
    buffers: [RawBuffer; 2],
    form: Form,
}

impl Setting {
    fn new(adapter: &dyn Adapter, form: Form) -> Setting {
        let rig = Rig::new(adapter.open(&OpenOptions::default()).unwrap());
        let pipeline = rig.pipeline(&STEP);
        let buffers = [rig.zeros(64), rig.zeros(64)];
        Setting { rig, pipeline, buffers, form }
    }

    fn of(case: &str) -> Setting {
        let mut words = case.split(' ');
        let index: usize = words.next().unwrap().parse().unwrap();
        let form = FORMS.into_iter().find(|form| case.ends_with(&format!("{form:?}"))).unwrap();
        Setting::new(adapters()[index].as_ref(), form)
    }

    fn record(&self, timing: Timing) -> Arc<dyn CommandBuffer> {
        self.rig.record(timing, true, |r| {
            for i in 0..DISPATCHES {
                let (buffer, add) = match self.form {
                    Form::Same => (self.buffers[0], 0),
                    _ => (self.buffers[i as usize % 2], i),
                };
                dispatch(r, self.pipeline, &[buffer], &[0, 1, add], 1);
                if matches!(self.form, Form::Barriers) {
                    r.barrier();
                }
            }
        })
    }
}

#[divan::bench(args = cases())]
fn record(bencher: Bencher<'_, '_>, case: &str) {
    let setting = Setting::of(case);
    bencher.bench_local(|| drop(setting.record(Timing::Off)));
}

#[divan::bench(args = cases())]
fn execute(bencher: Bencher<'_, '_>, case: &str) {
    let setting = Setting::of(case);
    let commands = setting.record(Timing::Off);
    bencher.bench_local(|| setting.rig.wait(setting.rig.submit(&commands, &[])));
}

fn main() {
    divan::main();
    for adapter in adapters() {
        for form in FORMS {
            let setting = Setting::new(adapter.as_ref(), form);
            let commands = setting.record(Timing::Whole);
            let mut best: Option<u64> = None;
            for _ in 0..20 {
                setting.rig.wait(setting.rig.submit(&commands, &[]));
                let span = commands.time().map(|span| span.end - span.start);
                best = best.into_iter().chain(span).min();
            }
            if let Some(best) = best {
                let each = best as f64 / f64::from(DISPATCHES);
                println!("{}, {form:?}: {each:.0} ns of device time a dispatch", adapter.info().name);
            }
        }
    }
}
