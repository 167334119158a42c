use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kovar::{Device, DeviceOptions, Settings};
use kovar_lm::{LoadProgress, Model, Precision, Session, SessionOptions, SyntheticWeights, shape};
use kovar_ops::tuning::Table;

use crate::arguments::{Place, Running, Setup, Weights};
use crate::error::{Failure, Result};
use crate::report::mebibytes;

impl Setup {
    /// Opens the device, loads the model and begins an empty text.
    pub(crate) fn session(&self) -> Result<Session> {
        let device = self.running.open()?;
        let model = load(&device, &self.model)?;
        let options = SessionOptions { precision: self.running.precision(), ..SessionOptions::default() };
        Ok(Session::new(Arc::new(model), &options)?)
    }
}

impl Weights {
    /// Whether there are any.
    pub(crate) fn is_given(&self) -> bool {
        self.model.is_some() || self.synthetic.is_some()
    }

    pub(crate) fn load(&self, device: &Device) -> Result<Model> {
        match (&self.model, self.synthetic.as_deref().and_then(shape)) {
            (Some(folder), _) => load(device, folder),
            (None, Some(config)) => {
                let weights = SyntheticWeights { bits: self.bits, group: self.group, seed: 0 };
                Ok(Model::synthetic(device, &config, &weights)?)
            }
            (None, None) => Err(Failure::new("give --model or --synthetic")),
        }
    }

    pub(crate) fn name(&self) -> String {
        match (&self.model, &self.synthetic) {
            (Some(folder), _) => folder.display().to_string(),
            (None, shape) => {
                let shape = shape.as_deref().unwrap_or_default();
                format!("{shape}, made-up weights, {} bits in groups of {}", self.bits, self.group)
            }
        }
    }
}

impl Place {
    /// Opens the device.
    pub(crate) fn open(&self) -> Result<Device> {
        let Some(file) = &self.tuning else { return self.open_with(Settings::default()) };
        let text = std::fs::read_to_string(file).map_err(|e| Failure::new(format!("{}: {e}", file.display())))?;
        let table = Table::parse(&text).map_err(|e| Failure::new(format!("{}: {e}", file.display())))?;
        self.open_with(Settings::default().with(table))
    }

    /// Opens the device with these settings.
    pub(crate) fn open_with(&self, settings: Settings) -> Result<Device> {
        let mut options = match self.device {
            Some(_) => DeviceOptions { device: self.device, ..DeviceOptions::default() },
            None => DeviceOptions::from_environment()?,
        };
        options.threads = self.threads;
        options.memory_limit = self.memory.map(|mebibytes| mebibytes.saturating_mul(1 << 20));
        options.copy_files = self.copy_weights;
        options.cache = cache_dir();
        options.settings = settings;
        Ok(Device::open(&options)?)
    }
}

impl Running {
    pub(crate) fn open(&self) -> Result<Device> {
        self.place.open()
    }

    pub(crate) fn precision(&self) -> Precision {
        if self.exact { Precision::Exact } else { Precision::Fast }
    }

    /// The precision in words.
    pub(crate) fn arithmetic(&self) -> &'static str {
        match self.precision() {
            Precision::Exact => "exact",
            Precision::Fast => "activations rounded to 8 bits",
        }
    }
}

/// Progress is for people: it shows on a terminal only, and is wiped when loading has ended.
pub(crate) fn load(device: &Device, folder: &Path) -> Result<Model> {
    let mut terminal = std::io::stderr();
    if !terminal.is_terminal() {
        return Ok(Model::load(device, folder)?);
    }
    let mut shown = None;
    let result = Model::load_with(device, folder, |progress: LoadProgress| {
        let percent = progress.done() * 100 / progress.total.max(1);
        if shown != Some(percent) {
            shown = Some(percent);
            let total = mebibytes(progress.total);
            let _ =
                write!(terminal, "\rloading {} on {}: {percent} % of {total}", folder.display(), device.info().backend);
        }
    });
    let _ = write!(terminal, "\r\x1b[K");
    Ok(result?)
}

/// Where programs of this user keep what they can make again, in a folder of Kovar's own; `None` if the system does not
/// tell.
fn cache_dir() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = if cfg!(target_os = "macos") {
        variable("HOME").map(|home| home.join("Library").join("Caches"))
    } else if cfg!(windows) {
        variable("LOCALAPPDATA")
    } else {
        variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")))
    };
    Some(base?.join("kovar"))
}
