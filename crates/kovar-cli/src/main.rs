//! The `kovar` command.

mod arguments;
mod bench;
mod devices;
mod doctor;
mod error;
mod eval;
mod generate;
mod graph;
mod load;
mod ops;
mod peak;
mod profile;
mod report;
mod setup;
mod speed;
mod tune;
mod verify;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, BenchPart, Command};
use error::Failure;

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Devices => devices::run(),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Generate(arguments) => generate::run(&arguments),
        Command::Eval(arguments) => eval::run(&arguments),
        Command::Bench(arguments) => match arguments.part {
            Some(BenchPart::Peak(arguments)) => peak::run(&arguments),
            Some(BenchPart::Ops(arguments)) => ops::run(&arguments),
            Some(BenchPart::Graph(arguments)) => graph::run(&arguments),
            Some(BenchPart::Load(arguments)) => load::run(&arguments),
            None => bench::run(&arguments.model),
        },
        Command::Profile(arguments) => profile::run(&arguments),
        Command::Tune(arguments) => tune::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
    };
    match result {
        // Whoever reads the output has had enough of it: `kovar generate .. | head`.
        Ok(()) | Err(Failure::Closed) => ExitCode::SUCCESS,
        Err(Failure::Message(message)) => {
            let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
            // Nothing is left to do if that fails too.
            let _ = writeln!(std::io::stderr(), "error: {line}");
            ExitCode::FAILURE
        }
    }
}
