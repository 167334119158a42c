use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use kovar_hal::{CommandBuffer, SubmitDesc};

use super::Device;
use crate::claim::Stamp;
use crate::flight::{Flight, Used, Watch};
use crate::kernel::Kernel;
use crate::profile::Command;
use crate::{Error, Result, Submission};

impl Device {
    /// Hands finished commands over, with all that they use. With the stamp of an executable, which knows of the host's
    /// views, what it uses is not walked.
    pub(crate) fn submit(
        &self,
        commands: Arc<dyn CommandBuffer>,
        used: Arc<[Used]>,
        kernels: Arc<[Kernel]>,
        label: &str,
        stamp: Option<&Stamp>,
        listed: Option<Arc<[Command]>>,
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
        let watch = core.collector().map(|collector| Watch { collector, submitted: Instant::now() });
        // SAFETY: the commands are fresh or have ended, and what they use is kept by the flight below until the signal.
        unsafe { core.hal.submit(&desc) }?;
        *submitted = value;
        match stamp {
            Some(stamp) => stamp.set(value),
            None => used.iter().for_each(|used| used.allocation.stamp(value, used.is_written())),
        }
        let end = Arc::new(OnceLock::new());
        let label: Box<str> = label.into();
        let flight = Flight { value, label, commands, used, _kernels: kernels, listed, watch, end: end.clone() };
        let label = flight.label.to_string();
        core.launched(flight);
        drop(submitted);
        core.counters.submissions.fetch_add(1, Ordering::Relaxed);
        Ok(Submission::new(self.clone(), end, value, label))
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
