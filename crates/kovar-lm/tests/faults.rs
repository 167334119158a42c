//! Every call to the device that can fail, failing in turn while a model is loaded and decodes: each time a typed error,
//! never a panic, a hang, a leak or a wrong text.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::{Arc, mpsc};
use std::time::Duration;

use common::shipped;
use kovar::{Device, DeviceOptions, Error, HalError};
use kovar_hal::faulty::{At, Call, Failure, Fault, Faults, Faulty, Live};
use kovar_lm::{Decode, LmError, Model, Sampler, Sampling, Session, SessionOptions};

/// Longest that a run may take: anything near it is a hang.
const HANG: Duration = Duration::from_secs(60);

/// A prompt, a step that the host samples, and replayed steps that the device chooses.
fn decode(session: &mut Session) -> Result<Vec<u32>, LmError> {
    session.clear();
    let mut greedy = Sampler::new(Sampling::default())?;
    let mut random = Sampler::new(Sampling { temperature: 0.8, seed: 5, ..Sampling::default() })?;
    let mut tokens = vec![session.next_token(&[0, 5, 7], &mut greedy)?];
    tokens.push(session.next_token(&[tokens[0]], &mut random)?);
    for _ in 0..2 {
        let last = tokens[tokens.len() - 1];
        tokens.extend(session.likeliest(last, 2)?);
    }
    Ok(tokens)
}

fn begin(adapter: &Faulty, mode: Decode, limit: Option<Duration>) -> Result<Session, LmError> {
    let options = DeviceOptions { time_limit: limit, threads: Some(1), ..DeviceOptions::default() };
    let device = Device::from_adapter(adapter, &options)?;
    let model = Arc::new(Model::load(&device, shipped())?);
    Session::new(model, &SessionOptions { chunk: 8, context: Some(64), decode: mode, ..SessionOptions::default() })
}

fn is_lost(error: &LmError) -> bool {
    matches!(error, LmError::Device(Error::Device(HalError::DeviceLost { .. })))
}

/// One program with one fault: what it gave before anything was tried again.
fn run(adapter: &Faulty, faults: &Faults, mode: Decode, failure: Option<Failure>) -> Result<Vec<u32>, LmError> {
    let limit = (failure == Some(Failure::Hang)).then(|| Duration::from_millis(100));
    let mut session = begin(adapter, mode, limit)?;
    let first = decode(&mut session);
    match (&first, failure) {
        (Ok(_), _) => {}
        (Err(error), Some(Failure::Lost)) => assert!(is_lost(error), "{error}"),
        (Err(error), _) => {
            assert!(matches!(error, LmError::Device(_)), "{error}");
            faults.release().unwrap();
            // A session outlives a failure: the same text again.
            return match decode(&mut session) {
                Ok(again) => Ok(again),
                Err(second) => panic!("{failure:?}: {error}, and then {second}"),
            };
        }
    }
    first
}

/// Runs elsewhere, so that a hang is a failure of the test. A panic there is one here.
fn watched<T: Send + 'static>(what: String, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, receive) = mpsc::channel();
    let worker = std::thread::spawn(move || send.send(work()).unwrap());
    match receive.recv_timeout(HANG) {
        Ok(value) => {
            worker.join().unwrap();
            value
        }
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what} hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => panic!("{what} panics"),
    }
}

fn failures_of(call: Call) -> &'static [Failure] {
    match call {
        Call::CreateBuffer | Call::ImportBuffer => &[Failure::OutOfMemory, Failure::Lost],
        Call::Submit => &[Failure::Driver, Failure::Lost, Failure::Fault, Failure::Hang],
        _ => &[Failure::Driver, Failure::Lost],
    }
}

fn every_call_fails_in_turn(mode: Decode) {
    let (adapter, faults) = Faulty::new(kovar_hal::cpu::adapter());
    let expected = run(&adapter, &faults, mode, None).unwrap();
    assert_eq!((faults.live(), faults.misuse()), (Live::default(), vec![]));
    let calls = faults.calls();
    for wanted in [Call::Open, Call::CreateBuffer, Call::CreatePipeline, Call::Submit, Call::WaitEvent, Call::Finish] {
        assert!(calls.contains(&wanted), "{wanted:?} is never called");
    }
    let mut fired = 0;
    for (at, &call) in calls.iter().enumerate() {
        for &failure in failures_of(call) {
            let what = format!("{failure:?} at call {at}, {call:?}");
            let (adapter, faults) = Faulty::new(kovar_hal::cpu::adapter());
            faults.inject(Fault { at: At::Call(at), failure });
            let shared = faults.clone();
            let end = watched(what.clone(), move || {
                let end = run(&adapter, &shared, mode, Some(failure));
                // How often the device is asked whether it has ended differs from run to run: the last calls may not come.
                let is_over = failure == Failure::Lost && shared.fired() > 0;
                let reopened = is_over.then(|| run(&adapter, &shared, mode, None));
                (end, reopened)
            });
            match end.0 {
                // Not every call is needed, and a session may have recovered.
                Ok(tokens) => assert_eq!(tokens, expected, "{what}"),
                Err(error) => {
                    assert!(matches!(error, LmError::Device(_)), "{what}: {error}");
                    assert_eq!(is_lost(&error), failure == Failure::Lost, "{what}: {error}");
                }
            }
            if let Some(reopened) = end.1 {
                assert_eq!(reopened.unwrap(), expected, "{what}, opened again");
            }
            assert_eq!((faults.live(), faults.misuse()), (Live::default(), vec![]), "{what}");
            fired += faults.fired();
        }
    }
    assert!(fired >= calls.len(), "{fired} faults in {} calls", calls.len());
}

#[test]
fn every_call_fails_in_turn_when_steps_are_replayed() {
    every_call_fails_in_turn(Decode::Replay { tokens: 2 });
}

#[test]
fn every_call_fails_in_turn_when_steps_are_recorded() {
    every_call_fails_in_turn(Decode::Eager);
}
