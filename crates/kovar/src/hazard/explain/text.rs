use std::fmt;

use super::style::count;
use super::{Barrier, Command, Explanation, Reason, Use};

impl Explanation {
    /// One line: counts and the length of the critical path.
    pub fn summary(&self) -> String {
        let mut line = format!(
            "{} in {}, {}; critical path: {}",
            count(self.commands.len(), "command"),
            count(self.groups.len(), "group"),
            self.barriers(),
            count(self.critical_path.len(), "command"),
        );
        if self.commands.iter().any(|command| command.cost != 1.0) {
            line += &format!(", cost {:.6} of {:.6}", self.critical_cost, self.total_cost);
        }
        if !self.missing.is_empty() {
            line += &format!("; {} MISSING", count(self.missing.len(), "barrier"));
        }
        line
    }

    /// A sentence that says why two commands conflict.
    pub fn sentence(&self, reason: &Reason) -> String {
        let Reason { kind, earlier, later, buffer, bytes } = reason;
        let label = |index: &usize| self.commands.get(*index).map_or("", |command| command.label.as_str());
        format!(
            "{kind} on {buffer}, bytes {}..{}: {} ({later}) after {} ({earlier})",
            bytes.start,
            bytes.end,
            label(later),
            label(earlier)
        )
    }

    pub(super) fn barrier_lines(&self, barrier: &Barrier) -> Vec<String> {
        let mut lines: Vec<String> = barrier.reasons.iter().map(|reason| self.sentence(reason)).collect();
        if barrier.asked {
            lines.insert(0, "asked for by the caller".into());
        }
        if barrier.reasons.is_empty() {
            lines.push("not needed: nothing on its two sides conflicts".into());
        }
        lines
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Use { slot, buffer, bytes, written } = self;
        let verb = if *written { "writes" } else { "reads" };
        write!(f, "{verb} {buffer} {}..{}", bytes.start, bytes.end)?;
        if slot.is_empty() { Ok(()) } else { write!(f, " as {slot}") }
    }
}

/// Its label, with the kernel where that is another name, and its grid.
pub(super) fn title(command: &Command) -> String {
    let mut title = command.label.clone();
    if let Some(kernel) = command.kernel.as_ref().filter(|kernel| **kernel != command.label) {
        title += &format!(" ({kernel})");
    }
    if !command.grid.is_empty() {
        title += &format!(" {}", command.grid);
    }
    title
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.label, self.summary())?;
        for reason in &self.missing {
            writeln!(f, "MISSING BARRIER: {}", self.sentence(reason))?;
        }
        for (number, group) in self.groups.iter().enumerate() {
            writeln!(f, "\ngroup {}", number + 1)?;
            for line in group.barrier.iter().flat_map(|barrier| self.barrier_lines(barrier)) {
                writeln!(f, "    | {line}")?;
            }
            for index in group.commands.clone() {
                let command = &self.commands[index];
                let mark = if command.critical { '*' } else { ' ' };
                let uses: Vec<String> = command.uses.iter().map(ToString::to_string).collect();
                writeln!(
                    f,
                    "{index:5} {mark} {:11} {}: {}",
                    format!("{:?}", command.kind),
                    title(command),
                    uses.join(", ")
                )?;
            }
        }
        let path: Vec<String> = self.critical_path.iter().map(ToString::to_string).collect();
        writeln!(f, "\ncritical path (*): {}", path.join(" > "))
    }
}
