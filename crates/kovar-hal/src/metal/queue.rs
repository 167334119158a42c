use std::ptr::NonNull;
use std::sync::{Arc, PoisonError};

use block2::RcBlock;
use objc2::rc::{Retained, autoreleasepool};
use objc2::runtime::ProtocolObject;
use objc2_foundation::{NSArray, NSError, NSString};
use objc2_metal::{
    MTLCaptureManager, MTLCommandBuffer, MTLCommandBufferDescriptor, MTLCommandBufferEncoderInfo,
    MTLCommandBufferEncoderInfoErrorKey, MTLCommandBufferErrorOption, MTLCommandBufferStatus, MTLCommandQueue,
};

use super::carry_out::CarryOut;
use super::check::validate;
use super::clock::seconds;
use super::command::MetalCommandBuffer;
use super::completion::{Ended, Execution, Ticket};
use super::device::Shared;
use super::event::MetalEvent;
use super::fault::{Report, classify, encoder_state};
use super::list::Object;
use super::object::{Metal, report};
use super::script::{Plan, plans, write};
use crate::{HalError, RawEvent, Result, SubmitDesc};

fn driver(call: &'static str, reason: &str) -> HalError {
    HalError::Driver { call, reason: reason.into() }
}

/// Events of a submission, kept until it has retired.
type Events = Vec<(Arc<MetalEvent>, u64)>;

/// # Safety
/// The events are alive.
unsafe fn events(list: &[(RawEvent, u64)]) -> Events {
    // SAFETY: passed on from the caller.
    list.iter().map(|(event, value)| (unsafe { MetalEvent::get(*event) }, *value)).collect()
}

fn objects(events: &Events) -> Vec<(Object, u64)> {
    events.iter().map(|(event, value)| (event.device.object(), *value)).collect()
}

impl Shared {
    /// # Safety
    /// As for `Device::submit`.
    pub(crate) unsafe fn submit(self: &Arc<Self>, desc: &SubmitDesc<'_>) -> Result<()> {
        self.loss.check()?;
        let mut commands = Vec::with_capacity(desc.commands.len());
        for each in desc.commands {
            let each = each.as_any().downcast_ref::<MetalCommandBuffer>();
            commands.push(each.ok_or_else(|| driver("submit", "a command buffer is of another backend"))?);
        }
        let lists: Vec<_> = commands.iter().map(|each| (&each.list, each.sample_objects.as_slice())).collect();
        // SAFETY: the events are alive (caller).
        let (waits, signals) = unsafe { (events(desc.waits), events(desc.signals)) };
        autoreleasepool(|_| {
            let (first, last) = (objects(&waits), objects(&signals));
            let labels = self.validation || capturing();
            let scratch = self.scratch;
            let shared = Plan { list: None, waits: &first, signals: &last, labels, samples: &[], scratch };
            let plans = plans(&shared, &lists);
            // SAFETY: handles are alive until the signals, and ranges within their buffers (caller).
            let encoded = plans.iter().map(|plan| unsafe { self.encode(plan, desc.label) });
            let encoded = encoded.collect::<Result<Vec<_>>>()?;
            if let Some(live) = &self.live {
                let found = validate(&plans, live.objects());
                self.messages.lock().unwrap_or_else(PoisonError::into_inner).extend(found);
            }
            let executions = commands.iter().map(|each| each.latest.begin()).collect();
            self.commit(&encoded, executions, waits, signals);
            Ok(())
        })
    }

    /// # Safety
    /// Objects of the plan are alive until its signals, and ranges lie within their buffers. In a pool.
    unsafe fn encode(&self, plan: &Plan<'_>, label: &str) -> Result<Metal<dyn MTLCommandBuffer>> {
        let commands = if self.validation {
            let desc = MTLCommandBufferDescriptor::new();
            desc.setRetainedReferences(true);
            desc.setErrorOptions(MTLCommandBufferErrorOption::EncoderExecutionStatus);
            self.queue.commandBufferWithDescriptor(&desc)
        } else {
            // The layer above keeps resources alive until the signals.
            self.queue.commandBufferWithUnretainedReferences()
        };
        let commands = commands.ok_or_else(|| driver("commandBuffer", "Metal gave no command buffer"))?;
        let label = plan.list.map(|list| list.label.as_str()).filter(|own| !own.is_empty()).unwrap_or(label);
        commands.setLabel(Some(&NSString::from_str(label)));
        // SAFETY: passed on from the caller; the device holds fence, scratch and samples.
        let mut carry_out = unsafe { CarryOut::new(&commands, &self.fence) };
        write(plan, &mut carry_out);
        match carry_out.failed {
            true => Err(driver("commandEncoder", "Metal gave no encoder")),
            false => Ok(commands),
        }
    }

    /// Commits in the order of the retirement queue, which is the order in which the fence is evaluated.
    fn commit(
        self: &Arc<Self>,
        encoded: &[Metal<dyn MTLCommandBuffer>],
        executions: Vec<Arc<Execution>>,
        waits: Events,
        signals: Events,
    ) {
        // What is waited for lives as long as the submission, too: a raise to zero does nothing.
        let events = signals.into_iter().chain(waits.into_iter().map(|(event, _)| (event, 0))).collect();
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let ticket = self.retirement.enter(encoded.len(), events);
        for (number, commands) in encoded.iter().enumerate() {
            let (shared, execution) = (self.clone(), executions.get(number).cloned());
            on_completed(commands, move |commands| shared.ended(commands, execution.as_deref(), ticket));
            commands.commit();
        }
        if let Some(residency) = &self.residency {
            residency.touch();
        }
    }

    /// What the completion handler does: nothing is thrown in there, all is kept for who asks.
    fn ended(&self, commands: &ProtocolObject<dyn MTLCommandBuffer>, execution: Option<&Execution>, ticket: Ticket) {
        autoreleasepool(|_| {
            let failed = commands.status() == MTLCommandBufferStatus::Error;
            let fault = failed.then(|| {
                let label = commands.label().map_or_else(String::new, |label| label.to_string());
                let report = commands.error().map_or_else(Report::default, |error| detailed(&error));
                self.loss.note(classify(&label, &report))
            });
            if let Some(execution) = execution {
                execution.end(Ended { fault, span: seconds(commands.GPUStartTime(), commands.GPUEndTime()) });
            }
            self.retirement.ended(ticket);
        });
    }
}

/// Whether Xcode or `Capture` is looking: then names matter. In a pool.
fn capturing() -> bool {
    // SAFETY: the shared manager may be asked from any thread.
    unsafe { MTLCaptureManager::sharedCaptureManager() }.isCapturing()
}

/// Sets a completion handler, which Metal calls once, on a thread of its own.
fn on_completed(
    commands: &ProtocolObject<dyn MTLCommandBuffer>,
    handler: impl Fn(&ProtocolObject<dyn MTLCommandBuffer>) + Send + Sync + 'static,
) {
    let block = RcBlock::new(move |commands: NonNull<ProtocolObject<dyn MTLCommandBuffer>>| {
        // SAFETY: Metal passes the command buffer, alive during the call.
        handler(unsafe { commands.as_ref() });
    });
    // SAFETY: the block is `Send + Sync` and owns what it uses; Metal copies it before this returns.
    unsafe { commands.addCompletedHandler(RcBlock::as_ptr(&block)) };
}

/// The error with the state of each encoder, if it was asked for. In a pool.
fn detailed(error: &NSError) -> Report {
    let mut report = report(error);
    // SAFETY: a constant string of the framework.
    let key = unsafe { MTLCommandBufferEncoderInfoErrorKey };
    if let Some(value) = error.userInfo().objectForKey(key) {
        // SAFETY: under this key Metal puts an array of these, as its header says.
        let infos: Retained<NSArray<ProtocolObject<dyn MTLCommandBufferEncoderInfo>>> =
            unsafe { Retained::cast_unchecked(value) };
        let info = |info: Metal<dyn MTLCommandBufferEncoderInfo>| {
            (info.label().to_string(), encoder_state(info.errorState().0))
        };
        report.encoders = infos.iter().map(info).collect();
    }
    report
}
