//! Finds out how kernels are best cut for a device.

use std::io::Write;

use kovar::{Backend, Settings};
use kovar_ops::tuning::{Row, Table, Tuning};

use crate::arguments::Tune;
use crate::error::{Failure, Result};
use crate::ops::{Cases, Part, chained};

/// Models whose shapes count: a small one and a large one.
const SHAPES: [&str; 2] = ["qwen3-0.6b", "llama-8b"];
/// What another cut must save to take the place of the one so far: less is noise.
const GAIN: f64 = 0.01;

pub(crate) fn run(arguments: &Tune) -> Result<()> {
    let device = arguments.place.open()?;
    let info = device.info().clone();
    if info.backend == Backend::Cpu {
        return Err(Failure::new("the CPU cuts kernels by its threads: there is nothing to tune"));
    }
    let mut err = std::io::stderr().lock();
    let mut best = Tuning::of(&device);
    drop(device);
    for (part, at) in [(Part::Products, 0), (Part::Attention, 1)] {
        let mut least = arguments.time(best, part)?;
        let first = least;
        for candidate in
            best.candidates()[at].iter().filter(|candidate| **candidate != best).copied().collect::<Vec<_>>()
        {
            let time = arguments.time(candidate, part)?;
            writeln!(err, "{:+.1} % {candidate:?}", (time / first - 1.0) * 100.0)?;
            if time < least * (1.0 - GAIN) {
                (least, best) = (time, candidate);
            }
        }
    }
    let source = format!("kovar tune --device {}, {}, driver {}", info.backend, info.name, info.driver);
    let (backend, subgroup) = (Some(info.backend.to_string()), Some(info.subgroup.size));
    let row = Row { backend, name: Some(info.name), subgroup, tuning: best, source };
    let text = Table::new(vec![row])?.to_json()? + "\n";
    match &arguments.out {
        Some(file) => std::fs::write(file, text).map_err(|error| Failure::new(format!("{}: {error}", file.display()))),
        None => Ok(std::io::stdout().lock().write_all(text.as_bytes())?),
    }
}

impl Tune {
    /// The geometric mean of the seconds of a call behind barriers, over the kernels of this part.
    fn time(&self, tuning: Tuning, part: Part) -> Result<f64> {
        let row = Row { backend: None, name: None, subgroup: None, tuning, source: "being measured".into() };
        let device = self.place.open_with(Settings::default().with(Table::new(vec![row])?))?;
        let (mut logarithms, mut count) = (0.0, 0);
        for shape in SHAPES {
            for case in Cases::of_one_row(&device, shape, part)? {
                logarithms += chained(&device, &case?, self.rounds)?.median().ln();
                count += 1;
            }
        }
        Ok((logarithms / f64::from(count)).exp())
    }
}
