use std::any::Any;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use kovar_hal::{
    BufferDesc, CommandBuffer, DeviceInfo, HalError, MemoryKind, RawBuffer, RawEvent, RecorderDesc, SubmitDesc, Timing,
};

use crate::buffer::{Allocation, Buffer, Shape, byte_len};
use crate::claim::Stamp;
use crate::flight::{Flight, Flights, Used};
use crate::kernel::{DiskCache, Kernel, KernelSource, Registry, Specialization};
use crate::poison::Poison;
use crate::pool::{Pool, PoolStats, size_class};
use crate::stats::{Counters, KernelStats, Stats};
use crate::{CommandEncoder, DType, DeviceOptions, Element, EncoderOptions, Error, Result, Submission};

/// Bytes that go through the staging buffer at a time, for memory that the host does not see.
const STAGING: u64 = 16 << 20;

/// A device, open: the source of buffers, kernels and encoders. A clone is another handle.
///
/// ```
/// use kovar::{Backend, Device, DeviceOptions, DType};
///
/// let device = Device::open(&DeviceOptions::of(Backend::Cpu))?;
/// let zeros = device.buffer(DType::F32, &[4, 8])?;
/// assert_eq!(zeros.read::<f32>()?, vec![0.0; 32]);
/// # Ok::<(), kovar::Error>(())
/// ```
#[derive(Clone)]
pub struct Device(pub(crate) Arc<Shared>);

/// What buffers and kernels need of their device. It holds those that submissions under way use, and no others, so it
/// outlives them all.
pub(crate) struct Core {
    pub(crate) hal: Arc<dyn kovar_hal::Device>,
    pub(crate) counters: Counters,
    /// Raised by each submission to its number.
    pub(crate) timeline: RawEvent,
    /// Number of the last submission; the lock is held while one is handed over, and while a host view opens.
    submitted: Mutex<u64>,
    /// The largest value seen on the timeline: most questions need not reach the driver.
    reached: AtomicU64,
    /// Locked after `submitted`.
    flights: Mutex<Flights>,
    /// How long a wait for a submission may take.
    limit: Option<Duration>,
    pool: Mutex<Pool>,
    next_allocation: AtomicU64,
    pub(crate) next_encoder: AtomicU32,
}

pub(crate) struct Shared {
    pub(crate) core: Arc<Core>,
    registry: Registry,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    pub(crate) fn turn(&self) -> MutexGuard<'_, u64> {
        lock(&self.submitted)
    }

    pub(crate) fn pool(&self) -> MutexGuard<'_, Pool> {
        lock(&self.pool)
    }

    pub(crate) fn has_reached(&self, value: u64) -> Result<bool> {
        if self.reached.load(Ordering::Acquire) >= value {
            return Ok(true);
        }
        // SAFETY: the timeline lives as long as the core.
        let now = unsafe { self.hal.event_value(self.timeline) }.map_err(|e| self.blame(e))?;
        self.reached.fetch_max(now, Ordering::AcqRel);
        Ok(now >= value)
    }

    /// Waits for a submission. `false` if the time ran out.
    pub(crate) fn wait_until(&self, value: u64, timeout: Option<Duration>) -> Result<bool> {
        if self.has_reached(value)? {
            return Ok(true);
        }
        self.counters.waits.fetch_add(1, Ordering::Relaxed);
        let begun = Instant::now();
        // SAFETY: as above.
        let there = unsafe { self.hal.wait_event(self.timeline, value, timeout) };
        let waited = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.counters.wait_ns.fetch_add(waited, Ordering::Relaxed);
        let there = there.map_err(|e| self.blame(e))?;
        if there {
            self.reached.fetch_max(value, Ordering::AcqRel);
        }
        Ok(there)
    }

    /// Waits for a submission, for as long as the device's options allow.
    pub(crate) fn wait_for(&self, value: u64) -> Result<()> {
        if self.wait_until(value, self.limit)? {
            return Ok(());
        }
        let label = lock(&self.flights).first().map_or("host transfer".into(), |flight| flight.label.to_string());
        Err(match self.limit {
            Some(limit) => HalError::Timeout { label, reason: format!("it runs on after {limit:?}") },
            None => HalError::DeviceLost { label, reason: "it never ended".into() },
        }
        .into())
    }

    /// The event that a loss was noticed at names no work: the submission that was under way is meant.
    fn blame(&self, error: HalError) -> HalError {
        match (error, lock(&self.flights).first()) {
            (HalError::DeviceLost { label, reason }, Some(first)) if label == "event" => {
                HalError::DeviceLost { label: first.label.to_string(), reason }
            }
            (error, _) => error,
        }
    }

    /// Takes note of a submission, under the lock that orders submissions.
    fn launched(&self, flight: Flight) {
        lock(&self.flights).launch(flight);
    }

    /// Lets go of what ended submissions used, as far as they are known to have ended.
    pub(crate) fn settle(&self) {
        let ended = lock(&self.flights).land(self.reached.load(Ordering::Acquire));
        drop(ended);
    }

    /// Lets go of what ended submissions used.
    pub(crate) fn reap(&self) -> Result<()> {
        let first = lock(&self.flights).first().map(|flight| flight.value);
        if let Some(first) = first {
            self.has_reached(first)?;
            self.settle();
        }
        Ok(())
    }

    fn create(&self, desc: &BufferDesc<'_>) -> Result<RawBuffer> {
        let raw = self.hal.create_buffer(desc)?;
        self.counters.add(&Stats { allocations: 1, bytes_allocated: desc.size, ..Stats::default() });
        Ok(raw)
    }

    /// Copies on the device's queue between memory that the host sees and memory that it does not.
    fn transfer(&self, source: RawBuffer, from: u64, destination: RawBuffer, to: u64, len: u64) -> Result<()> {
        let desc = RecorderDesc { label: "host transfer", timing: Timing::Off, reusable: false };
        let mut recorder = self.hal.create_recorder(&desc)?;
        // SAFETY: both buffers are alive until the wait below, and the ranges lie in them.
        unsafe { recorder.copy(source, from, destination, to, len) };
        let commands = recorder.finish()?;
        let value = {
            let mut submitted = self.turn();
            let value = *submitted + 1;
            let desc = SubmitDesc {
                label: "host transfer",
                commands: std::slice::from_ref(&commands),
                waits: &[],
                signals: &[(self.timeline, value)],
            };
            // SAFETY: the commands are fresh and what they use is alive.
            unsafe { self.hal.submit(&desc) }?;
            *submitted = value;
            value
        };
        self.wait_for(value)?;
        Ok(commands.status()?)
    }

    /// Runs `step` over the data in pieces, with a staging buffer whose host address it gets.
    fn staged(
        &self,
        memory: MemoryKind,
        len: u64,
        mut step: impl FnMut(RawBuffer, u64, u64) -> Result<()>,
    ) -> Result<()> {
        let size = STAGING.min(len.next_multiple_of(4));
        let staging = self.create(&BufferDesc { size, memory, label: "staging" })?;
        let result = (0..len).step_by(size as usize).try_for_each(|at| step(staging, at, size.min(len - at)));
        // SAFETY: each step has waited for its transfer.
        unsafe { self.hal.destroy_buffer(staging) };
        result
    }

    /// Writes to memory that the host does not see. It is copied in words: the last one may reach past the data only
    /// into the padding of the allocation.
    pub(crate) fn upload(&self, to: RawBuffer, offset: u64, data: &[u8]) -> Result<()> {
        let end = offset + data.len() as u64;
        if !offset.is_multiple_of(4) || (!end.is_multiple_of(4) && end + 16 <= to.len) {
            return Err(HalError::Unsupported {
                what: "writing a part of a word in device memory",
                reason: format!("bytes {offset}..{end}; use shared memory or whole words"),
            }
            .into());
        }
        self.staged(MemoryKind::Shared, data.len() as u64, |staging, at, len| {
            let part = &data[at as usize..(at + len) as usize];
            // SAFETY: shared memory is visible to the host, the part is no longer than the staging buffer, and no
            // transfer is under way.
            unsafe { std::ptr::copy_nonoverlapping(part.as_ptr(), staging.host, part.len()) };
            self.transfer(staging, 0, to, offset + at, len.next_multiple_of(4))
        })
    }

    /// Reads memory that the host does not see, in whole words.
    pub(crate) fn download(&self, from: RawBuffer, offset: u64, out: &mut [u8]) -> Result<()> {
        let first = offset - offset % 4;
        let words = (offset + out.len() as u64).next_multiple_of(4) - first;
        let mut whole = vec![0u8; words as usize];
        self.staged(MemoryKind::Readback, words, |staging, at, len| {
            self.transfer(from, first + at, staging, 0, len)?;
            let part = &mut whole[at as usize..(at + len) as usize];
            // SAFETY: readback memory is visible to the host, the part is no longer than the staging buffer, and the
            // transfer has ended.
            unsafe { std::ptr::copy_nonoverlapping(staging.host, part.as_mut_ptr(), part.len()) };
            Ok(())
        })?;
        let skip = (offset - first) as usize;
        out.copy_from_slice(&whole[skip..skip + out.len()]);
        Ok(())
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        for raw in lock(&self.pool).drain() {
            // SAFETY: blocks in the pool are used by nobody.
            unsafe { self.hal.destroy_buffer(raw) };
        }
        // SAFETY: every submission has ended: `Shared` waited for them when it was dropped.
        unsafe { self.hal.destroy_event(self.timeline) };
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let core = &self.core;
        let last = lock(&core.flights).last().map(|flight| flight.value);
        let ended = last.map_or(Ok(()), |last| core.wait_for(last));
        self.registry.close(core);
        let left = lock(&core.flights).take();
        if matches!(ended, Err(Error::Device(HalError::Timeout { .. }))) {
            // The device still uses all this, and nobody knows until when: it must never be freed.
            std::mem::forget(left);
        }
    }
}

impl Device {
    /// What could be opened, in the order of preference, and why backends are missing.
    pub fn list() -> (Vec<DeviceInfo>, Vec<String>) {
        let (adapters, missing) = kovar_hal::adapters();
        (adapters.iter().map(|a| a.info().clone()).collect(), missing.iter().map(ToString::to_string).collect())
    }

    /// Opens a device.
    ///
    /// # Errors
    /// [`Error::NoDevice`] if it is not here, device errors if it does not open.
    pub fn open(options: &DeviceOptions) -> Result<Device> {
        let Some(choice) = options.device else {
            let (adapters, _) = kovar_hal::adapters();
            let mut last = Error::NoDevice { wanted: "any".into(), reason: "there is none".into() };
            for adapter in adapters {
                match Device::from_adapter(adapter.as_ref(), options) {
                    Ok(device) => return Ok(device),
                    Err(error) => last = error,
                }
            }
            return Err(last);
        };
        let missing = |reason: String| Error::NoDevice { wanted: choice.to_string(), reason };
        match kovar_hal::adapters_of(choice.backend).map_err(|reason| missing(reason.to_string()))?.get(choice.index) {
            Some(adapter) => Device::from_adapter(adapter.as_ref(), options),
            None => Err(missing("this machine has none; `kovar devices` lists what it has".into())),
        }
    }

    /// Opens a device of an adapter: one that [`open`](Device::open) cannot name, such as a backend of your own.
    ///
    /// # Errors
    /// Device errors if it does not open.
    pub fn from_adapter(adapter: &dyn kovar_hal::Adapter, options: &DeviceOptions) -> Result<Device> {
        Device::of(adapter.open(&options.open())?, options)
    }

    /// Opens the device that the variable `KOVAR_DEVICE` names, else the first that opens.
    ///
    /// # Errors
    /// As [`open`](Device::open), and for a name that is none.
    pub fn open_default() -> Result<Device> {
        Device::open(&DeviceOptions::from_environment()?)
    }

    fn of(hal: Arc<dyn kovar_hal::Device>, options: &DeviceOptions) -> Result<Device> {
        let timeline = hal.create_event(0)?;
        let core = Core {
            hal,
            counters: Counters::default(),
            timeline,
            submitted: Mutex::new(0),
            reached: AtomicU64::new(0),
            flights: Mutex::default(),
            limit: options.time_limit,
            pool: Mutex::default(),
            next_allocation: AtomicU64::new(0),
            next_encoder: AtomicU32::new(0),
        };
        let cache = options.cache.as_deref().map(|folder| DiskCache::open(folder, &core));
        Ok(Device(Arc::new(Shared { core: Arc::new(core), registry: Registry::new(cache) })))
    }

    /// What it is and can do.
    pub fn info(&self) -> &DeviceInfo {
        self.0.core.hal.info()
    }

    /// What it has done so far.
    pub fn stats(&self) -> Stats {
        self.0.core.counters.read()
    }

    /// What its kernels have done so far, the busiest first.
    ///
    /// ```
    /// # use kovar::{Backend, Device, DeviceOptions, DType, Dispatch, KernelSource};
    /// # static CLEAR: KernelSource = KernelSource::wgsl("clear",
    /// #     "@group(0) @binding(0) var<storage, read_write> x: array<f32>;
    /// #      @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) { x[id.x] = 0.0; }");
    /// let device = Device::open(&DeviceOptions::of(Backend::Null))?;
    /// let (clear, x) = (device.kernel(&CLEAR, &[])?, device.buffer(DType::F32, &[64])?);
    /// let mut encoder = device.encoder()?;
    /// encoder.dispatch(Dispatch::new(&clear).bind(0, &x).groups([1, 1, 1]))?;
    /// encoder.commit()?.wait()?;
    /// let busiest = &device.kernel_stats()[0];
    /// assert_eq!((busiest.name.as_str(), busiest.dispatches), ("clear", 1));
    /// # Ok::<(), kovar::Error>(())
    /// ```
    pub fn kernel_stats(&self) -> Vec<KernelStats> {
        self.0.registry.stats()
    }

    /// State of its buffer pool.
    pub fn pool_stats(&self) -> PoolStats {
        self.0.core.pool().stats
    }

    /// Gives the free blocks of the pool back to the system.
    pub fn trim_pool(&self) {
        let blocks = self.0.core.pool().drain();
        for raw in blocks {
            // SAFETY: blocks in the pool are used by nobody.
            unsafe { self.0.core.hal.destroy_buffer(raw) };
        }
    }

    /// Bytes that may still be allocated, where the driver tells.
    pub fn memory_left(&self) -> Option<u64> {
        self.0.core.hal.memory_left()
    }

    /// Messages of the vendor's validation since the last call, if it was turned on.
    pub fn validation_messages(&self) -> Vec<String> {
        self.0.core.hal.validation_messages()
    }

    /// A zero-filled buffer in memory that host and device share.
    ///
    /// # Errors
    /// [`Error::Shape`] for a shape without elements or too large, device errors when memory is short.
    pub fn buffer(&self, dtype: DType, shape: &[usize]) -> Result<Buffer> {
        self.buffer_in(MemoryKind::Shared, dtype, shape, "buffer")
    }

    /// A zero-filled buffer in memory of a kind, under a name that errors and vendor tools show.
    ///
    /// # Errors
    /// As [`buffer`](Device::buffer).
    pub fn buffer_in(&self, memory: MemoryKind, dtype: DType, shape: &[usize], label: &str) -> Result<Buffer> {
        let (_, bytes) = byte_len(label, dtype, shape)?;
        // Kernels read words: the last one must be whole.
        let desc = BufferDesc { size: bytes.next_multiple_of(16), memory, label };
        self.check_size(label, dtype, shape, desc.size)?;
        let raw = self.0.core.create(&desc)?;
        Ok(self.wrap(Block { raw, memory, class: None, owner: None }, dtype, shape, label))
    }

    /// A buffer for intermediate results, from the pool: its bytes are whatever the last user left. The memory returns
    /// to the pool when the last handle is dropped and no submission uses it.
    ///
    /// # Errors
    /// As [`buffer`](Device::buffer).
    pub fn scratch(&self, dtype: DType, shape: &[usize]) -> Result<Buffer> {
        let label = "scratch";
        let (_, bytes) = byte_len(label, dtype, shape)?;
        let memory = MemoryKind::Shared;
        self.0.core.reap()?;
        let core = &self.0.core;
        let class = size_class(bytes).unwrap_or(bytes);
        self.check_size(label, dtype, shape, class)?;
        let pooled = core.pool().take(memory, class);
        let raw = match pooled {
            Some(raw) => raw,
            None => {
                let raw = core.create(&BufferDesc { size: class, memory, label })?;
                core.pool().took_new(class);
                raw
            }
        };
        Ok(self.wrap(Block { raw, memory, class: Some(class), owner: None }, dtype, shape, label))
    }

    /// A buffer without memory, for a capture.
    pub(crate) fn transient(&self, dtype: DType, shape: &[usize]) -> Result<Buffer> {
        let label = "scratch";
        let (_, bytes) = byte_len(label, dtype, shape)?;
        let len = bytes.next_multiple_of(16);
        self.check_size(label, dtype, shape, len)?;
        let raw = RawBuffer { id: usize::MAX, host: std::ptr::null_mut(), len };
        Ok(self.wrap(Block { raw, memory: MemoryKind::Device, class: None, owner: None }, dtype, shape, label))
    }

    /// A buffer with these elements.
    ///
    /// # Errors
    /// As [`buffer`](Device::buffer), and [`Error::Length`] if the shape has another number of elements.
    pub fn upload<T: Element>(&self, data: &[T], shape: &[usize]) -> Result<Buffer> {
        let buffer = self.buffer(T::DTYPE, shape)?;
        buffer.write(data)?;
        Ok(buffer)
    }

    /// Makes a buffer of host memory: without a copy where the device can import it, else with one. Which of the two
    /// happened is the second part of the result: `true` for no copy.
    ///
    /// The bytes are those of `owner`, which stays alive as long as the buffer; the device never writes them.
    ///
    /// # Errors
    /// As [`buffer`](Device::buffer), and [`Error::Length`] if the shape has another number of bytes.
    pub fn import<O>(&self, owner: Arc<O>, dtype: DType, shape: &[usize], label: &str) -> Result<(Buffer, bool)>
    where
        O: AsRef<[u8]> + Send + Sync + 'static,
    {
        let bytes = (*owner).as_ref();
        let (_, wanted) = byte_len(label, dtype, shape)?;
        if bytes.len() as u64 != wanted {
            return Err(Error::Length { label: label.into(), given: bytes.len(), actual: wanted as usize });
        }
        let limits = &self.info().limits;
        let align = limits.import_alignment.max(dtype.size() as u64);
        let fits = (bytes.as_ptr() as u64).is_multiple_of(align) && wanted.is_multiple_of(limits.import_alignment);
        if self.info().features.host_import && fits {
            let memory = NonNull::from(bytes).cast::<u8>();
            // SAFETY: aligned as the device wants; the bytes live as long as `owner`, which the allocation keeps, behind
            // an `Arc` that hands out shared references only; the device does not write them, see `read_only`.
            if let Some(raw) = unsafe { self.0.core.hal.import_buffer(memory, wanted, label) }? {
                let owner: Arc<dyn Any + Send + Sync> = owner;
                let block = Block { raw, memory: MemoryKind::Shared, class: None, owner: Some(owner) };
                return Ok((self.wrap(block, dtype, shape, label), true));
            }
        }
        let buffer = self.buffer_in(MemoryKind::Device, dtype, shape, label)?;
        buffer.write_bytes(bytes)?;
        Ok((buffer, false))
    }

    fn check_size(&self, label: &str, dtype: DType, shape: &[usize], bytes: u64) -> Result<()> {
        let limit = self.info().limits.buffer;
        if bytes <= limit {
            return Ok(());
        }
        let reason = format!("{bytes} bytes, this device takes {limit} in one buffer");
        Err(Error::Shape { label: label.into(), shape: shape.to_vec(), dtype, reason })
    }

    fn wrap(&self, block: Block, dtype: DType, shape: &[usize], label: &str) -> Buffer {
        let core = self.0.core.clone();
        let id = core.next_allocation.fetch_add(1, Ordering::Relaxed);
        let read_only = block.owner.is_some();
        let transient = block.raw.host.is_null() && block.raw.id == usize::MAX;
        let allocation = Allocation {
            core,
            raw: block.raw,
            memory: block.memory,
            label: label.into(),
            id,
            class: block.class,
            _owner: block.owner,
            read_only,
            transient,
            last_use: AtomicU64::new(0),
            last_write: AtomicU64::new(0),
            views: AtomicI32::new(0),
            claims: Mutex::default(),
            poison: Poison::default(),
            hint: AtomicU64::new(u64::MAX),
        };
        Buffer { allocation: Arc::new(allocation), offset: 0, dtype, shape: Shape::from_slice(shape) }
    }

    /// The kernel of a source with these constants, compiled when first asked for.
    ///
    /// # Errors
    /// [`Error::Kernel`] with the source line, [`Error::NoForm`] if it has none for this device.
    pub fn kernel(&self, source: &KernelSource, constants: Specialization<'_>) -> Result<Kernel> {
        self.0.registry.get(&self.0.core, source, constants)
    }

    /// Writes the driver's compiled pipelines to the disk cache, if there is one. A device does that by itself when it is
    /// dropped, but on Metal, which has such a cache of its own; translated kernels are written as they are made.
    pub fn save_cache(&self) {
        self.0.registry.save(&self.0.core);
    }

    /// An encoder with automatic barriers.
    ///
    /// # Errors
    /// Device errors.
    pub fn encoder(&self) -> Result<CommandEncoder> {
        self.encoder_with(EncoderOptions::default())
    }

    /// An encoder.
    ///
    /// # Errors
    /// Device errors.
    pub fn encoder_with(&self, options: EncoderOptions) -> Result<CommandEncoder> {
        CommandEncoder::new(self.clone(), options)
    }

    /// Hands finished commands over, with all that they use. With the stamp of an executable, which knows of the host's
    /// views, what it uses is not walked.
    pub(crate) fn submit(
        &self,
        commands: Arc<dyn CommandBuffer>,
        used: Arc<[Used]>,
        kernels: Arc<[Kernel]>,
        label: &str,
        stamp: Option<&Stamp>,
    ) -> Result<Submission> {
        self.0.core.reap()?;
        let core = &self.0.core;
        let mut submitted = core.turn();
        let looked_at = if stamp.is_none_or(Stamp::is_blocked) { &used[..] } else { &[] };
        for used in looked_at {
            let views = used.allocation.views.load(Ordering::Relaxed);
            if views < 0 || (used.is_written() && views > 0) {
                return Err(Error::Mapped { label: used.allocation.label.as_ref().into() });
            }
        }
        let value = *submitted + 1;
        let desc = SubmitDesc {
            label,
            commands: std::slice::from_ref(&commands),
            waits: &[],
            signals: &[(core.timeline, value)],
        };
        // SAFETY: the commands are fresh or have ended, and what they use is kept by the flight below until the signal.
        unsafe { core.hal.submit(&desc) }?;
        *submitted = value;
        match stamp {
            Some(stamp) => stamp.set(value),
            None => used.iter().for_each(|used| used.allocation.stamp(value, used.is_written())),
        }
        let end = Arc::new(OnceLock::new());
        core.launched(Flight { value, label: label.into(), commands, used, _kernels: kernels, end: end.clone() });
        drop(submitted);
        core.counters.submissions.fetch_add(1, Ordering::Relaxed);
        Ok(Submission::new(self.clone(), end, value, label.into()))
    }

    /// Waits until everything submitted so far has ended.
    ///
    /// # Errors
    /// Device errors.
    pub fn wait_idle(&self) -> Result<()> {
        let last = *self.0.core.turn();
        self.0.core.wait_for(last)?;
        self.0.core.reap()
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let info = self.info();
        write!(f, "Device({}: {})", info.backend, info.name)
    }
}

/// Memory with how it goes away.
struct Block {
    raw: RawBuffer,
    memory: MemoryKind,
    class: Option<u64>,
    owner: Option<Arc<dyn Any + Send + Sync>>,
}
