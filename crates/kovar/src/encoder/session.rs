use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};

use super::encoder::transfer;
use super::{CommandEncoder, Submission};
use crate::{Device, EncoderOptions, Error, Result};

/// A chain of stages, each a command buffer of its own that starts when the one before has ended: on the device, by its
/// timeline event, without the host.
///
/// A [`Stage`] borrows its session until it is fenced or dropped, so that stages out of order do not compile. The event
/// rises by each submission to its [number](Submission::number), which never comes twice. Dropping a stage leaves it out,
/// dropping the session lets fenced stages run to their end.
///
/// ```
/// # use kovar::{Backend, DType, Device, DeviceOptions};
/// let device = Device::open(&DeviceOptions::of(Backend::Cpu))?;
/// let x = device.buffer(DType::U32, &[4])?;
/// let mut session = device.session("decode");
/// for step in 1..=3 {
///     let mut stage = session.stage("step")?;
///     stage.fill(&x, step)?;
///     let _runs_on = stage.fence()?;
/// }
/// session.drain()?;
/// assert_eq!((session.fenced(), session.pending()?), (3, 0));
/// assert_eq!(x.read::<u32>()?, [3; 4]);
/// # Ok::<(), kovar::Error>(())
/// ```
pub struct Session {
    device: Device,
    label: String,
    fenced: u64,
    /// Number of the last stage.
    last: Option<u64>,
    running: VecDeque<Submission>,
    failed: Option<Error>,
}

/// A stage in the making: an encoder whose commands run after the stage before.
#[must_use = "a stage that is not fenced is left out"]
pub struct Stage<'a> {
    session: &'a mut Session,
    encoder: CommandEncoder,
}

impl Device {
    /// Begins a chain of stages. Errors and tools show its stages as `label/stage`.
    pub fn session(&self, label: &str) -> Session {
        let (device, label) = (self.clone(), label.into());
        Session { device, label, fenced: 0, last: None, running: VecDeque::new(), failed: None }
    }
}

impl Session {
    /// Begins the next stage.
    ///
    /// # Errors
    /// Device errors.
    pub fn stage(&mut self, label: &str) -> Result<Stage<'_>> {
        self.stage_with(EncoderOptions { label: label.into(), ..EncoderOptions::default() })
    }

    /// As [`stage`](Session::stage), with options.
    ///
    /// # Errors
    /// Device errors.
    pub fn stage_with(&mut self, options: EncoderOptions) -> Result<Stage<'_>> {
        self.collect()?;
        let label = format!("{}/{}", self.label, options.label);
        let mut encoder = self.device.encoder_with(EncoderOptions { label, ..options })?;
        encoder.waits.submission = self.last;
        Ok(Stage { session: self, encoder })
    }

    /// Stages fenced so far.
    pub fn fenced(&self) -> u64 {
        self.fenced
    }

    /// Fenced stages that have not ended.
    ///
    /// # Errors
    /// Device errors.
    pub fn pending(&self) -> Result<u64> {
        let ended = self.running.iter().map(Submission::is_done).take_while(|done| !matches!(done, Ok(false)));
        let ended = ended.collect::<Result<Vec<_>>>()?.len();
        Ok((self.running.len() - ended) as u64)
    }

    /// Whether every fenced stage has ended.
    ///
    /// # Errors
    /// Device errors.
    pub fn is_drained(&self) -> Result<bool> {
        Ok(self.pending()? == 0)
    }

    /// Waits for every fenced stage. More stages may follow.
    ///
    /// # Errors
    /// That of the first stage that failed since the last call.
    pub fn drain(&mut self) -> Result<()> {
        while let Some(stage) = self.running.pop_front() {
            self.note(stage.wait().map(drop));
        }
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Lets go of stages that have ended.
    fn collect(&mut self) -> Result<()> {
        while self.running.front().map_or(Ok(false), Submission::is_done)? {
            if let Some(stage) = self.running.pop_front() {
                self.note(stage.wait().map(drop));
            }
        }
        Ok(())
    }

    fn note(&mut self, result: Result<()>) {
        if let Err(error) = result {
            self.failed.get_or_insert(error);
        }
    }
}

impl Stage<'_> {
    /// Hands the stage to the device, to run after the stage before.
    ///
    /// # Errors
    /// As [`CommandEncoder::commit`]. The stage is then left out, and its place in the chain is free.
    pub fn fence(self) -> Result<Submission> {
        let Stage { session, encoder } = self;
        if !encoder.device.is(&session.device) {
            return Err(transfer(format!("a stage of {:?} records for another device", session.label)));
        }
        let submission = encoder.commit()?;
        session.fenced += 1;
        session.last = Some(submission.number());
        session.running.push_back(submission.twin());
        Ok(submission)
    }
}

impl Deref for Stage<'_> {
    type Target = CommandEncoder;

    fn deref(&self) -> &CommandEncoder {
        &self.encoder
    }
}

impl DerefMut for Stage<'_> {
    fn deref_mut(&mut self) -> &mut CommandEncoder {
        &mut self.encoder
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({:?}, {} fenced)", self.label, self.fenced)
    }
}
