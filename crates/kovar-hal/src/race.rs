use std::fmt;
use std::ops::Range;

/// Two accesses to the same bytes, one of them a write, with nothing that orders them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Race {
    /// Label of the command buffer.
    pub label: String,
    /// The access that was recorded first.
    pub earlier: RaceSide,
    /// The other.
    pub later: RaceSide,
    /// Further races of the same group, counted by command and slot.
    pub others: usize,
}

/// One side of a race.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaceSide {
    /// Label of the kernel's pipeline; `copy` or `fill`.
    pub kernel: String,
    /// Label of the dispatch, if it has one.
    pub label: String,
    /// Number of the command in its command buffer, counted from 0 without barriers.
    pub command: usize,
    /// Number of the task in the dispatch; `None` where the size of the dispatch was found out.
    pub task: Option<u32>,
    /// What of the command.
    pub place: RacePlace,
    /// Bytes that both sides touch, counted from the start of the place.
    pub bytes: Range<u64>,
    /// Whether it writes them.
    pub writes: bool,
    /// The kernel asked for the whole place, so that it may not have read these bytes.
    pub whole: bool,
}

/// What of a command holds the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RacePlace {
    /// A slot of a kernel.
    Slot(usize),
    /// The buffer from which an indirect grid is read.
    Grid,
    /// Source of a copy.
    Source,
    /// Destination of a copy or fill.
    Destination,
}

impl Race {
    /// RAW, WAR or WAW.
    pub fn kind(&self) -> &'static str {
        match (self.earlier.writes, self.later.writes) {
            (true, false) => "RAW",
            (false, _) => "WAR",
            (true, true) => "WAW",
        }
    }
}

impl fmt::Display for RacePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RacePlace::Slot(slot) => write!(f, "slot {slot}"),
            RacePlace::Grid => f.write_str("the grid"),
            RacePlace::Source => f.write_str("the source"),
            RacePlace::Destination => f.write_str("the destination"),
        }
    }
}

impl fmt::Display for RaceSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kernel)?;
        if !self.label.is_empty() && self.label != self.kernel {
            write!(f, " {:?}", self.label)?;
        }
        write!(f, " (command {}", self.command)?;
        if let Some(task) = self.task {
            write!(f, ", task {task}")?;
        }
        let Range { start, end } = self.bytes;
        let verb = if self.writes { "writes" } else { "reads" };
        write!(f, ") {verb} bytes {start}..{end} of {}", self.place)?;
        if self.whole && matches!(self.place, RacePlace::Slot(_)) {
            f.write_str(", for all it says: it asked for the whole slot")?;
        }
        Ok(())
    }
}

impl fmt::Display for Race {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Race { label, earlier, later, others } = self;
        let kind = self.kind();
        let cure = if earlier.command == later.command {
            "tasks of one dispatch run at the same time"
        } else {
            "no barrier stands between them"
        };
        write!(f, "race ({kind}) in {label:?}: {earlier}, and {later}; {cure}")?;
        if *others > 0 {
            write!(f, "; {others} more in this group")?;
        }
        Ok(())
    }
}
