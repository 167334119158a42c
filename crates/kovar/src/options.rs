use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use kovar_hal::{Backend, CpuChecks, CpuPaging, CpuSchedule, OpenOptions, Timing};

use crate::{Error, Kept, Settings};

/// Which device to open: `cpu`, `vulkan`, `vulkan:1`, `metal`, `null`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceChoice {
    /// The backend.
    pub backend: Backend,
    /// Which of its adapters, counted from 0 in the order of `Device::list`.
    pub index: usize,
}

impl DeviceChoice {
    /// The first adapter of a backend.
    pub const fn first(backend: Backend) -> DeviceChoice {
        DeviceChoice { backend, index: 0 }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.index == 0 { write!(f, "{}", self.backend) } else { write!(f, "{}:{}", self.backend, self.index) }
    }
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<DeviceChoice, Error> {
        let unknown = || Error::NoDevice {
            wanted: text.into(),
            reason: "say cpu, vulkan, metal or null, with :N for the N-th of its adapters".into(),
        };
        let (name, index) = text.split_once(':').unwrap_or((text, "0"));
        let backend = match name {
            "cpu" => Backend::Cpu,
            "vulkan" => Backend::Vulkan,
            "metal" => Backend::Metal,
            "null" => Backend::Null,
            _ => return Err(unknown()),
        };
        Ok(DeviceChoice { backend, index: index.parse().map_err(|_| unknown())? })
    }
}

/// How a device is opened.
#[derive(Debug, Clone, Default)]
pub struct DeviceOptions {
    /// Which. None: the first that opens, in the order of `Device::list`.
    pub device: Option<DeviceChoice>,
    /// The vendor's validation, with synchronisation checks; an error where it is not installed.
    pub validation: bool,
    /// CPU: threads that work, the one that waits among them. None: one a core.
    pub threads: Option<usize>,
    /// CPU: order of execution within a group.
    pub schedule: CpuSchedule,
    /// CPU: what is looked at while kernels run.
    pub checks: CpuChecks,
    /// CPU: when the pages of a buffer come into memory, and whether they stay.
    pub paging: CpuPaging,
    /// Copy mapped files into the device's own memory rather than use them in place: see [`Device::file`](crate::Device::file). On
    /// the CPU their bytes then lie on huge pages, which are faster to read, and take memory of their own.
    pub copy_files: bool,
    /// CPU, Vulkan and null: act as a device with memory of its own, so that what is written to
    /// [`MemoryKind::Device`](kovar_hal::MemoryKind) goes through the staging ring, and nothing is imported. It shows what a
    /// program does on a discrete GPU where there is none.
    pub discrete: bool,
    /// Bytes that the buffers of this device may take in all; one more is out of memory. None: what the device has.
    pub memory_limit: Option<u64>,
    /// How long a wait for one submission may take before it ends with [`HalError::Timeout`](kovar_hal::HalError::Timeout).
    /// The work goes on; a device that is dropped meanwhile leaves its memory to it. None: no limit.
    pub time_limit: Option<Duration>,
    /// A folder for translated kernels and compiled pipelines, so that the next start compiles nothing. Several processes
    /// may use it at once, and it can be deleted at any time. None: nothing is kept.
    pub cache: Option<PathBuf>,
    /// What libraries above want to know of it.
    pub settings: Settings,
}

impl DeviceOptions {
    /// Options for the first adapter of a backend, all else at its default.
    pub fn of(backend: Backend) -> DeviceOptions {
        DeviceOptions { device: Some(DeviceChoice::first(backend)), ..DeviceOptions::default() }
    }

    /// The part of them that the backend gets.
    pub(crate) fn open(&self) -> OpenOptions {
        let DeviceOptions { validation, threads, schedule, checks, paging, discrete, .. } = *self;
        OpenOptions { validation, threads, schedule, checks, paging, discrete }
    }

    /// Options for the device that the variable `KOVAR_DEVICE` names, if it is set; all else at its default.
    ///
    /// # Errors
    /// [`Error::NoDevice`] for a name that is none.
    pub fn from_environment() -> Result<DeviceOptions, Error> {
        let device = match std::env::var("KOVAR_DEVICE") {
            Ok(name) => Some(name.parse()?),
            Err(_) => None,
        };
        Ok(DeviceOptions { device, ..DeviceOptions::default() })
    }
}

/// Who places barriers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Barriers {
    /// The hazard tracker, where two commands conflict and nowhere else.
    #[default]
    Auto,
    /// The caller, with `barrier()`. A command that conflicts with its group is refused with
    /// [`Error::MissingBarrier`].
    Manual,
    /// Every command after the last.
    Serial,
}

/// When the first part of a recording is handed over, so that the device starts while the host still records.
///
/// ```
/// use kovar::Split;
///
/// assert_eq!(Split::of(1000).first(), 100); // a tenth
/// assert_eq!(Split::of(300).first(), 64); // but not less than 64 dispatches
/// assert_eq!(Split { percent: 50, at_least: 1, ..Split::of(300) }.first(), 150);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// Dispatches that the recording will have, as far as is known; 0 if it is not.
    pub expected: u32,
    /// The share of them that goes first, in percent.
    pub percent: u32,
    /// The first part has at least so many dispatches; a recording that has no more stays in one piece.
    pub at_least: u32,
}

impl Default for Split {
    fn default() -> Split {
        Split { expected: 0, percent: 10, at_least: 64 }
    }
}

impl Split {
    /// A tenth of so many dispatches, but at least 64.
    pub fn of(expected: u32) -> Split {
        Split { expected, ..Split::default() }
    }

    /// Dispatches of the first part.
    pub fn first(&self) -> u64 {
        (u64::from(self.expected) * u64::from(self.percent) / 100).max(u64::from(self.at_least)).max(1)
    }
}

/// How an encoder records.
#[derive(Debug, Clone, Default)]
pub struct EncoderOptions {
    /// Shown in vendor tools, profiles and errors.
    pub label: String,
    /// Who places barriers.
    pub barriers: Barriers,
    /// What times are kept.
    pub timing: Timing,
    /// Keep every command with its accesses and barriers, to be verified and explained: see
    /// [`Submission::trace`](crate::Submission::trace).
    pub trace: bool,
    /// Take the time that the host spends issuing barriers: see [`Stats::barrier_ns`](crate::Stats). It costs two looks at
    /// the clock for each.
    pub time_barriers: bool,
    /// Hand the first part over early. The device may then be at work before [`commit`](crate::CommandEncoder::commit), and
    /// until then nobody else may use what that part uses ([`Error::Unfinished`]). None: all at once.
    pub split: Option<Split>,
    /// Buffers that the recording uses without counting references. None: each buffer that it uses is counted, once.
    pub kept: Option<Kept>,
}
