//! One submission: what the host and the device did, in lines of equal time.

use std::time::{Duration, Instant};

use super::{Lines, duration};
use crate::OpKind;
use crate::picture::{FONT, escape, fill, shorten};
use crate::profile::recorder::{Command, HostWork, Profile, Run};

const WIDTH: f64 = 1240.0;
/// Room for the names of lanes.
const LEFT: f64 = 64.0;
const LANE: f64 = 22.0;
/// A line: two lanes, the axis, and air.
const LINE: f64 = 2.0 * LANE + 30.0;
const TOP: f64 = 36.0;
/// Commands that have room in a line, and lines at most.
const COMMANDS: usize = 40;
const MOST_LINES: usize = 12;
/// Width of a letter.
const LETTER: f64 = 6.2;

/// Nanoseconds from the first moment shown.
#[derive(Clone, Copy)]
struct Span {
    start: f64,
    end: f64,
}

struct Picture {
    out: Lines,
    /// Nanoseconds of a line.
    each: f64,
}

pub(super) fn write(profile: &Profile) -> Option<String> {
    let timed = |run: &&Run| run.time.is_some() && run.times.iter().any(Option::is_some);
    let run = profile.runs.iter().rev().find(timed)?;
    let clock = profile.clock?;
    let time = run.time?;
    let host = profile.host.iter().filter(|span| span.submission == Some(run.number));
    let ends = host.clone().map(|span| span.end).chain(clock.host(time.end));
    let (begin, end) = (run.submitted.min(clock.host(time.start)?), ends.max()?);
    let total = end.saturating_duration_since(begin).as_nanos() as f64;
    let lines = run.commands.len().div_ceil(COMMANDS).clamp(1, MOST_LINES);
    let since = |moment: Instant| moment.saturating_duration_since(begin).as_nanos() as f64;
    let device = |at: u64| clock.host(at).map_or(0.0, since);

    let mut picture = Picture { out: Lines::default(), each: (total / lines as f64).max(1.0) };
    picture.head(run, lines, clock.error());
    for line in 0..lines {
        picture.axis(line);
    }
    for span in host {
        let color = match span.work {
            HostWork::Record | HostWork::Submit => "#8fb4d9",
            HostWork::Wait => "#e4e7eb",
        };
        let place = Span { start: since(span.start), end: since(span.end) };
        picture.bar(0.0, place, color, span.work.name(), span.work.name());
    }
    for (command, time) in run.commands.iter().zip(&run.times) {
        let Some(time) = time else { continue };
        let place = Span { start: device(time.start), end: device(time.end) };
        picture.bar(LANE, place, fill(command.kind), &command.label, &tooltip(command, run, place));
    }
    picture.out.line(format_args!("</svg>"));
    Some(picture.out.0)
}

fn tooltip(command: &Command, run: &Run, place: Span) -> String {
    let mut text = format!("{}: {}", command.label, duration(place.end - place.start));
    if let Some(kernel) = command.kernel.as_deref().filter(|kernel| *kernel != &*command.label) {
        text += &format!("\nkernel {kernel}");
    }
    if let Some([x, y, z]) = command.groups {
        text += &format!("\n{x} x {y} x {z} workgroups");
    }
    if let Some(bytes) = command.cost.bytes(run.position) {
        let rate = bytes as f64 / (place.end - place.start).max(1.0);
        text += &format!("\n{:.3} MB, {rate:.1} GB/s", bytes as f64 / 1e6);
    }
    text
}

impl Picture {
    fn head(&mut self, run: &Run, lines: usize, error: Duration) {
        let height = TOP + lines as f64 * LINE + 30.0;
        self.out.line(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
             font-family=\"{FONT}\" font-size=\"11\"><rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>"
        ));
        let title = format!(
            "{}, submission {}: {} commands, each by itself; host and device agree within {}",
            run.label,
            run.number,
            run.commands.len(),
            duration(error.as_nanos() as f64)
        );
        self.text(8.0, 16.0, "#1f2933", &title);
        let mut kinds: Vec<OpKind> = Vec::new();
        run.commands.iter().for_each(|command| {
            if !kinds.contains(&command.kind) {
                kinds.push(command.kind);
            }
        });
        let (mut x, y) = (LEFT, height - 16.0);
        for kind in kinds {
            let name = format!("{kind:?}");
            let color = fill(kind);
            self.out
                .line(format_args!("<rect x=\"{x}\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{color}\"/>", y - 10.0));
            self.text(x + 16.0, y, "#52606d", &name);
            x += 30.0 + name.len() as f64 * LETTER;
        }
    }

    fn text(&mut self, x: f64, y: f64, color: &str, text: &str) {
        self.out.line(format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{color}\">{}</text>", escape(text)));
    }

    /// Names of the lanes, and where the line begins and ends.
    fn axis(&mut self, line: usize) {
        let y = TOP + line as f64 * LINE;
        self.text(8.0, y + 15.0, "#52606d", "host");
        self.text(8.0, y + LANE + 15.0, "#52606d", "device");
        let bottom = y + 2.0 * LANE + 1.0;
        self.out.line(format_args!(
            "<line x1=\"{LEFT}\" y1=\"{bottom}\" x2=\"{WIDTH}\" y2=\"{bottom}\" stroke=\"#9aa5b1\" stroke-width=\"1\"/>"
        ));
        for tick in 0..8 {
            let part = f64::from(tick) / 8.0;
            let x = LEFT + part * (WIDTH - LEFT);
            self.out.line(format_args!(
                "<line x1=\"{x:.1}\" y1=\"{bottom}\" x2=\"{x:.1}\" y2=\"{}\" stroke=\"#9aa5b1\"/>",
                bottom + 4.0
            ));
            self.text(x + 3.0, bottom + 13.0, "#7b8794", &duration((line as f64 + part) * self.each));
        }
    }

    /// A stretch of a lane, cut where lines end.
    fn bar(&mut self, lane: f64, span: Span, color: &str, label: &str, tooltip: &str) {
        let (first, last) = ((span.start / self.each) as usize, (span.end / self.each) as usize);
        for line in first..=last {
            let from = span.start.max(line as f64 * self.each) - line as f64 * self.each;
            let to = span.end.min((line + 1) as f64 * self.each) - line as f64 * self.each;
            if to <= from && first != last {
                continue;
            }
            let scale = (WIDTH - LEFT) / self.each;
            let (x, width) = (LEFT + from * scale, ((to - from) * scale).max(0.5));
            let y = TOP + line as f64 * LINE + lane;
            self.out.line(format_args!(
                "<g><title>{}</title><rect x=\"{x:.2}\" y=\"{y}\" width=\"{width:.2}\" height=\"{}\" fill=\"{color}\" \
                 stroke=\"#ffffff\" stroke-width=\"0.5\"/>",
                escape(tooltip),
                LANE - 2.0
            ));
            let room = (width / LETTER) as usize;
            if room >= 4 {
                self.text(x + 3.0, y + 14.0, "#1f2933", &shorten(label, room - 1));
            }
            self.out.line(format_args!("</g>"));
        }
    }
}
