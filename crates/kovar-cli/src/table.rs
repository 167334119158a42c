//! Columns of text.

/// What is not known.
const UNKNOWN: &str = "-";

pub(crate) fn known(value: Option<f64>, digits: usize) -> String {
    value.map_or(UNKNOWN.into(), |value| format!("{value:.digits$}"))
}

pub(crate) fn percent(share: Option<f64>) -> String {
    share.map_or(UNKNOWN.into(), |share| format!("{:.1} %", share * 100.0))
}

/// Lines of columns: the first to the left, the others to the right.
pub(crate) fn aligned<const N: usize>(head: [&str; N], rows: Vec<[String; N]>) -> String {
    let rows: Vec<[String; N]> = std::iter::once(head.map(String::from)).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let rest: String = row.iter().zip(widths).skip(1).map(|(text, width)| format!("  {text:>width$}")).collect();
        format!("{:<1$}{rest}\n", row[0], widths[0])
    };
    rows.iter().map(line).collect()
}
