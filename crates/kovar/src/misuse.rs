//! What is wrong with kernels, dispatches and bindings.

use crate::DType;

/// WGSL of which the translator makes something else, without a word. The first three on all devices, the others on Metal.
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
    /// An override that the translator meets too late.
    #[error("override {name} stands behind an array sized by an expression of overrides; declare it before")]
    LateOverride {
        /// Its name.
        name: String,
    },
    /// A cooperative matrix in an array of vectors.
    #[error("coopLoad and coopStore of vectors are no valid Metal; use an array of scalars")]
    MatrixOfVectors,
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
    /// An offset that the device cannot bind, or that this kernel does not take.
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
    /// Threadgroup memory that the kernel does not take from a dispatch, or the device does not have.
    #[error("{bytes} bytes of threadgroup memory: {reason}")]
    ThreadgroupMemory {
        /// What was asked for.
        bytes: u64,
        /// What is wrong.
        reason: String,
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

/// Why a buffer does not get a name in a graph, or does not take the place of the one that has it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unbindable {
    /// No buffer goes by the name.
    #[error("no buffer goes by this name; the names are {known:?}")]
    Unknown {
        /// Those that there are.
        known: Vec<String>,
    },
    /// A buffer has the name already, or the buffer has another name.
    #[error("buffer {buffer:?} is {name:?} already")]
    Taken {
        /// The name that there is.
        name: String,
        /// Label of the buffer that goes by it.
        buffer: String,
    },
    /// The commands do not use the buffer.
    #[error("the commands do not use buffer {buffer:?}")]
    Unused {
        /// Its label.
        buffer: String,
    },
    /// The commands use more of the allocation than the buffer that was named.
    #[error("buffer {buffer:?} is bytes {start}..{end} of its allocation, of which the commands use {first}..{last}")]
    Beyond {
        /// Label of the buffer.
        buffer: String,
        /// Its first byte.
        start: u64,
        /// One past its last.
        end: u64,
        /// First byte that the commands use.
        first: u64,
        /// One past the last.
        last: u64,
    },
    /// Scratch of a capture, which has no memory of its own.
    #[error("buffer {buffer:?} is scratch of a capture")]
    Transient {
        /// Its label.
        buffer: String,
    },
    /// A buffer of another device.
    #[error("buffer {buffer:?} belongs to another device")]
    Foreign {
        /// Its label.
        buffer: String,
    },
    /// Elements of another type.
    #[error("buffer {buffer:?} holds {given}, the commands take {wanted}")]
    DType {
        /// Its label.
        buffer: String,
        /// What it holds.
        given: DType,
        /// What was named.
        wanted: DType,
    },
    /// Another number of bytes.
    #[error("buffer {buffer:?} has {given} bytes, the commands take {wanted}")]
    Bytes {
        /// Its label.
        buffer: String,
        /// Its bytes.
        given: u64,
        /// Bytes of what was named; whole words of them must be there.
        wanted: u64,
    },
    /// It begins where the device cannot bind what the commands bind of it.
    #[error("buffer {buffer:?} begins at byte {offset}, {distance} from where a multiple of {alignment} would put it")]
    Misaligned {
        /// Its label.
        buffer: String,
        /// Its first byte in its allocation.
        offset: u64,
        /// How far that is over.
        distance: u64,
        /// The device's alignment.
        alignment: u64,
    },
    /// The commands write it, and it is imported memory.
    #[error("the commands write it, and buffer {buffer:?} is imported memory, which is read-only")]
    ReadOnly {
        /// Its label.
        buffer: String,
    },
    /// It shares bytes with another buffer of the commands, and one of the two is written: the commands were put in order
    /// without knowing that.
    #[error("bytes {start}..{end} of buffer {buffer:?} are {other:?} as well, and one of the two is written")]
    Aliased {
        /// Label of the buffer.
        buffer: String,
        /// The name of the other one in the graph, or its label.
        other: String,
        /// First byte that both have, in the allocation.
        start: u64,
        /// One past the last.
        end: u64,
    },
}
