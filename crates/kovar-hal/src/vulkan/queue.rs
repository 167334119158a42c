use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ash::vk;

use super::capabilities::Capabilities;
use super::device::Gpu;
use super::order;
use super::recording::{self, VulkanCommandBuffer};
use crate::{HalError, RawEvent, Result, SubmitDesc};

/// A queue, and lists that a submission needs, kept so that it allocates nothing.
pub(crate) struct Lane {
    raw: vk::Queue,
    commands: Vec<vk::CommandBuffer>,
    waits: Vec<vk::Semaphore>,
    wait_values: Vec<u64>,
    wait_stages: Vec<vk::PipelineStageFlags>,
    signals: Vec<vk::Semaphore>,
    signal_values: Vec<u64>,
}

/// Clears fresh buffers that the host does not see.
#[derive(Default)]
struct Filler {
    pool: vk::CommandPool,
    commands: vk::CommandBuffer,
    fence: vk::Fence,
}

/// Semaphores that submissions waited for: alive, and given up while the queue may still look at them.
#[derive(Default)]
struct Waited {
    alive: HashSet<vk::Semaphore>,
    given_up: Vec<vk::Semaphore>,
}

pub(crate) struct Queues {
    main: Mutex<Lane>,
    /// A second queue for clearing, so that a buffer can be made while the first one waits for an event of the host.
    /// The device may have but one.
    side: Option<Mutex<Lane>>,
    filler: Mutex<Filler>,
    /// Where the driver has `Quirks::waits_outlive_signals`.
    waited: Mutex<Waited>,
    family: u32,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queues {
    pub(crate) fn new(device: &ash::Device, capabilities: &Capabilities) -> Queues {
        let family = capabilities.queue_family;
        let lane = |index| {
            Mutex::new(Lane {
                // SAFETY: the device was opened with two queues of the family, or with as many as it has.
                raw: unsafe { device.get_device_queue(family, index) },
                commands: Vec::new(),
                waits: Vec::new(),
                wait_values: Vec::new(),
                wait_stages: Vec::new(),
                signals: Vec::new(),
                signal_values: Vec::new(),
            })
        };
        let side = (capabilities.queues > 1).then(|| lane(1));
        Queues { main: lane(0), side, filler: Mutex::default(), waited: Mutex::default(), family }
    }

    pub(crate) fn family(&self) -> u32 {
        self.family
    }

    pub(crate) fn lock_all(&self) -> (MutexGuard<'_, Lane>, Option<MutexGuard<'_, Lane>>) {
        (lock(&self.main), self.side.as_ref().map(lock))
    }

    /// # Safety
    /// The queues are idle.
    pub(crate) unsafe fn destroy(&self, device: &ash::Device) {
        let filler = std::mem::take(&mut *lock(&self.filler));
        // SAFETY: idle; null handles are ignored.
        unsafe {
            for semaphore in lock(&self.waited).given_up.drain(..) {
                device.destroy_semaphore(semaphore, None);
            }
            device.destroy_fence(filler.fence, None);
            device.destroy_command_pool(filler.pool, None);
        }
    }
}

impl Gpu {
    /// # Safety
    /// As for `Device::submit`.
    pub(crate) unsafe fn submit(&self, desc: &SubmitDesc<'_>) -> Result<()> {
        let mut lane = lock(&self.queues.main);
        let Lane { raw, commands, waits, wait_values, wait_stages, signals, signal_values } = &mut *lane;
        commands.clear();
        for command in desc.commands {
            let Some(command) = command.as_any().downcast_ref::<VulkanCommandBuffer>() else {
                return Err(HalError::Driver {
                    call: "submit",
                    reason: format!("a command buffer of {:?} is of another backend", desc.label),
                });
            };
            commands.push(command.raw());
        }
        collect(desc.waits, waits, wait_values);
        collect(desc.signals, signals, signal_values);
        if self.capabilities.quirks.waits_outlive_signals {
            lock(&self.queues.waited).alive.extend(waits.iter());
        }
        wait_stages.clear();
        wait_stages.resize(waits.len(), vk::PipelineStageFlags::ALL_COMMANDS);
        let mut values = vk::TimelineSemaphoreSubmitInfo::default()
            .wait_semaphore_values(wait_values)
            .signal_semaphore_values(signal_values);
        let info = vk::SubmitInfo::default()
            .command_buffers(commands)
            .wait_semaphores(waits)
            .wait_dst_stage_mask(wait_stages)
            .signal_semaphores(signals)
            .push_next(&mut values);
        // SAFETY: the lane's lock keeps the queue to this thread; the rest is the caller's promise.
        unsafe { self.raw.queue_submit(*raw, &[info], vk::Fence::null()) }
            .map_err(|e| self.failure("vkQueueSubmit", e, desc.label))?;
        for command in desc.commands {
            if let Some(command) = command.as_any().downcast_ref::<VulkanCommandBuffer>() {
                command.mark_submitted();
            }
        }
        Ok(())
    }

    /// Sets all bytes of a buffer to zero and waits until that is done.
    pub(crate) fn fill_and_wait(&self, buffer: vk::Buffer) -> Result<()> {
        let fail = |call: &'static str| move |e| self.failure(call, e, "clearing a buffer");
        let mut filler = lock(&self.queues.filler);
        if filler.fence == vk::Fence::null() {
            let (pool, commands) = recording::create_commands(self)?;
            filler.pool = pool;
            filler.commands = commands;
            // SAFETY: the device is alive.
            filler.fence = unsafe { self.raw.create_fence(&vk::FenceCreateInfo::default(), None) }
                .map_err(fail("vkCreateFence"))?;
        }
        let Filler { pool, commands, fence } = *filler;
        let begin = vk::CommandBufferBeginInfo::default().flags(vk::CommandBufferUsageFlags::ONE_TIME_SUBMIT);
        let list = [commands];
        // SAFETY: the filler's lock keeps pool, command buffer and fence to this thread, and the last use has ended;
        // the lane's lock keeps the queue to it for the submission.
        unsafe {
            self.raw
                .reset_command_pool(pool, vk::CommandPoolResetFlags::empty())
                .map_err(fail("vkResetCommandPool"))?;
            self.raw.begin_command_buffer(commands, &begin).map_err(fail("vkBeginCommandBuffer"))?;
            self.raw.cmd_fill_buffer(commands, buffer, 0, vk::WHOLE_SIZE, 0);
            order::host_barrier(self, commands);
            self.raw.end_command_buffer(commands).map_err(fail("vkEndCommandBuffer"))?;
            let info = [vk::SubmitInfo::default().command_buffers(&list)];
            {
                let lane = lock(self.queues.side.as_ref().unwrap_or(&self.queues.main));
                self.raw.queue_submit(lane.raw, &info, fence).map_err(fail("vkQueueSubmit"))?;
            }
            self.raw.wait_for_fences(&[fence], true, u64::MAX).map_err(fail("vkWaitForFences"))?;
            self.raw.reset_fences(&[fence]).map_err(fail("vkResetFences"))
        }
    }

    pub(crate) fn create_event(&self, value: u64) -> Result<RawEvent> {
        let mut kind =
            vk::SemaphoreTypeCreateInfo::default().semaphore_type(vk::SemaphoreType::TIMELINE).initial_value(value);
        let info = vk::SemaphoreCreateInfo::default().push_next(&mut kind);
        // SAFETY: the device is alive.
        let semaphore = unsafe { self.raw.create_semaphore(&info, None) }
            .map_err(|e| self.failure("vkCreateSemaphore", e, "event"))?;
        Ok(RawEvent(vk::Handle::as_raw(semaphore) as usize))
    }

    /// # Safety
    /// As for `Device::destroy_event`, here and below for the calls of the same names.
    pub(crate) unsafe fn destroy_event(&self, event: RawEvent) {
        let semaphore = semaphore(event);
        if self.capabilities.quirks.waits_outlive_signals {
            let mut waited = lock(&self.queues.waited);
            if waited.alive.remove(&semaphore) {
                return waited.given_up.push(semaphore);
            }
        }
        // SAFETY: passed on from the caller.
        unsafe { self.raw.destroy_semaphore(semaphore, None) }
    }

    pub(crate) unsafe fn event_value(&self, event: RawEvent) -> Result<u64> {
        // SAFETY: passed on from the caller.
        unsafe { self.raw.get_semaphore_counter_value(semaphore(event)) }
            .map_err(|e| self.failure("vkGetSemaphoreCounterValue", e, "event"))
    }

    pub(crate) unsafe fn signal_event(&self, event: RawEvent, value: u64) -> Result<()> {
        let info = vk::SemaphoreSignalInfo::default().semaphore(semaphore(event)).value(value);
        // SAFETY: passed on from the caller.
        unsafe { self.raw.signal_semaphore(&info) }.map_err(|e| self.failure("vkSignalSemaphore", e, "event"))
    }

    pub(crate) unsafe fn wait_event(&self, event: RawEvent, value: u64, timeout: Option<Duration>) -> Result<bool> {
        let (semaphores, values) = ([semaphore(event)], [value]);
        let info = vk::SemaphoreWaitInfo::default().semaphores(&semaphores).values(&values);
        let begun = Instant::now();
        loop {
            let left = timeout.map(|limit| limit.saturating_sub(begun.elapsed()));
            let limit = left.map_or(u64::MAX, |left| u64::try_from(left.as_nanos()).unwrap_or(u64::MAX));
            // SAFETY: passed on from the caller.
            match unsafe { self.raw.wait_semaphores(&info, limit) } {
                Ok(()) => return Ok(true),
                // NVIDIA's driver may be back a moment early.
                Err(vk::Result::TIMEOUT) if left.is_some_and(|left| left.is_zero()) => return Ok(false),
                Err(vk::Result::TIMEOUT) => {}
                Err(e) => return Err(self.failure("vkWaitSemaphores", e, "event")),
            }
        }
    }
}

fn semaphore(event: RawEvent) -> vk::Semaphore {
    vk::Handle::from_raw(event.0 as u64)
}

fn collect(list: &[(RawEvent, u64)], semaphores: &mut Vec<vk::Semaphore>, values: &mut Vec<u64>) {
    semaphores.clear();
    semaphores.extend(list.iter().map(|(event, _)| semaphore(*event)));
    values.clear();
    values.extend(list.iter().map(|(_, value)| *value));
}
