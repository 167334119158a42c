//! Where the picture of a long recording begins a new row.

use std::ops::Range;

/// Columns of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) groups: Range<usize>,
    /// Which repeats of a repeated stretch it shows, counted from 1, and how many there are.
    pub(super) repeats: Option<(Range<usize>, usize)>,
}

/// A stretch of groups that repeats itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Period {
    start: usize,
    len: usize,
    times: usize,
}

/// The longest stretch in which each group is like the one a period earlier, with its shortest period. Quadratic, for
/// a few hundred groups.
fn period(signatures: &[String]) -> Option<Period> {
    let n = signatures.len();
    let mut best: Option<Period> = None;
    for len in 1..=n / 2 {
        let mut run = 0;
        for at in 0..n - len {
            run = if signatures[at] == signatures[at + len] { run + 1 } else { 0 };
            let times = (run + len) / len;
            let longer = best.is_none_or(|best| times * len > best.times * best.len);
            if times >= 2 && longer {
                best = Some(Period { start: at + 1 - run, len, times });
            }
        }
    }
    best
}

/// Rows of at most `widest` columns, of one width as far as that goes.
fn chunks(groups: Range<usize>, widest: usize) -> impl Iterator<Item = Range<usize>> {
    let width = groups.len().div_ceil(groups.len().div_ceil(widest).max(1)).max(1);
    groups.clone().step_by(width).map(move |start| start..(start + width).min(groups.end))
}

/// The rows: what repeats itself (the layers of a model) is set one repeat below the other, or as many side by side as
/// fit; the rest is wrapped where a row is full.
pub(super) fn rows(signatures: &[String], widest: usize) -> Vec<Row> {
    let plain = |groups: Range<usize>| chunks(groups, widest).map(|groups| Row { groups, repeats: None });
    let n = signatures.len();
    if n <= widest {
        return plain(0..n).collect();
    }
    let Some(Period { start, len, times }) = period(signatures).filter(|p| p.len * p.times * 2 >= n) else {
        return plain(0..n).collect();
    };
    let mut rows: Vec<Row> = plain(0..start).collect();
    let abreast = (widest / len).clamp(1, times);
    for first in (0..times).step_by(abreast) {
        let last = (first + abreast).min(times);
        let groups = start + first * len..start + last * len;
        rows.extend(chunks(groups, widest).map(|groups| Row { groups, repeats: Some((first + 1..last + 1, times)) }));
    }
    rows.extend(plain(start + times * len..n));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signatures(text: &str) -> Vec<String> {
        text.chars().map(String::from).collect()
    }

    #[test]
    fn a_model_is_cut_at_its_layers() {
        let text = format!("e{}nh", "nqrato".repeat(5));
        let rows = rows(&signatures(&text), 8);
        let groups: Vec<_> = rows.iter().map(|row| row.groups.clone()).collect();
        assert_eq!(groups, [0..1, 1..7, 7..13, 13..19, 19..25, 25..31, 31..33]);
        assert_eq!(rows[2].repeats, Some((2..3, 5)));
    }

    #[test]
    fn short_repeats_stand_abreast_and_long_ones_are_wrapped() {
        let rows_of =
            |text: &str, widest| rows(&signatures(text), widest).into_iter().map(|r| r.groups).collect::<Vec<_>>();
        assert_eq!(rows_of("ababababab", 4), [0..4, 4..8, 8..10]);
        assert_eq!(rows_of(&"abcdef".repeat(2), 4), [0..3, 3..6, 6..9, 9..12]);
        assert_eq!(rows_of("abcdefghij", 4), [0..4, 4..8, 8..10]);
        assert_eq!(rows_of("abc", 4).len(), 1);
        assert!(rows_of("", 4).is_empty());
    }
}
