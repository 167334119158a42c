use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kovar_hal::{BufferDesc, HalError, RawBuffer, RawEvent};

use super::parts::PartLedger;
use crate::encoder::Shelf;
use crate::flight::{Flight, Flights};
use crate::pool::Pool;
use crate::profile::{Collector, HostWork};
use crate::residency::{Owner, Residency};
use crate::staging::Ring;
use crate::stats::{Counters, Stats};
use crate::{DeviceOptions, Result};

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
    pub(super) flights: Mutex<Flights>,
    /// Locked after `submitted` and `flights`.
    pub(crate) parts: PartLedger,
    /// The last handle of the device is gone: whoever hands work over waits for it, for nobody lands it later.
    pub(super) closed: AtomicBool,
    /// How long a wait for a submission may take.
    limit: Option<Duration>,
    pool: Mutex<Pool>,
    pub(super) residency: Residency,
    /// Bytes that buffers may take.
    memory_limit: Option<u64>,
    pub(crate) copy_files: bool,
    /// Locked before `submitted`.
    pub(super) ring: Mutex<Ring>,
    pub(super) next_allocation: AtomicU64,
    /// The number of the next encoder in the upper bits, how many live in the lower 24: see `LIVING`.
    pub(crate) encoders: AtomicU64,
    /// Lists for recordings.
    pub(crate) shelf: Shelf,
    /// Whether there is a collector: nobody looks for one otherwise.
    profiled: AtomicBool,
    collector: Mutex<Option<Arc<Collector>>>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    pub(super) fn open(hal: Arc<dyn kovar_hal::Device>, options: &DeviceOptions) -> Result<Core> {
        let timeline = hal.create_event(0)?;
        Ok(Core {
            hal,
            counters: Counters::default(),
            timeline,
            submitted: Mutex::new(0),
            reached: AtomicU64::new(0),
            flights: Mutex::default(),
            parts: PartLedger::default(),
            closed: AtomicBool::new(false),
            limit: options.time_limit,
            pool: Mutex::default(),
            residency: Residency::default(),
            memory_limit: options.memory_limit,
            copy_files: options.copy_files,
            ring: Mutex::default(),
            next_allocation: AtomicU64::new(0),
            encoders: AtomicU64::new(0),
            shelf: Shelf::default(),
            profiled: AtomicBool::new(false),
            collector: Mutex::default(),
        })
    }

    pub(crate) fn turn(&self) -> MutexGuard<'_, u64> {
        lock(&self.submitted)
    }

    pub(crate) fn pool(&self) -> MutexGuard<'_, Pool> {
        lock(&self.pool)
    }

    /// The largest number of a submission that is known to have ended.
    pub(super) fn reached(&self) -> u64 {
        self.reached.load(Ordering::Acquire)
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
        let there = self.sleep_until(value, timeout);
        let waited = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.counters.wait_ns.fetch_add(waited, Ordering::Relaxed);
        if let Some(collector) = self.collector() {
            collector.host(HostWork::Wait, "", Some(value), begun);
        }
        there
    }

    fn sleep_until(&self, value: u64, timeout: Option<Duration>) -> Result<bool> {
        // SAFETY: as above.
        let there = unsafe { self.hal.wait_event(self.timeline, value, timeout) }.map_err(|e| self.blame(e))?;
        if there {
            self.reached.fetch_max(value, Ordering::AcqRel);
        }
        Ok(there)
    }

    /// Waits for the submission that ends next, or for `last` if that ends before. Gives its number. It is no wait of the
    /// host's, which goes on.
    pub(crate) fn wait_for_next(&self, last: u64) -> Result<u64> {
        let next = last.min(self.reached.load(Ordering::Acquire) + 1);
        if self.has_reached(next)? || self.sleep_until(next, self.limit)? { Ok(next) } else { Ok(last) }
    }

    /// Waits for a submission, for as long as the device's options allow.
    pub(crate) fn wait_for(&self, value: u64) -> Result<()> {
        if self.wait_until(value, self.limit)? {
            return Ok(());
        }
        let label = lock(&self.flights).first().map_or("unknown".into(), |flight| flight.label.to_string());
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
    pub(super) fn launched(&self, flight: Flight) {
        lock(&self.flights).launch(flight);
    }

    /// Lets go of what ended submissions used, as far as they are known to have ended.
    pub(crate) fn settle(&self) {
        let ended = lock(&self.flights).land(self.reached());
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

    /// Who keeps the times of what is submitted from now on.
    pub(crate) fn set_collector(&self, collector: Option<Arc<Collector>>) {
        let mut place = lock(&self.collector);
        self.profiled.store(collector.is_some(), Ordering::Relaxed);
        *place = collector;
    }

    /// Lets go of a collector, unless another has taken its place.
    pub(crate) fn drop_collector(&self, collector: &Arc<Collector>) {
        let mut place = lock(&self.collector);
        if place.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, collector)) {
            self.profiled.store(false, Ordering::Relaxed);
            *place = None;
        }
    }

    pub(crate) fn collector(&self) -> Option<Arc<Collector>> {
        if self.profiled.load(Ordering::Relaxed) { lock(&self.collector).clone() } else { None }
    }

    pub(super) fn create(&self, desc: &BufferDesc<'_>) -> Result<RawBuffer> {
        let raw = match self.try_create(desc) {
            Err(HalError::OutOfMemory { .. }) if self.residency.holds_memory() => {
                self.residency.flush(self.hal.as_ref(), &self.counters)?;
                self.try_create(desc)?
            }
            made => made?,
        };
        self.counters.add(&Stats { allocations: 1, bytes_allocated: desc.size, ..Stats::default() });
        self.residency.add(raw, &self.counters);
        Ok(raw)
    }

    fn try_create(&self, desc: &BufferDesc<'_>) -> Result<RawBuffer, HalError> {
        if let Some(limit) = self.memory_limit
            && self.memory_used().saturating_add(desc.size) > limit
        {
            let reason = format!("the program allows {limit} bytes in all");
            return Err(HalError::OutOfMemory { label: desc.label.into(), bytes: desc.size, reason });
        }
        self.hal.create_buffer(desc)
    }

    /// Bytes of all buffers.
    pub(crate) fn memory_used(&self) -> u64 {
        self.residency.bytes()
    }

    /// Bytes that can still be allocated: what the driver tells, else what of the device's memory is not used, and no more
    /// than the program allows.
    pub(crate) fn available(&self) -> u64 {
        // What waits to be destroyed is as good as free. A device that fails here fails at the next commit too.
        let _ = self.residency.flush(self.hal.as_ref(), &self.counters);
        let used = self.memory_used();
        let left = self.hal.memory_left().unwrap_or_else(|| self.hal.info().memory.total.saturating_sub(used));
        self.memory_limit.map_or(left, |limit| left.min(limit.saturating_sub(used)))
    }

    /// Destroys a buffer, once it is out of the residency set, and then lets go of what it lies in.
    ///
    /// # Safety
    /// It is of this core, is destroyed once, and nothing uses it any more.
    pub(crate) unsafe fn destroy(&self, raw: RawBuffer, owner: Option<Owner>) {
        // SAFETY: passed on from the caller.
        unsafe { self.residency.remove(raw, owner, self.hal.as_ref(), &self.counters) };
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        for raw in lock(&self.pool).drain().into_iter().chain(lock(&self.ring).raw) {
            // SAFETY: blocks in the pool are used by nobody, and transfers have ended as submissions have: see below.
            unsafe { self.destroy(raw, None) };
        }
        self.residency.close(self.hal.as_ref());
        // SAFETY: every submission has ended: `Shared` waited for them when it was dropped.
        unsafe { self.hal.destroy_event(self.timeline) };
    }
}
