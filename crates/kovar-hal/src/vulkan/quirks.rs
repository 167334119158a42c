use ash::vk;

/// What a driver does otherwise than Vulkan says, and the backend works around.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Quirks {
    /// Reading a query pool waits until the queue is idle, and so for work that waits for the host.
    pub(crate) queries_wait_for_queue: bool,
    /// The queue still looks at the semaphores that a submission waited for when it has signalled its end: they are kept
    /// until the device is idle.
    pub(crate) waits_outlive_signals: bool,
}

impl Quirks {
    pub(crate) fn of(driver: vk::DriverId) -> Quirks {
        match driver {
            // Seen in 22.3.6: `lvp_GetQueryPoolResults`, and a crash in the thread of the queue.
            vk::DriverId::MESA_LLVMPIPE => Quirks { queries_wait_for_queue: true, waits_outlive_signals: true },
            _ => Quirks::default(),
        }
    }
}
