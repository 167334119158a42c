use std::fmt::Display;
use std::io;

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nobody reads the output any more.
    Closed,
    /// Something to tell.
    Message(String),
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(crate) fn new(message: impl Display) -> Failure {
        Failure::Message(message.to_string())
    }

    /// A file that cannot be read or written.
    pub(crate) fn file(action: &str, path: &std::path::Path, error: impl Display) -> Failure {
        Failure::Message(format!("cannot {action} {}: {error}", path.display()))
    }
}

impl From<kovar_lm::LmError> for Failure {
    fn from(error: kovar_lm::LmError) -> Failure {
        Failure::new(error)
    }
}

impl From<kovar::Error> for Failure {
    fn from(error: kovar::Error) -> Failure {
        Failure::new(error)
    }
}

/// For writes to standard output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::Closed,
            _ => Failure::Message(format!("cannot write the output: {error}")),
        }
    }
}
