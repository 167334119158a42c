use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::handover::{Handover, List, Points, Submission};
use super::recorder::CpuCommandBuffer;
use super::walk::Crew;
use crate::timeline::HostEvent;
use crate::{CommandBuffer, HalError, Result};

/// A command buffer as the threads of a device walk it. One of another backend has nothing to do.
#[derive(Clone)]
struct Walk {
    commands: Arc<dyn CommandBuffer>,
    crew: Crew,
}

impl Walk {
    fn list(&self) -> Option<&CpuCommandBuffer> {
        self.commands.as_any().downcast_ref()
    }
}

impl List for Walk {
    fn begin(&self) -> bool {
        self.list().is_none_or(|list| list.begin(&self.crew))
    }

    fn has_ended(&self) -> bool {
        self.list().is_none_or(CpuCommandBuffer::has_ended)
    }

    fn help(&self, leave: impl FnMut() -> bool) -> bool {
        self.list().is_some_and(|list| list.help(&self.crew, leave))
    }
}

/// Submissions in order, and the threads that execute them.
pub(crate) struct Queue {
    handover: Arc<Handover<Walk>>,
    crew: Crew,
    workers: Vec<JoinHandle<()>>,
    host_helps: bool,
}

impl Queue {
    /// The threads of a crew count the host thread that waits and helps; there is always a worker besides it, so that work goes on
    /// while nobody waits.
    pub(crate) fn new(crew: Crew) -> Result<Queue> {
        let host_helps = crew.threads > 1 && !crew.is_alone();
        let workers = if host_helps { crew.threads as usize - 1 } else { 1 };
        let handover = Arc::new(Handover::new());
        let mut queue = Queue { handover, crew, workers: Vec::with_capacity(workers), host_helps };
        for index in 0..workers {
            let handover = queue.handover.clone();
            let worker = std::thread::Builder::new()
                .name(format!("kovar-cpu-{index}"))
                .spawn(move || handover.work())
                .map_err(|e| HalError::Driver { call: "starting a worker thread", reason: e.to_string() })?;
            queue.workers.push(worker);
        }
        Ok(queue)
    }

    pub(crate) fn crew(&self) -> &Crew {
        &self.crew
    }

    pub(crate) fn submit(&self, commands: &[Arc<dyn CommandBuffer>], waits: Points, signals: Points) {
        let walk = |commands: &Arc<dyn CommandBuffer>| Walk { commands: commands.clone(), crew: self.crew };
        self.handover.submit(Submission { lists: commands.iter().map(walk).collect(), waits, signals });
    }

    /// Raises an event from the host; what waited for it may start.
    pub(crate) fn signal(&self, event: &HostEvent, value: u64) {
        self.handover.signal(event, value);
    }

    /// Waits for a value, working while there is work. `false` if the time ran out.
    pub(crate) fn wait(&self, event: &HostEvent, value: u64, timeout: Option<Duration>) -> bool {
        self.handover.wait(event, value, timeout, self.host_helps)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.handover.stop();
        for worker in self.workers.drain(..) {
            // A worker catches what kernels throw; it has no panic of its own to report.
            let _ = worker.join();
        }
    }
}
