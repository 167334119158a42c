use std::fmt::Write;

use super::style::{short_buffer, stroke};
use super::text::title;
use super::{Explanation, Reason};
use crate::picture::fill;

fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            '\n' => quoted.push_str("\\n"),
            '\r' => {}
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Writing to a string cannot fail.
pub(super) fn write(explanation: &Explanation) -> String {
    let mut out = String::new();
    let _ = body(explanation, &mut out);
    out
}

fn body(explanation: &Explanation, out: &mut String) -> std::fmt::Result {
    writeln!(out, "digraph {} {{", quote(&explanation.label))?;
    writeln!(out, "  label={}; labelloc=t; rankdir=LR; fontname=Helvetica;", quote(&explanation.summary()))?;
    writeln!(out, "  node [shape=box, style=\"filled,rounded\", fontname=Helvetica];")?;
    writeln!(out, "  edge [fontname=Helvetica, fontsize=10];")?;
    for (number, group) in explanation.groups.iter().enumerate() {
        let caption = group.barrier.iter().flat_map(|barrier| explanation.barrier_lines(barrier).into_iter().take(1));
        let caption: String =
            std::iter::once(format!("group {}", number + 1)).chain(caption).collect::<Vec<_>>().join("\n");
        writeln!(out, "  subgraph cluster_{number} {{\n    label={}; color=gray; fontsize=10;", quote(&caption))?;
        for index in group.commands.clone() {
            let command = &explanation.commands[index];
            let width = if command.critical { 2 } else { 1 };
            let label = quote(&title(command));
            writeln!(out, "    c{index} [label={label}, fillcolor={:?}, penwidth={width}];", fill(command.kind))?;
        }
        writeln!(out, "  }}")?;
    }
    for command in &explanation.commands {
        for Reason { kind, earlier, later, buffer, bytes } in &command.after {
            let label = quote(&format!("{kind} {}", short_buffer(buffer)));
            let tooltip = quote(&format!("{buffer}, bytes {}..{}", bytes.start, bytes.end));
            let color = stroke(Some(*kind));
            writeln!(out, "  c{earlier} -> c{later} [label={label}, tooltip={tooltip}, color={color:?}];")?;
        }
    }
    writeln!(out, "}}")
}
