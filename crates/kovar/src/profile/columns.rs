//! Measured values as columns of text.

/// What is not known.
const UNKNOWN: &str = "-";

/// A value with so many digits after the point; `-` where it is not known.
pub fn known(value: Option<f64>, digits: usize) -> String {
    value.map_or(UNKNOWN.into(), |value| format!("{value:.digits$}"))
}

/// A share of 1 in percent; `-` where it is not known.
pub fn percent(share: Option<f64>) -> String {
    share.map_or(UNKNOWN.into(), |share| format!("{:.1} %", share * 100.0))
}

/// Lines of columns under their heads: the first to the left, the others to the right.
///
/// ```
/// use kovar::profile::columns::{aligned, known, percent};
///
/// let rows = [["norm".into(), known(Some(2.0), 1), percent(None)]];
/// assert_eq!(aligned(["KERNEL", "µs", "OF PEAK"], &rows), "KERNEL   µs  OF PEAK\nnorm    2.0        -\n");
/// ```
pub fn aligned<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let head = head.map(String::from);
    let lines = || std::iter::once(&head).chain(rows);
    let width = |column: usize| lines().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (text, width))| match column {
            0 => format!("{text:<width$}"),
            _ => format!("  {text:>width$}"),
        });
        cells.collect::<String>() + "\n"
    };
    lines().map(line).collect()
}
