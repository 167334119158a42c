use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{Builder, ThreadId};

use kovar_hal::HalError;

use super::{CommandEncoder, Submission};
use crate::{Error, Result};

type Job = Box<dyn FnOnce() + Send>;

/// A thread that goes on with recordings while their first part runs and the caller does something else.
///
/// Recordings of one worker are made one after the other. A worker that is dropped ends when it has made those that it was
/// given. It belongs to no device.
///
/// ```
/// # use kovar::{Backend, DType, Device, DeviceOptions, EncodeWorker};
/// let device = Device::open(&DeviceOptions::of(Backend::Cpu))?;
/// let (x, y) = (device.buffer(DType::U32, &[4])?, device.buffer(DType::U32, &[4])?);
/// let worker = EncodeWorker::new()?;
/// let mut encoder = device.encoder()?;
/// encoder.fill(&x, 7)?; // runs as soon as the worker has the encoder
/// let recording = worker.record(encoder, {
///     let (x, y) = (x.clone(), y.clone());
///     move |encoder| encoder.copy(&x, &y)
/// })?;
/// // ... the caller does something else ...
/// recording.join()?.wait()?;
/// assert_eq!(y.read::<u32>()?, [7; 4]);
/// # Ok::<(), kovar::Error>(())
/// ```
#[derive(Debug)]
pub struct EncodeWorker {
    jobs: Sender<Job>,
    thread: ThreadId,
}

/// A recording that a worker makes.
#[must_use = "dropping it does not stop the recording; whether it was committed is then not known"]
#[derive(Debug)]
pub struct Recording {
    label: String,
    result: Receiver<Result<Submission>>,
    thread: ThreadId,
}

impl EncodeWorker {
    /// Starts the thread.
    ///
    /// # Errors
    /// Device errors if the system gives no thread.
    pub fn new() -> Result<EncodeWorker> {
        let (jobs, queue) = channel::<Job>();
        let thread = Builder::new().name("kovar-encode".into());
        let thread = thread.spawn(move || queue.into_iter().for_each(|job| job()));
        let call = "starting the thread that records";
        let thread = thread.map_err(|e| HalError::Driver { call, reason: e.to_string() })?;
        Ok(EncodeWorker { jobs, thread: thread.thread().id() })
    }

    /// Hands over what the encoder holds, as [`CommandEncoder::flush`] does, and has the rest recorded and committed by the
    /// worker. What keeps others from coming between the parts is said there.
    ///
    /// # Errors
    /// As [`CommandEncoder::flush`]; the encoder is then dropped.
    pub fn record(
        &self,
        mut encoder: CommandEncoder,
        rest: impl FnOnce(&mut CommandEncoder) -> Result<()> + Send + 'static,
    ) -> Result<Recording> {
        encoder.flush()?;
        let label = encoder.label.clone();
        let (sender, result) = channel();
        let job = move || {
            let label = encoder.label.clone();
            let record = move || rest(&mut encoder).and_then(|()| encoder.commit());
            // An encoder that a panic drops gives up its first part.
            let result = catch_unwind(AssertUnwindSafe(record));
            let result = result.unwrap_or_else(|cause| Err(Error::Panicked { label, message: message(&*cause) }));
            // Nobody may be waiting.
            let _ = sender.send(result);
        };
        // The thread runs for as long as there is a sender.
        let _ = self.jobs.send(Box::new(job));
        Ok(Recording { label, result, thread: self.thread })
    }
}

impl Recording {
    /// Waits until the rest is recorded and committed. The submission is that of all parts.
    ///
    /// # Errors
    /// What the closure returned, [`Error::Panicked`] with what it threw, the errors of a commit. From the worker's own
    /// thread, [`Error::Unrecorded`] instead of a wait that would never end.
    pub fn join(self) -> Result<Submission> {
        let Recording { label, result, thread } = self;
        if std::thread::current().id() != thread {
            return result.recv().unwrap_or(Err(Error::Unrecorded { label }));
        }
        match result.try_recv() {
            Ok(result) => result,
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => Err(Error::Unrecorded { label }),
        }
    }
}

fn message(cause: &(dyn Any + Send)) -> String {
    let text = cause.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("something that is not text").into()
}
