use std::any::Any;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use crate::{
    BufferDesc, ClockPair, DeviceInfo, DispatchCommand, HalError, OpenOptions, PipelineDesc, RawBuffer, RawEvent,
    RawPipeline, RecorderDesc, SubmitDesc, TimeSpan,
};

/// Result of every fallible call.
pub type Result<T> = std::result::Result<T, HalError>;

/// A device that could be opened.
pub trait Adapter: Send + Sync {
    /// What it is and can do.
    fn info(&self) -> &DeviceInfo;
    /// Opens it.
    fn open(&self, options: &OpenOptions) -> Result<Arc<dyn Device>>;
}

/// Writes commands of one command buffer.
pub trait Recorder: Send {
    /// Runs a kernel.
    ///
    /// # Safety
    /// Handles are alive until the execution has ended, bindings lie within their buffers and keep the device's limits,
    /// and no two commands of a group conflict.
    unsafe fn dispatch(&mut self, command: &DispatchCommand<'_>);
    /// Copies bytes; offsets and length are multiples of 4, source and destination do not overlap.
    ///
    /// # Safety
    /// As for `dispatch`.
    unsafe fn copy(&mut self, source: RawBuffer, from: u64, destination: RawBuffer, to: u64, len: u64);
    /// Fills bytes with a repeated word; offset and length are multiples of 4.
    ///
    /// # Safety
    /// As for `dispatch`.
    unsafe fn fill(&mut self, buffer: RawBuffer, offset: u64, len: u64, word: u32);
    /// Ends the group.
    fn barrier(&mut self);
    /// Opens a named region in vendor tools.
    fn push_label(&mut self, label: &str);
    /// Closes it.
    fn pop_label(&mut self);
    /// Ends recording.
    fn finish(self: Box<Self>) -> Result<Arc<dyn CommandBuffer>>;
}

/// A finished recording. Dropping it while it executes is the caller's error.
pub trait CommandBuffer: Send + Sync {
    /// For the backend that made it.
    fn as_any(&self) -> &dyn Any;
    /// Whether the last execution, now ended, went well.
    fn status(&self) -> Result<()>;
    /// Time of the last execution, if it was kept and the device tells.
    fn time(&self) -> Option<TimeSpan>;
    /// Times of dispatches, copies and fills in the order of recording; empty unless [`Timing::Dispatches`](crate::Timing::Dispatches).
    fn times(&self) -> Vec<Option<TimeSpan>>;
}

/// An open device.
pub trait Device: Send + Sync {
    /// What it is and can do.
    fn info(&self) -> &DeviceInfo;
    /// Bytes that this process may still use before the device pages or fails, where the driver tells.
    fn memory_left(&self) -> Option<u64>;
    /// Makes a zero-filled buffer.
    fn create_buffer(&self, desc: &BufferDesc<'_>) -> Result<RawBuffer>;
    /// Makes a buffer of host memory with no copy; `None` if the device cannot.
    ///
    /// # Safety
    /// Pointer and length keep the import alignment, and the memory outlives the buffer.
    unsafe fn import_buffer(&self, memory: NonNull<u8>, len: u64, label: &str) -> Result<Option<RawBuffer>>;
    /// Destroys a buffer.
    ///
    /// # Safety
    /// It came from this device, is destroyed once, and nothing uses it.
    unsafe fn destroy_buffer(&self, buffer: RawBuffer);
    /// Flushes staged residency changes: called before a submission that needs `add`, after the last use of `remove`.
    ///
    /// # Safety
    /// The buffers are alive.
    unsafe fn update_residency(&self, add: &[RawBuffer], remove: &[RawBuffer]) -> Result<()>;
    /// Compiles a kernel.
    fn create_pipeline(&self, desc: &PipelineDesc<'_>) -> Result<RawPipeline>;
    /// Destroys a pipeline.
    ///
    /// # Safety
    /// As for `destroy_buffer`.
    unsafe fn destroy_pipeline(&self, pipeline: RawPipeline);
    /// The driver's pipeline cache as opaque bytes, empty if it has none.
    fn pipeline_cache(&self) -> Vec<u8>;
    /// Gives bytes of an earlier `pipeline_cache` back; the driver ignores what it does not know.
    fn load_pipeline_cache(&self, bytes: &[u8]) -> Result<()>;
    /// Makes an event with this value.
    fn create_event(&self, value: u64) -> Result<RawEvent>;
    /// Destroys an event.
    ///
    /// # Safety
    /// As for `destroy_buffer`.
    unsafe fn destroy_event(&self, event: RawEvent);
    /// The value of an event.
    ///
    /// # Safety
    /// The event is alive, here and below.
    unsafe fn event_value(&self, event: RawEvent) -> Result<u64>;
    /// Raises an event from the host.
    ///
    /// # Safety
    /// The value is larger than the present one, and so is every value that pending submissions signal.
    unsafe fn signal_event(&self, event: RawEvent, value: u64) -> Result<()>;
    /// Waits until the event has at least this value; `false` if the time ran out.
    ///
    /// # Safety
    /// As for `event_value`.
    unsafe fn wait_event(&self, event: RawEvent, value: u64, timeout: Option<Duration>) -> Result<bool>;
    /// Begins a command buffer.
    fn create_recorder(&self, desc: &RecorderDesc<'_>) -> Result<Box<dyn Recorder>>;
    /// Hands work to the device.
    ///
    /// # Safety
    /// Commands came from this device; one that is submitted again was recorded as reusable and has ended. Resources
    /// stay alive until the signals.
    unsafe fn submit(&self, desc: &SubmitDesc<'_>) -> Result<()>;
    /// Reads both clocks at once, if the device has one.
    fn clocks(&self) -> Option<ClockPair>;
    /// Takes the messages of the vendor's validation since the last call.
    fn validation_messages(&self) -> Vec<String>;
    /// Has the vendor's tool write what the device does into a file, until what this returns is dropped.
    fn capture(&self, file: &Path) -> Result<Box<dyn Send + Sync>> {
        let reason = format!("{} writes none; Metal does", self.info().backend);
        Err(HalError::Unsupported { what: "a capture into a file", reason: format!("{reason} ({})", file.display()) })
    }
}
