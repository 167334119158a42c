//! Operations a second over operations a byte (Williams, Waterman, Patterson: "Roofline", 2009).

use super::{Lines, prefixed};
use crate::picture::{FONT, escape, fill, shorten};
use crate::profile::Summary;
use crate::profile::report::{CommandTimes, Report};

const WIDTH: f64 = 1240.0;
const HEIGHT: f64 = 420.0;
/// The axes.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 700.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 380.0;
/// Where the list of kernels begins.
const LIST: f64 = 724.0;
/// Kernels shown at most: those that took longest.
const MOST: usize = 18;

struct Point<'a> {
    row: &'a CommandTimes,
    intensity: f64,
    rate: f64,
}

/// A logarithmic axis.
struct Axis {
    least: f64,
    most: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// Over whole powers of ten.
    fn over(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Axis {
        let least = values.clone().fold(f64::INFINITY, f64::min).log10().floor();
        let most = values.fold(0.0, f64::max).log10().ceil().max(least + 1.0);
        Axis { least, most, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        self.from + (value.log10() - self.least) / (self.most - self.least) * (self.to - self.from)
    }

    fn decades(&self) -> impl Iterator<Item = f64> + use<> {
        (self.least as i32..=self.most as i32).map(|power| 10f64.powi(power))
    }
}

pub(super) fn write(report: &Report) -> Option<String> {
    let (read, f32) = (report.peaks.read?, report.peaks.f32?);
    let mut points: Vec<Point<'_>> = report.commands.iter().filter_map(point).collect();
    points.truncate(MOST);
    if points.is_empty() {
        return None;
    }
    let roofs: Vec<(&str, f64)> =
        [("f32", Some(f32)), ("matrix", report.peaks.matrix)].into_iter().filter_map(|(n, p)| Some((n, p?))).collect();
    let ridge = roofs.iter().map(|(_, peak)| peak / read);
    let x = Axis::over(points.iter().map(|p| p.intensity).chain(ridge.map(|at| at * 2.0)), LEFT, RIGHT);
    let rates = points.iter().map(|p| p.rate).chain(roofs.iter().map(|(_, peak)| *peak));
    let y = Axis::over(rates, BOTTOM, TOP);

    let mut out = Lines::default();
    out.line(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         font-family=\"{FONT}\" font-size=\"11\"><rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>"
    ));
    axes(&mut out, &x, &y);
    let highest = roofs.iter().map(|(_, peak)| *peak).fold(0.0, f64::max);
    for (name, peak) in &roofs {
        // The lower of two has its name below: they may be close.
        let place = if *peak < highest { 13.0 } else { -5.0 };
        roof(&mut out, (&x, &y), (name, *peak, place), read);
    }
    for (number, point) in points.iter().enumerate() {
        dot(&mut out, (&x, &y), number + 1, point, report, read);
    }
    out.line(format_args!("</svg>"));
    Some(out.0)
}

fn point(row: &CommandTimes) -> Option<Point<'_>> {
    let (bytes, operations) = (row.bytes? as f64, row.operations? as f64);
    let rate = row.operations_per_s()?;
    (bytes > 0.0 && operations > 0.0 && rate > 0.0).then_some(Point { row, intensity: operations / bytes, rate })
}

fn text(out: &mut Lines, (x, y): (f64, f64), color: &str, anchor: &str, text: &str) {
    out.line(format_args!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{color}\" text-anchor=\"{anchor}\">{}</text>",
        escape(text)
    ));
}

fn axes(out: &mut Lines, x: &Axis, y: &Axis) {
    for value in x.decades() {
        let at = x.at(value);
        out.line(format_args!("<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{BOTTOM}\" stroke=\"#e4e7eb\"/>"));
        text(out, (at, BOTTOM + 15.0), "#7b8794", "middle", &format!("{value}"));
    }
    for value in y.decades() {
        let at = y.at(value);
        out.line(format_args!("<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{RIGHT}\" y2=\"{at:.1}\" stroke=\"#e4e7eb\"/>"));
        text(out, (LEFT - 6.0, at + 4.0), "#7b8794", "end", &prefixed(value));
    }
    text(out, ((LEFT + RIGHT) / 2.0, BOTTOM + 32.0), "#52606d", "middle", "operations a byte");
    text(out, (8.0, 14.0), "#52606d", "start", "operations a second");
}

/// Memory up to the ridge, arithmetic from there on.
fn roof(out: &mut Lines, (x, y): (&Axis, &Axis), (name, peak, place): (&str, f64, f64), read: f64) {
    let ridge = peak / read;
    // The slope enters the picture at its left side or at its bottom.
    let first = 10f64.powf(x.least).max(10f64.powf(y.least) / read);
    out.line(format_args!(
        "<polyline fill=\"none\" stroke=\"#52606d\" stroke-width=\"1.5\" points=\"{:.1},{:.1} {:.1},{:.1} {RIGHT},{:.1}\"/>",
        x.at(first),
        y.at(first * read),
        x.at(ridge),
        y.at(peak),
        y.at(peak)
    ));
    let label = format!("{name}: {}op/s", prefixed(peak));
    text(out, (RIGHT - 4.0, y.at(peak) + place), "#52606d", "end", &label);
    if name == "f32" {
        let label = format!("reading: {}B/s", prefixed(read));
        // Two thirds up the slope, on its left, where no kernel can be.
        let at = 10f64.powf(first.log10() + (ridge.log10() - first.log10()) * 0.67);
        text(out, (x.at(at) - 8.0, y.at(at * read) - 4.0), "#52606d", "end", &label);
    }
}

fn dot(out: &mut Lines, (x, y): (&Axis, &Axis), number: usize, point: &Point<'_>, report: &Report, read: f64) {
    let Point { row, intensity, rate } = point;
    let (cx, cy) = (x.at(*intensity), y.at(*rate));
    let total = row.times.as_ref().map_or(0.0, Summary::total);
    let share = total / report.total().max(1.0);
    let radius = 5.0 + 14.0 * share.sqrt();
    let peak = report.peaks.f32.unwrap_or(f64::INFINITY).max(report.peaks.matrix.unwrap_or(0.0));
    let reached = rate / peak.min(intensity * read);
    let name = row.name();
    let tooltip = format!("{name}\n{}op/s at {intensity:.2} operations a byte", prefixed(*rate));
    out.line(format_args!(
        "<g><title>{}</title><circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"{radius:.1}\" fill=\"{}\" fill-opacity=\"0.85\" \
         stroke=\"#52606d\" stroke-width=\"0.7\"/>",
        escape(&tooltip),
        fill(row.command.kind)
    ));
    text(out, (cx, cy + 4.0), "#1f2933", "middle", &number.to_string());
    out.line(format_args!("</g>"));
    let each = row.bytes.unwrap_or(0) as f64 / row.calls.max(1) as f64 / 1e6;
    let line = format!("{number}  {}, {each:.3} MB", shorten(&name, 36));
    let at = TOP + 14.0 + number as f64 * 18.0;
    text(out, (LIST, at), "#1f2933", "start", &line);
    text(out, (LIST + 404.0, at), "#52606d", "end", &format!("{:.1} % of the time", share * 100.0));
    text(out, (WIDTH - 8.0, at), "#52606d", "end", &format!("{:.0} % of the roof", reached * 100.0));
}
