use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;

use kovar::{Device, DeviceOptions};
use kovar_lm::{LoadProgress, Model, Precision, Session, SessionOptions};

use crate::arguments::Setup;
use crate::error::Result;
use crate::report::mebibytes;

impl Setup {
    /// Opens the device, loads the model and begins an empty text.
    pub(crate) fn session(&self) -> Result<Session> {
        let mut options = match self.device {
            Some(_) => DeviceOptions { device: self.device, ..DeviceOptions::default() },
            None => DeviceOptions::from_environment()?,
        };
        options.threads = self.threads;
        options.cache = cache_dir();
        let device = Device::open(&options)?;
        let model = self.load(&device)?;
        let precision = if self.fast && !self.exact { Precision::Fast } else { Precision::Exact };
        Ok(Session::new(Arc::new(model), &SessionOptions { precision, ..SessionOptions::default() })?)
    }

    /// Progress is for people: it shows on a terminal only, and is wiped when loading has ended.
    fn load(&self, device: &Device) -> Result<Model> {
        let mut terminal = std::io::stderr();
        if !terminal.is_terminal() {
            return Ok(Model::load(device, &self.model)?);
        }
        let mut shown = None;
        let result = Model::load_with(device, &self.model, |progress: LoadProgress| {
            let percent = progress.done() * 100 / progress.total.max(1);
            if shown != Some(percent) {
                shown = Some(percent);
                let total = mebibytes(progress.total);
                let _ = write!(
                    terminal,
                    "\rloading {} on {}: {percent} % of {total}",
                    self.model.display(),
                    device.info().backend
                );
            }
        });
        let _ = write!(terminal, "\r\x1b[K");
        Ok(result?)
    }
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
