use std::fmt::Write;

use super::layout::{Row, rows};
use super::style::{count, short_buffer, stroke};
use super::text::title;
use super::{Barrier, Command, Explanation};
use crate::OpKind;
use crate::hazard::HazardKind;
use crate::picture::{FONT, escape, fill, shorten};

/// Columns of a row at most: a layer of a model fits, and the picture fits a page.
const WIDEST: usize = 16;
const MARGIN: usize = 24;
const BOX: (usize, usize) = (94, 36);
/// Between columns, where barriers stand, and between boxes.
const GAP: (usize, usize) = (16, 6);
/// Between rows.
const LEADING: usize = 18;
/// Of a row, above its boxes: heading, number of the group, reason of the barrier.
const HEAD: usize = 44;
/// Characters that fit a box, its second line and a caption, in a wide font.
const LABEL: usize = 13;
const RESULT: usize = 15;
const CAPTION: usize = 16;
/// Lines of a tooltip at most.
const TOOLTIP: usize = 16;

struct Svg {
    out: String,
}

impl Svg {
    /// Writing to a string cannot fail.
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        let _ = self.out.write_fmt(line);
        self.out.push('\n');
    }

    fn text(&mut self, class: &str, x: usize, y: usize, text: &str) {
        self.line(format_args!("<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{}</text>", escape(text)));
    }

    fn tooltip(&mut self, lines: &[String]) {
        let mut lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let more = lines.len().saturating_sub(TOOLTIP);
        let rest = format!("and {more} more");
        if more > 0 {
            lines.truncate(TOOLTIP);
            lines.push(&rest);
        }
        self.line(format_args!("<title>{}</title>", escape(&lines.join("\n"))));
    }
}

/// A row with its place.
struct Placed {
    row: Row,
    y: usize,
    height: usize,
}

pub(super) fn write(explanation: &Explanation) -> String {
    let signature = |group: &super::Group| {
        let labels: Vec<&str> =
            explanation.commands[group.commands.clone()].iter().map(|command| command.label.as_str()).collect();
        labels.join("\n")
    };
    let signatures: Vec<String> = explanation.groups.iter().map(signature).collect();
    let rows = rows(&signatures, WIDEST);
    let columns = rows.iter().map(|row| row.groups.len()).max().unwrap_or(0).max(6);
    let width = 2 * MARGIN + columns * (BOX.0 + GAP.0) + GAP.0;
    let (legend, legend_end) = legend(explanation, width);
    let mut y = legend_end + LEADING;
    let mut placed = Vec::with_capacity(rows.len());
    for row in rows {
        let tallest = explanation.groups[row.groups.clone()].iter().map(|g| g.commands.len()).max().unwrap_or(0);
        let height = HEAD + tallest * (BOX.1 + GAP.1);
        placed.push(Placed { row, y, height });
        y += height + LEADING;
    }
    let mut svg = Svg { out: String::new() };
    svg.line(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{y}\" viewBox=\"0 0 {width} {y}\" font-family=\"{FONT}\">"
    ));
    svg.line(format_args!("<style>{STYLE}</style>"));
    svg.line(format_args!("<rect width=\"{width}\" height=\"{y}\" rx=\"8\" fill=\"#ffffff\"/>"));
    svg.text("h", MARGIN, 36, &explanation.label);
    svg.text("s", MARGIN, 56, &explanation.summary());
    svg.out += &legend;
    for row in &placed {
        draw_row(&mut svg, explanation, row);
    }
    svg.line(format_args!("</svg>"));
    svg.out
}

const STYLE: &str = "\
    text{fill:#1b1f24}\
    .h{font-size:20px;font-weight:600}\
    .s{font-size:13px;fill:#57606a}\
    .k{font-size:11.5px}\
    .r{font-size:11px;font-weight:600;fill:#57606a}\
    .n{font-size:10px;fill:#8b949e}\
    .c{font-size:9.5px;font-weight:600}\
    .l{font-size:11px;font-weight:600}\
    .o{font-size:9.5px;fill:#3d444d}\
    .b{stroke:#00000030;stroke-width:1}\
    .p{stroke:#24292f;stroke-width:1.8}\
    .w{fill:none;stroke:#24292f;stroke-width:1.4;opacity:.55}";

/// Kinds of commands and barriers, with their counts, and where the legend ends.
fn legend(explanation: &Explanation, width: usize) -> (String, usize) {
    let mut kinds: Vec<(OpKind, usize)> = Vec::new();
    for command in &explanation.commands {
        match kinds.iter_mut().find(|(kind, _)| *kind == command.kind) {
            Some((_, count)) => *count += 1,
            None => kinds.push((command.kind, 1)),
        }
    }
    let counts = explanation.barriers();
    let barriers = [
        (Some(HazardKind::Raw), counts.raw, "barrier: read after write"),
        (Some(HazardKind::War), counts.war, "barrier: write after read"),
        (Some(HazardKind::Waw), counts.waw, "barrier: write after write"),
        (None, counts.unneeded, "barrier that is not needed"),
    ];
    let swatches = kinds.iter().map(|(kind, count)| (format!("{kind:?} {count}"), Swatch::Box(*kind)));
    let barriers = barriers.into_iter().filter(|(_, count, _)| *count > 0);
    let swatches = swatches
        .chain(barriers.map(|(kind, count, text)| (format!("{text} {count}"), Swatch::Bar(kind))))
        .chain([("critical path".to_string(), Swatch::Path)]);
    let mut svg = Svg { out: String::new() };
    let (mut x, mut y) = (MARGIN, 82);
    for (text, swatch) in swatches {
        let room = 26 + text.chars().count() * 7 + 10;
        if x + room > width - MARGIN && x > MARGIN {
            x = MARGIN;
            y += 20;
        }
        match swatch {
            Swatch::Box(kind) => svg.line(format_args!(
                "<rect class=\"b\" x=\"{x}\" y=\"{}\" width=\"18\" height=\"12\" rx=\"3\" fill=\"{}\"/>",
                y - 10,
                fill(kind)
            )),
            Swatch::Bar(kind) => svg.line(format_args!(
                "<rect x=\"{}\" y=\"{}\" width=\"3\" height=\"14\" rx=\"1.5\" fill=\"{}\"/>",
                x + 8,
                y - 11,
                stroke(kind)
            )),
            Swatch::Path => svg.line(format_args!(
                "<rect class=\"p\" x=\"{x}\" y=\"{}\" width=\"18\" height=\"12\" rx=\"3\" fill=\"#ffffff\"/>",
                y - 10
            )),
        }
        svg.text("k", x + 24, y, &text);
        x += room;
    }
    (svg.out, y)
}

enum Swatch {
    Box(OpKind),
    Bar(Option<HazardKind>),
    Path,
}

/// Left edge of the boxes of a column.
fn column_x(column: usize) -> usize {
    MARGIN + GAP.0 + column * (BOX.0 + GAP.0)
}

fn draw_row(svg: &mut Svg, explanation: &Explanation, placed: &Placed) {
    let Placed { row, y, height } = placed;
    let end = row.groups.end;
    let mut heading = format!("groups {}–{end}", row.groups.start + 1);
    if row.groups.len() == 1 {
        heading = format!("group {end}");
    }
    if let Some((repeats, times)) = &row.repeats {
        heading += &match repeats.len() {
            1 => format!(" · repeat {} of {times}", repeats.start),
            _ => format!(" · repeats {}–{} of {times}", repeats.start, repeats.end - 1),
        };
    }
    svg.text("r", MARGIN, y + 10, &heading);
    draw_path(svg, explanation, placed);
    for (column, number) in row.groups.clone().enumerate() {
        let group = &explanation.groups[number];
        let x = column_x(column);
        if let Some(barrier) = &group.barrier {
            draw_barrier(svg, explanation, barrier, (x, *y, *height));
        }
        svg.text("n", x, y + 26, &(number + 1).to_string());
        for (place, index) in group.commands.clone().enumerate() {
            draw_command(svg, explanation, index, (x, y + HEAD + place * (BOX.1 + GAP.1)));
        }
    }
}

/// Lines between neighbours on the critical path.
fn draw_path(svg: &mut Svg, explanation: &Explanation, placed: &Placed) {
    for pair in explanation.critical_path.windows(2) {
        let [from, to] = pair else { continue };
        let group = |index: &usize| explanation.commands[*index].group;
        if !placed.row.groups.contains(&group(from)) || !placed.row.groups.contains(&group(to)) {
            continue;
        }
        let at = |index: &usize| {
            let group = group(index);
            let place = index - explanation.groups[group].commands.start;
            let y = placed.y + HEAD + place * (BOX.1 + GAP.1) + BOX.1 / 2;
            (column_x(group - placed.row.groups.start), y)
        };
        let ((x1, y1), (x2, y2)) = (at(from), at(to));
        let x1 = x1 + BOX.0;
        let middle = x1 + GAP.0 / 2;
        svg.line(format_args!("<path class=\"w\" d=\"M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}\"/>"));
    }
}

fn draw_barrier(svg: &mut Svg, explanation: &Explanation, barrier: &Barrier, place: (usize, usize, usize)) {
    let (x, y, height) = place;
    let first = barrier.reasons.first();
    let mut caption = match first {
        Some(reason) => format!("{} {}", reason.kind, short_buffer(&reason.buffer)),
        None => "not needed".into(),
    };
    if barrier.asked {
        caption = format!("asked for; {caption}");
    }
    let more = barrier.reasons.len().saturating_sub(1);
    let more = if more > 0 { format!(" +{more}") } else { String::new() };
    let caption = shorten(&caption, CAPTION - more.len()) + &more;
    let color = stroke(first.map(|reason| reason.kind));
    svg.line(format_args!("<g>"));
    svg.tooltip(&explanation.barrier_lines(barrier));
    let (left, top) = (x - GAP.0, y + 16);
    let tall = height - 16 - GAP.1;
    let wide = GAP.0 + BOX.0;
    svg.line(format_args!(
        "<rect x=\"{left}\" y=\"{top}\" width=\"{wide}\" height=\"{}\" fill=\"#ffffff\" fill-opacity=\"0\"/>",
        HEAD - 16
    ));
    svg.line(format_args!(
        "<rect x=\"{left}\" y=\"{top}\" width=\"{}\" height=\"{tall}\" fill=\"#ffffff\" fill-opacity=\"0\"/>",
        GAP.0
    ));
    let bar = x - GAP.0 / 2 - 1;
    let fade = if barrier.asked { " fill-opacity=\".45\"" } else { "" };
    svg.line(format_args!(
        "<rect x=\"{bar}\" y=\"{top}\" width=\"3\" height=\"{tall}\" rx=\"1.5\" fill=\"{color}\"{fade}/>"
    ));
    svg.line(format_args!(
        "<text class=\"c\" x=\"{x}\" y=\"{}\" style=\"fill:{color}\">{}</text></g>",
        y + 38,
        escape(&caption)
    ));
}

fn draw_command(svg: &mut Svg, explanation: &Explanation, index: usize, (x, y): (usize, usize)) {
    let command = &explanation.commands[index];
    let class = if command.critical { "p" } else { "b" };
    svg.line(format_args!("<g>"));
    svg.tooltip(&command_lines(explanation, index));
    svg.line(format_args!(
        "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{}\" rx=\"5\" fill=\"{}\"/>",
        BOX.0,
        BOX.1,
        fill(command.kind)
    ));
    svg.text("l", x + 6, y + 15, &shorten(&command.label, LABEL));
    svg.text("o", x + 6, y + 29, &shorten(&result(command), RESULT));
    svg.line(format_args!("</g>"));
}

/// What it makes.
fn result(command: &Command) -> String {
    let written = command.uses.iter().find(|used| used.written);
    written.map_or(String::new(), |used| format!("→ {}", short_buffer(&used.buffer)))
}

fn command_lines(explanation: &Explanation, index: usize) -> Vec<String> {
    let command = &explanation.commands[index];
    let mut lines = vec![format!("{index}: {}", title(command)), format!("{:?}", command.kind)];
    if command.cost != 1.0 {
        lines.push(format!("cost {}", command.cost));
    }
    lines.extend(command.uses.iter().map(ToString::to_string));
    let after: Vec<String> = command.after.iter().map(|reason| explanation.sentence(reason)).collect();
    if !after.is_empty() {
        lines.push(format!("after {}:", count(after.len(), "conflict")));
        lines.extend(after);
    }
    lines
}
