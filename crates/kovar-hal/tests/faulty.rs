//! The device that fails on demand: each failure where it was asked for, and everything else as without it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use kovar_hal::faulty::{At, Call, Failure, Fault, Faults, Faulty, Live};
use kovar_hal::{
    Adapter, BufferDesc, Code, CommandBuffer, Device, HalError, MemoryKind, OpenOptions, PipelineDesc, RawBuffer,
    RawEvent, RecorderDesc, SubmitDesc, Timing,
};

struct Rig {
    adapter: Faulty,
    faults: Faults,
    device: Arc<dyn Device>,
}

fn rig() -> Rig {
    let (adapter, faults) = Faulty::new(kovar_hal::cpu::adapter());
    let device = adapter.open(&OpenOptions::default()).unwrap();
    Rig { adapter, faults, device }
}

impl Rig {
    fn buffer(&self) -> kovar_hal::Result<RawBuffer> {
        self.device.create_buffer(&BufferDesc { size: 64, memory: MemoryKind::Shared, label: "x" })
    }

    /// Fills a buffer with ones.
    fn commands(&self, buffer: RawBuffer, reusable: bool) -> kovar_hal::Result<Arc<dyn CommandBuffer>> {
        let desc = RecorderDesc { label: "ones", timing: Timing::Off, reusable };
        let mut recorder = self.device.create_recorder(&desc)?;
        // SAFETY: the buffer is alive, and 64 bytes long.
        unsafe { recorder.fill(buffer, 0, 64, 1) };
        recorder.finish()
    }

    fn submit(&self, commands: &Arc<dyn CommandBuffer>, wait: Option<RawEvent>, signal: (RawEvent, u64)) -> bool {
        let waits: Vec<_> = wait.into_iter().map(|event| (event, 1)).collect();
        let commands = std::slice::from_ref(commands);
        // SAFETY: what breaks the contract is found by the wrapper, and harmless to a device that waits for an event.
        unsafe {
            self.device.submit(&SubmitDesc { label: "step", commands, waits: &waits, signals: &[signal] }).is_ok()
        }
    }

    fn wait(&self, event: RawEvent, value: u64, limit: Option<Duration>) -> kovar_hal::Result<bool> {
        // SAFETY: the event is alive.
        unsafe { self.device.wait_event(event, value, limit) }
    }

    fn inject(&self, call: Call, failure: Failure) {
        let next = self.faults.calls().iter().filter(|made| **made == call).count();
        self.faults.inject(Fault { at: At::Nth(call, next), failure });
    }
}

/// Calls everything that can fail; the first error comes back. Leaves nothing alive.
fn tour(rig: &Rig) -> kovar_hal::Result<()> {
    let device = rig.device.as_ref();
    let buffer = rig.buffer()?;
    let result = (|| {
        let desc = PipelineDesc {
            label: "none",
            code: Code::None,
            entry: "main",
            bindings: &[],
            constants: 0,
            group_size: [1; 3],
            group_memory: &[],
            subgroup: None,
        };
        match device.create_pipeline(&desc) {
            Err(HalError::Pipeline { .. }) => {}
            other => return other.map(|_| ()),
        }
        device.load_pipeline_cache(&[])?;
        // SAFETY: the buffer is alive.
        unsafe { device.update_residency(&[buffer], &[]) }?;
        let event = device.create_event(0)?;
        // SAFETY: the event is alive.
        let before = unsafe { device.event_value(event) };
        let result = before.and_then(|_| {
            let commands = rig.commands(buffer, false)?;
            let desc = SubmitDesc {
                label: "tour",
                commands: std::slice::from_ref(&commands),
                waits: &[],
                signals: &[(event, 1)],
            };
            // SAFETY: fresh commands.
            unsafe { device.submit(&desc) }?;
            let result = rig.wait(event, 1, None).and_then(|_| commands.status());
            // Waits again if only the wait itself failed.
            let _ = rig.wait(event, 1, None);
            // SAFETY: larger than 1.
            result.and_then(|()| unsafe { device.signal_event(event, 2) })
        });
        // SAFETY: what uses the event has ended.
        unsafe { device.destroy_event(event) };
        result
    })();
    // SAFETY: the submission has ended, or was never made.
    unsafe { device.destroy_buffer(buffer) };
    result
}

const IDLE: Live = Live { devices: 1, buffers: 0, bytes: 0, pipelines: 0, events: 0, recorders: 0, commands: 0 };

#[test]
fn each_call_fails_as_asked_once_and_nothing_is_left() {
    let clean = rig();
    tour(&clean).unwrap();
    let calls = clean.faults.calls();
    for call in [Call::CreateBuffer, Call::SignalEvent, Call::Finish, Call::UpdateResidency, Call::LoadPipelineCache] {
        assert!(calls.contains(&call), "{call:?} is not in {calls:?}");
    }
    for (at, &call) in calls.iter().enumerate().take(calls.len() - 1).skip(1) {
        for failure in [Failure::OutOfMemory, Failure::Driver, Failure::Lost] {
            let rig = rig();
            rig.faults.inject(Fault { at: At::Call(at), failure });
            let end = tour(&rig);
            let (lost, asked) = (matches!(end, Err(HalError::DeviceLost { .. })), failure == Failure::Lost);
            // The wait that a failed one is followed by succeeds.
            assert!(end.is_err() || call == Call::WaitEvent, "{:?} at {at} gives {end:?}", call);
            assert!(lost == asked || call == Call::WaitEvent, "{failure:?} at {:?} gives {end:?}", call);
            assert_eq!((rig.faults.live(), rig.faults.misuse(), rig.faults.fired()), (IDLE, vec![], 1), "{at}");
            if asked {
                assert!(matches!(rig.buffer(), Err(HalError::DeviceLost { .. })));
                let again = rig.adapter.open(&OpenOptions::default()).unwrap();
                tour(&Rig { device: again, ..rig }).unwrap();
            } else {
                tour(&rig).unwrap();
            }
        }
    }
}

#[test]
fn a_hang_ends_with_the_time_limit_with_release_or_with_the_device() {
    for lose in [false, true] {
        let rig = rig();
        let (x, event) = (rig.buffer().unwrap(), rig.device.create_event(0).unwrap());
        let commands = [rig.commands(x, false).unwrap(), rig.commands(x, false).unwrap()];
        rig.inject(Call::Submit, Failure::Hang);
        assert!(rig.submit(&commands[0], None, (event, 1)) && rig.submit(&commands[1], None, (event, 2)));
        let start = Instant::now();
        assert_eq!(rig.wait(event, 1, Some(Duration::from_millis(20))), Ok(false));
        assert!(start.elapsed() >= Duration::from_millis(20));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| rig.wait(event, 2, None));
            if lose {
                rig.faults.lose();
                assert!(matches!(waiter.join().unwrap(), Err(HalError::DeviceLost { .. })));
            } else {
                rig.faults.release().unwrap();
                assert_eq!(waiter.join().unwrap(), Ok(true));
            }
        });
        // SAFETY: a live buffer; the device has stopped or is done with it.
        assert_eq!(unsafe { x.host.cast::<u32>().read() }, u32::from(!lose));
        drop(commands);
        // SAFETY: as above.
        unsafe {
            rig.device.destroy_buffer(x);
            rig.device.destroy_event(event);
        }
        assert_eq!((rig.faults.live(), rig.faults.misuse()), (IDLE, vec![]));
    }
}

#[test]
fn a_fault_is_the_status_of_one_execution() {
    let rig = rig();
    let (x, event) = (rig.buffer().unwrap(), rig.device.create_event(0).unwrap());
    let commands = rig.commands(x, true).unwrap();
    rig.inject(Call::Submit, Failure::Fault);
    assert!(rig.submit(&commands, None, (event, 1)));
    assert_eq!(rig.wait(event, 1, None), Ok(true));
    let fault = commands.status().unwrap_err();
    assert_eq!(fault, HalError::Fault { label: "ones".into(), reason: "injected".into() });
    assert!(rig.submit(&commands, None, (event, 2)));
    assert_eq!((rig.wait(event, 2, None), commands.status()), (Ok(true), Ok(())));
}

#[test]
fn what_breaks_the_contract_is_written_down() {
    let rig = rig();
    let (x, event) = (rig.buffer().unwrap(), rig.device.create_event(0).unwrap());
    let start = rig.device.create_event(0).unwrap();
    let commands = rig.commands(x, false).unwrap();
    assert!(rig.submit(&commands, Some(start), (event, 1)));
    assert!(rig.submit(&commands, Some(start), (event, 2)));
    let mut misuse = rig.faults.misuse();
    assert_eq!(misuse.len(), 2, "{misuse:?}");
    assert!(misuse[0].contains("submitted again, and was not recorded as reusable"), "{misuse:?}");
    assert!(misuse[1].contains("\"ones\" is submitted while it runs"), "{misuse:?}");
    drop(commands);
    misuse = rig.faults.misuse();
    assert!(misuse[2].contains("command buffer \"ones\" is dropped while it runs"), "{misuse:?}");
    // SAFETY: the event is alive.
    unsafe { rig.device.signal_event(start, 1).unwrap() };
    assert_eq!(rig.wait(event, 2, None), Ok(true));
    let waiting = rig.commands(x, false).unwrap();
    let (never, late) = (rig.device.create_event(0).unwrap(), rig.device.create_event(0).unwrap());
    assert!(rig.submit(&waiting, Some(never), (late, 1)));
    let before = rig.faults.misuse().len();
    rig.faults.lose();
    // SAFETY: nothing runs any more.
    unsafe {
        rig.device.destroy_buffer(x);
        rig.device.destroy_buffer(x);
    }
    let misuse = rig.faults.misuse();
    assert_eq!(misuse.len(), before + 1, "{misuse:?}");
    assert!(misuse[before].ends_with("is destroyed, but not alive"), "{misuse:?}");
}

#[test]
fn a_buffer_that_goes_while_it_is_used_is_named_with_its_user() {
    let rig = rig();
    let (x, event) = (rig.buffer().unwrap(), rig.device.create_event(0).unwrap());
    let start = rig.device.create_event(0).unwrap();
    let (empty, fill) = (rig.buffer().unwrap(), rig.commands(x, false).unwrap());
    // Imported memory outlives its handle here, so that the device does no harm.
    let mut memory = [0u64; 8];
    // SAFETY: the memory lives until the end of the test.
    let imported = unsafe { rig.device.import_buffer(std::ptr::NonNull::from(&mut memory).cast(), 64, "weights") };
    let imported = imported.unwrap().unwrap();
    let uses = rig.commands(imported, false).unwrap();
    assert!(rig.submit(&uses, Some(start), (event, 1)));
    // SAFETY: as said above.
    unsafe {
        rig.device.destroy_buffer(empty);
        rig.device.destroy_buffer(imported);
    }
    let misuse = rig.faults.misuse();
    assert_eq!(misuse.len(), 1, "{misuse:?}");
    assert!(misuse[0].contains("\"weights\" is destroyed while submission \"step\" uses it"), "{misuse:?}");
    // SAFETY: the event is alive.
    unsafe { rig.device.signal_event(start, 1).unwrap() };
    assert_eq!(rig.wait(event, 1, None), Ok(true));
    drop(fill);
}
