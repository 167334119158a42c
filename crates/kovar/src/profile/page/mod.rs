//! A profile as one page of HTML that needs nothing else.

mod roofline;
mod timeline;

use std::fmt::Write;

use super::recorder::Profile;
use super::report::Report;
use crate::picture::{FONT, escape};

/// Lines of text with what is written to them.
#[derive(Default)]
struct Lines(String);

impl Lines {
    /// Writing to a string cannot fail.
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        let _ = self.0.write_fmt(line);
        self.0.push('\n');
    }
}

/// A time with a unit that suits it.
fn duration(nanoseconds: f64) -> String {
    match nanoseconds {
        ns if ns < 1e3 => format!("{ns:.0} ns"),
        ns if ns < 1e6 => format!("{:.1} µs", ns / 1e3),
        ns => format!("{:.2} ms", ns / 1e6),
    }
}

/// A power of ten with a prefix: 12.3 G.
fn prefixed(value: f64) -> String {
    match value {
        v if v < 1e6 => format!("{:.1} k", v / 1e3),
        v if v < 1e9 => format!("{:.1} M", v / 1e6),
        v if v < 1e12 => format!("{:.1} G", v / 1e9),
        v => format!("{:.2} T", v / 1e12),
    }
}

impl Profile {
    /// The commands of the last submission whose commands were timed, in a picture: SVG that needs nothing else. `None` if
    /// there is none.
    pub fn timeline_svg(&self) -> Option<String> {
        timeline::write(self)
    }

    /// One page with the timeline, the commands, the roofline and the command buffers: HTML that needs nothing else.
    pub fn to_html(&self, title: &str, report: &Report) -> String {
        let mut page = Lines::default();
        page.line(format_args!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}</title>\n<style>{STYLE} body \
             {{ font-family: {FONT}; }}</style></head><body>",
            escape(title)
        ));
        let device = format!("{} ({})", report.device.name, report.device.backend);
        page.line(format_args!("<h1>{}</h1>\n<p>{}</p>", escape(title), escape(&device)));
        for note in report.notes() {
            page.line(format_args!("<p class=\"note\">{}</p>", escape(&note)));
        }
        if let Some(timeline) = self.timeline_svg() {
            page.line(format_args!("<h2>One of them, command by command</h2>\n{timeline}"));
        }
        let (head, rows) = report.command_table();
        if !rows.is_empty() {
            page.line(format_args!("<h2>Commands</h2>"));
            table(&mut page, &head, &rows);
        }
        if let Some(roofline) = report.roofline_svg() {
            page.line(format_args!("<h2>Roofline</h2>\n{roofline}"));
        }
        page.line(format_args!("<h2>Command buffers</h2>"));
        let (head, rows) = report.buffer_table();
        table(&mut page, &head, &rows);
        page.line(format_args!("</body></html>"));
        page.0
    }
}

impl Report {
    /// What each kernel reached of the device's measured peaks, in a picture: SVG that needs nothing else. `None` if the
    /// peaks of reading and of f32 arithmetic were not measured, or no command tells of both bytes and operations.
    pub fn roofline_svg(&self) -> Option<String> {
        roofline::write(self)
    }
}

const STYLE: &str = "body { margin: 24px auto; max-width: 1280px; padding: 0 16px; color: #1f2933; } \
    h1 { font-size: 20px; margin: 0 0 4px; } h2 { font-size: 15px; margin: 28px 0 8px; } p { margin: 4px 0; font-size: 13px; } \
    .note { color: #52606d; } table { border-collapse: collapse; font-size: 12px; width: 100%; } \
    th, td { text-align: right; padding: 3px 8px; border-bottom: 1px solid #e4e7eb; white-space: nowrap; } \
    th { color: #52606d; font-weight: 600; } th:first-child, td:first-child { text-align: left; } \
    svg { max-width: 100%; height: auto; display: block; }";

fn table<const N: usize>(page: &mut Lines, head: &[&str; N], rows: &[[String; N]]) {
    let cells = |tag: &str, cells: Vec<&str>| -> String {
        cells.into_iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect()
    };
    page.line(format_args!("<table><tr>{}</tr>", cells("th", head.to_vec())));
    for row in rows {
        page.line(format_args!("<tr>{}</tr>", cells("td", row.iter().map(String::as_str).collect())));
    }
    page.line(format_args!("</table>"));
}
