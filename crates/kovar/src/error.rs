use kovar_hal::HalError;

use crate::DType;
use crate::hazard::Conflict;

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

/// WGSL of which the translator makes something else, without a word. The first four on all devices, the others on Metal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Trap {
    /// A bitcast between types of different width, like `bitcast<vec2<f16>>(u32)`: it becomes one to another type.
    #[error(
        "bitcast<{wanted}> of a value of another width is translated to another type; \
             use unpack2x16float, or a buffer of that type"
    )]
    Bitcast {
        /// The type that the source names.
        wanted: String,
    },
    /// An operand of `coopStore` that is computed within the call.
    #[error("matrix, index and stride of coopStore are translated too late; put each into a `let` before it")]
    StoreOperand,
    /// A cooperative matrix in an array of vectors.
    #[error("coopLoad and coopStore of vectors are no valid Metal; use an array of scalars")]
    MatrixOfVectors,
    /// An override that the translator meets too late.
    #[error("override {name} stands behind an array sized by an expression of overrides; declare it before")]
    LateOverride {
        /// Its name.
        name: String,
    },
    /// A cooperative matrix of a size that Metal does not have.
    #[error("cooperative matrices of {columns}x{rows} do not exist on Metal; use 8x8")]
    MatrixSize {
        /// Columns.
        columns: u32,
        /// Rows.
        rows: u32,
    },
    /// An operand that two products of packed bytes share.
    #[error(
        "an operand of two dot4I8Packed or dot4U8Packed of one block gets two declarations of one name; \
             put one of the products into a function"
    )]
    RepeatedOperand,
}

/// Why a device does not take a kernel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misfit {
    /// A workgroup that is too long in one direction.
    #[error("a workgroup of {size:?} threads, the limit is {limit:?}")]
    GroupSize {
        /// Threads in x, y, z.
        size: [u32; 3],
        /// The device's limit in each.
        limit: [u32; 3],
    },
    /// A workgroup of too many threads.
    #[error("a workgroup of {threads} threads, the limit is {limit}")]
    GroupThreads {
        /// Threads in all.
        threads: u64,
        /// The device's limit.
        limit: u32,
    },
    /// Too much workgroup memory.
    #[error("{bytes} bytes of workgroup memory, the limit is {limit}")]
    GroupMemory {
        /// Bytes of all workgroup variables.
        bytes: u64,
        /// The device's limit.
        limit: u32,
    },
    /// Immediate constants that are too large.
    #[error("{bytes} bytes of immediate constants, the limit is {limit}; use a uniform block")]
    Constants {
        /// Their size.
        bytes: u32,
        /// The device's limit.
        limit: u32,
    },
    /// Too many buffers.
    #[error("{slots} slots, the limit is {limit}")]
    Slots {
        /// Slots of the kernel.
        slots: usize,
        /// The device's limit, or that of a dispatch: [`MAX_SLOTS`](crate::MAX_SLOTS).
        limit: usize,
    },
    /// A subgroup width that the device does not have.
    #[error("it wants subgroups of {wanted} threads, this device has {min} to {max}")]
    Subgroup {
        /// The width that the kernel wants.
        wanted: u32,
        /// The smallest width there is.
        min: u32,
        /// The largest.
        max: u32,
    },
    /// Workgroups that are not whole subgroups, of a kernel that says that they are.
    #[error("a workgroup of {size:?} threads is not whole subgroups of {subgroup}, as the kernel promises")]
    PartialSubgroup {
        /// Threads in x, y, z.
        size: [u32; 3],
        /// The width.
        subgroup: u32,
    },
}

/// What is wrong with a dispatch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misuse {
    /// Nothing was bound to a slot.
    #[error("slot {slot} ({name}) is not bound")]
    Unbound {
        /// The slot.
        slot: usize,
        /// Its name in the source.
        name: String,
    },
    /// A slot was bound twice.
    #[error("slot {slot} is bound twice")]
    BoundTwice {
        /// The slot.
        slot: usize,
    },
    /// The kernel has no such slot.
    #[error("slot {slot} does not exist, the kernel has {slots}")]
    NoSlot {
        /// The slot.
        slot: usize,
        /// How many there are.
        slots: usize,
    },
    /// Constants of another size.
    #[error("constants have {given} bytes, the kernel wants {wanted}")]
    Constants {
        /// Bytes given.
        given: usize,
        /// Bytes wanted.
        wanted: usize,
    },
    /// An offset that the device cannot bind.
    #[error("slot {slot} ({label:?}): offset {offset} is not a multiple of {alignment} bytes")]
    Misaligned {
        /// The slot.
        slot: usize,
        /// Label of the buffer.
        label: String,
        /// Its byte offset.
        offset: u64,
        /// What the device wants.
        alignment: u64,
    },
    /// A binding larger than the device takes, or smaller than the kernel's block.
    #[error("slot {slot} ({label:?}): {bytes} bytes, {reason}")]
    Size {
        /// The slot.
        slot: usize,
        /// Label of the buffer.
        label: String,
        /// Its bytes.
        bytes: u64,
        /// The limit broken.
        reason: String,
    },
    /// A written slot overlaps another slot.
    #[error("slots {written} and {other} overlap in buffer {label:?}, and the first is written")]
    Aliased {
        /// The written slot.
        written: usize,
        /// The other.
        other: usize,
        /// Label of the buffer.
        label: String,
    },
    /// A buffer of another device.
    #[error("slot {slot} ({label:?}) belongs to another device")]
    Foreign {
        /// The slot.
        slot: usize,
        /// Label of the buffer.
        label: String,
    },
    /// Scratch of a capture in a live recording.
    #[error("slot {slot} is scratch of a capture, which has no memory of its own")]
    Transient {
        /// The slot.
        slot: usize,
    },
    /// The host holds a view of the buffer.
    #[error("slot {slot} ({label:?}) is mapped by the host; drop the view first")]
    Mapped {
        /// The slot.
        slot: usize,
        /// Label of the buffer.
        label: String,
    },
    /// Elements said to be touched that are not in the buffer, or none.
    #[error("slot {slot} ({label:?}): {touch:?} of {len} elements")]
    Touch {
        /// The slot.
        slot: usize,
        /// Label of the buffer.
        label: String,
        /// What was said.
        touch: crate::Touch,
        /// Elements of the buffer.
        len: usize,
    },
    /// No grid was given.
    #[error("no grid")]
    NoGrid,
    /// The grid is over the device's limit.
    #[error("a grid of {groups:?} workgroups, the device takes {limit:?}")]
    Grid {
        /// The grid.
        groups: [u32; 3],
        /// The limit.
        limit: [u32; 3],
    },
    /// The kernel belongs to another device.
    #[error("the kernel was made for another device")]
    ForeignKernel,
    /// Copy or fill with ranges that do not fit.
    #[error("{0}")]
    Transfer(String),
}
