//! Which call fails how.

use crate::HalError;

/// A call that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Call {
    /// `Adapter::open`.
    Open,
    /// `Device::create_buffer`.
    CreateBuffer,
    /// `Device::import_buffer`.
    ImportBuffer,
    /// `Device::update_residency`.
    UpdateResidency,
    /// `Device::create_pipeline`.
    CreatePipeline,
    /// `Device::load_pipeline_cache`.
    LoadPipelineCache,
    /// `Device::create_event`.
    CreateEvent,
    /// `Device::event_value`.
    EventValue,
    /// `Device::signal_event`.
    SignalEvent,
    /// `Device::wait_event`.
    WaitEvent,
    /// `Device::create_recorder`.
    CreateRecorder,
    /// `Recorder::finish`.
    Finish,
    /// `Device::submit`.
    Submit,
}

/// When a fault comes up. It comes up once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// At this call, all calls counted from 0.
    Call(usize),
    /// At this call of a kind, counted from 0.
    Nth(Call, usize),
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The call fails with [`HalError::OutOfMemory`].
    OutOfMemory,
    /// The call fails with [`HalError::Driver`].
    Driver,
    /// The device stops, and this call and every later one fails with [`HalError::DeviceLost`].
    Lost,
    /// `submit` only: a kernel of the submission faults. Its commands run, and their status is [`HalError::Fault`].
    Fault,
    /// `submit` only: this submission and those after it do not end, until [`Faults::release`](super::Faults::release)
    /// or the loss of the device.
    Hang,
}

/// One failure at one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// When.
    pub at: At,
    /// What.
    pub failure: Failure,
}

#[derive(Default)]
pub(super) struct Plan {
    pub(super) faults: Vec<Fault>,
    pub(super) calls: Vec<Call>,
    pub(super) fired: usize,
}

impl Plan {
    /// Counts a call. The failure that comes up, if one does.
    pub(super) fn enter(&mut self, call: Call) -> Option<Failure> {
        let (all, kind) = (self.calls.len(), || self.calls.iter().filter(|other| **other == call).count());
        let due = |fault: &Fault| match fault.at {
            At::Call(at) => at == all,
            At::Nth(which, at) => which == call && at == kind(),
        };
        let due = self.faults.iter().position(due);
        self.calls.push(call);
        let failure = self.faults.swap_remove(due?).failure;
        self.fired += 1;
        Some(failure)
    }
}

impl Failure {
    /// The error of the call, if the call itself fails.
    pub(super) fn error(self, call: Call, label: &str, bytes: u64) -> Option<HalError> {
        let reason = "injected".to_string();
        match self {
            Failure::OutOfMemory => Some(HalError::OutOfMemory { label: label.into(), bytes, reason }),
            Failure::Driver => Some(HalError::Driver { call: call.name(), reason }),
            Failure::Lost => Some(HalError::DeviceLost { label: label.into(), reason }),
            Failure::Fault | Failure::Hang => None,
        }
    }
}

impl Call {
    fn name(self) -> &'static str {
        match self {
            Call::Open => "open",
            Call::CreateBuffer => "create_buffer",
            Call::ImportBuffer => "import_buffer",
            Call::UpdateResidency => "update_residency",
            Call::CreatePipeline => "create_pipeline",
            Call::LoadPipelineCache => "load_pipeline_cache",
            Call::CreateEvent => "create_event",
            Call::EventValue => "event_value",
            Call::SignalEvent => "signal_event",
            Call::WaitEvent => "wait_event",
            Call::CreateRecorder => "create_recorder",
            Call::Finish => "finish",
            Call::Submit => "submit",
        }
    }
}
