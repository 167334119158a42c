use kovar_hal::HalError;

use crate::admission::Bytes;
use crate::hazard::Conflict;
use crate::{DType, Misfit, Misuse, Trap, Unbindable};

/// Result of every fallible call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong, each variant one thing that a caller can act on.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A failure of the device or its driver.
    #[error(transparent)]
    Device(#[from] HalError),
    /// The device that was asked for is not here.
    #[error("no device {wanted:?}: {reason}")]
    NoDevice {
        /// What was asked for.
        wanted: String,
        /// What there is instead, or why.
        reason: String,
    },
    /// A shape that no buffer can have.
    #[error("a buffer {label:?} of {shape:?} {dtype}: {reason}")]
    Shape {
        /// Label of the buffer.
        label: String,
        /// The shape.
        shape: Vec<usize>,
        /// The element type.
        dtype: DType,
        /// What is wrong with it.
        reason: String,
    },
    /// A view that does not lie in its buffer.
    #[error("elements {start}..{end} of buffer {label:?}, which has {len}")]
    Range {
        /// Label of the buffer.
        label: String,
        /// First element.
        start: usize,
        /// One past the last.
        end: usize,
        /// Elements of the buffer.
        len: usize,
    },
    /// Elements of another type than the buffer's.
    #[error("buffer {label:?} holds {actual}, not {wanted}")]
    DType {
        /// Label of the buffer.
        label: String,
        /// What was asked for.
        wanted: DType,
        /// What it holds.
        actual: DType,
    },
    /// Host data of another length than the buffer.
    #[error("buffer {label:?} has {actual} elements, the host slice {given}")]
    Length {
        /// Label of the buffer.
        label: String,
        /// Elements given.
        given: usize,
        /// Elements there are.
        actual: usize,
    },
    /// The host holds a view of the buffer.
    #[error("buffer {label:?} is mapped by the host; drop the view first")]
    Mapped {
        /// Label of the buffer.
        label: String,
    },
    /// Imported memory, which nobody writes, was to be written.
    #[error("buffer {label:?} is imported memory, which is read-only")]
    ReadOnly {
        /// Label of the buffer.
        label: String,
    },
    /// The host does not see the memory.
    #[error("buffer {label:?} lies in {memory:?} memory, which the host does not see here; use read and write")]
    Hidden {
        /// Label of the buffer.
        label: String,
        /// Where it lies.
        memory: kovar_hal::MemoryKind,
    },
    /// Elements that do not begin where the host can read them in place.
    #[error("buffer {label:?} begins at byte {offset}, where the host cannot see it as {dtype}; use read and write")]
    Unaligned {
        /// Label of the buffer.
        label: String,
        /// First byte in its allocation.
        offset: u64,
        /// Type of the elements.
        dtype: DType,
    },
    /// More than the device has left.
    #[error(
        "{need} does not fit: the device has {} left, {} too little; close what else uses it, shorten the context, or \
         take a smaller model",
        Bytes(*available), Bytes(*excess)
    )]
    DoesNotFit {
        /// What was asked for.
        need: crate::MemoryNeed,
        /// Bytes that were left.
        available: u64,
        /// Bytes that are too many.
        excess: u64,
    },
    /// An arena ends before a submission that uses one of its buffers.
    #[error("the arena's buffer of {shape:?} is used by submission {submission}, which was not given to its end")]
    ArenaUsed {
        /// Shape of the buffer.
        shape: Vec<usize>,
        /// Number of the submission.
        submission: u64,
    },
    /// Something still has buffers of an arena that ended.
    #[error("{buffers} buffers of an arena are still held; their memory comes back when the last user drops them")]
    ArenaHeld {
        /// How many.
        buffers: usize,
    },
    /// A buffer that exists within a graph alone was used outside it.
    #[error("buffer {label:?} is scratch of a capture and has no memory of its own; copy it to a real buffer")]
    Transient {
        /// Label of the buffer.
        label: String,
    },
    /// A graph cannot be changed so.
    #[error("graph {label:?}: {message}")]
    Graph {
        /// Label of the graph.
        label: String,
        /// What is wrong.
        message: String,
    },
    /// A name that a buffer of a graph cannot have, or a buffer that cannot go by a name.
    #[error("graph {label:?}, binding {name:?}: {reason}")]
    Binding {
        /// Label of the graph.
        label: String,
        /// The name.
        name: String,
        /// What is wrong.
        reason: Unbindable,
    },
    /// Work, or an access of the host, that would come between the parts of a recording.
    #[error("{label:?} would use buffer {buffer:?} between two parts of {recording:?}; commit that recording first")]
    Unfinished {
        /// Label of the work.
        label: String,
        /// Label of the recording of which a part was handed over.
        recording: String,
        /// Label of the buffer.
        buffer: String,
    },
    /// What records on a worker thread panicked. Nothing more was recorded; what was handed over before is poisoned.
    #[error("recording {label:?} panicked: {message}")]
    Panicked {
        /// Label of the recording.
        label: String,
        /// What was thrown.
        message: String,
    },
    /// A worker thread was to wait for itself.
    #[error("recording {label:?} is not made yet, and its worker cannot wait for itself")]
    Unrecorded {
        /// Label of the recording.
        label: String,
    },
    /// A value that an event cannot take.
    #[error("event at {now} asked for {value}: {reason}")]
    Event {
        /// The value.
        value: u64,
        /// Value of the event.
        now: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// The submission that wrote the buffer failed.
    #[error("buffer {label:?} holds the result of a failed submission; write it again before reading")]
    Poisoned {
        /// Label of the buffer.
        label: String,
    },
    /// A kernel does not translate.
    #[error("kernel {kernel}: {message}")]
    Kernel {
        /// Its name.
        kernel: String,
        /// The compiler's message, with the source line.
        message: String,
    },
    /// A kernel that the translator would take, and make wrong code of, or none.
    #[error("kernel {kernel}, line {line}: {trap}")]
    Trap {
        /// Its name.
        kernel: String,
        /// The line of its source, from 1.
        line: u32,
        /// What would become of it, and what to write instead.
        trap: Trap,
    },
    /// A kernel has no form for this device.
    #[error("kernel {kernel} cannot run on {backend}: {reason}")]
    NoForm {
        /// Its name.
        kernel: String,
        /// The backend.
        backend: kovar_hal::Backend,
        /// What to add.
        reason: String,
    },
    /// A kernel that this device cannot take.
    #[error("kernel {kernel} does not fit this device: {misfit}")]
    Unfit {
        /// Its name.
        kernel: String,
        /// What is over the limit.
        misfit: Misfit,
    },
    /// A dispatch that the kernel or device does not take. The encoder stays usable.
    #[error("dispatch of {kernel}: {misuse}")]
    Dispatch {
        /// Name of the kernel.
        kernel: String,
        /// What is wrong.
        misuse: Misuse,
    },
    /// A kernel was given something that it does not take.
    #[error("{op}: {message}")]
    Op {
        /// The operation.
        op: &'static str,
        /// What is wrong, naming argument and shapes.
        message: String,
    },
    /// In manual mode: two commands conflict and no barrier stands between them.
    #[error("{label}: a barrier is missing: {conflict}")]
    MissingBarrier {
        /// Label of the later command.
        label: String,
        /// The two commands and the bytes.
        conflict: Conflict,
    },
}
