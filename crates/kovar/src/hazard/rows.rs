//! Rows of bytes at equal distances, and whether two such sets meet.

use std::num::NonZeroU64;
use std::ops::Range;

/// The shape of bytes that lie in rows within a range: the first row begins where the range does, the last one ends where
/// it does. A row is shorter than the distance to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rows {
    len: NonZeroU64,
    stride: NonZeroU64,
}

impl Rows {
    /// `count` rows of `len` bytes from `start` on, each `stride` bytes after the one before: the range from first to last,
    /// and the rows in it, if there are gaps between them. `None` for no bytes, or more than 64 bits can tell.
    pub fn new(start: u64, len: u64, stride: u64, count: u64) -> Option<(Range<u64>, Option<Rows>)> {
        let end = stride.checked_mul(count.checked_sub(1)?)?.checked_add(start)?.checked_add(len)?;
        let rows = Rows { len: NonZeroU64::new(len)?, stride: NonZeroU64::new(stride).unwrap_or(NonZeroU64::MIN) };
        Some((start..end, (len < stride && count > 1).then_some(rows)))
    }

    /// Bytes of a row.
    pub fn len(&self) -> u64 {
        self.len.get()
    }

    /// Never true: a row has at least one byte.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Bytes from the start of a row to that of the next.
    pub fn stride(&self) -> u64 {
        self.stride.get()
    }
}

/// Bytes of an access: all of a range, or rows in it.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) hull: Range<u64>,
    pub(crate) rows: Option<Rows>,
}

impl Span {
    fn len(&self) -> u64 {
        self.rows.map_or(self.hull.end - self.hull.start, |rows| rows.len())
    }

    /// Distance of the rows; more than all bytes for one row.
    fn stride(&self) -> u64 {
        self.rows.map_or(u64::MAX, |rows| rows.stride())
    }

    fn count(&self) -> u64 {
        self.rows.map_or(1, |rows| (self.hull.end - self.hull.start - rows.len()) / rows.stride() + 1)
    }

    fn row(&self, number: u64) -> Range<u64> {
        // The product of a row that exists does not overflow; the one row of a plain range is number 0.
        let start = self.hull.start + number.wrapping_mul(self.stride());
        start..start + self.len()
    }

    /// The rows, one after the other.
    pub(crate) fn each(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        (0..self.count()).map(|number| self.row(number))
    }

    /// Bytes that both have, if there are any: those of the first row of `self` that meets a row of `other`. Takes time in
    /// proportion to the logarithm of the strides, whatever the number of rows.
    pub(crate) fn meets(&self, other: &Span) -> Option<Range<u64>> {
        if self.hull.is_empty() || other.hull.is_empty() {
            return None;
        }
        // Rows of ours that reach into the other's range. They meet the endless continuation of its rows exactly if they
        // meet its own: a row that reaches beyond an end of the range holds the byte there, which is one of a row.
        let first = match self.len().checked_add(self.hull.start).is_some_and(|end| end > other.hull.start) {
            true => 0,
            false => (other.hull.start + 1 - self.hull.start - self.len()).div_ceil(self.stride()),
        };
        let before = other.hull.end.checked_sub(self.hull.start).filter(|distance| *distance > 0)?;
        let last = ((before - 1) / self.stride()).min(self.count() - 1);
        if first > last {
            return None;
        }
        let row = self.row(first);
        // How far the end of that row lies past the start of one of the other's: between 0 and the sum of both lengths less
        // two where they meet.
        let (stride, window) = (u128::from(other.stride()), u128::from(self.len()) + u128::from(other.len()) - 1);
        let past = (u128::from(row.end - 1) + stride - u128::from(other.hull.start) % stride) % stride;
        let steps = if past < window {
            0
        } else {
            let low = stride - past;
            first_between(u128::from(self.stride()) % stride, stride, low, low + window - 1)?
        };
        let number = u128::from(first) + steps;
        if number > u128::from(last) {
            return None;
        }
        let ours = self.row(number as u64);
        let theirs = ours.start.saturating_sub(other.hull.start) / other.stride();
        let both = |number: u64| {
            let theirs = other.row(number);
            let both = ours.start.max(theirs.start)..ours.end.min(theirs.end);
            (both.start < both.end).then_some(both)
        };
        both(theirs).or_else(|| (theirs + 1 < other.count()).then(|| both(theirs + 1)).flatten())
    }
}

/// The smallest number whose product with `step`, modulo `modulus`, lies from `low` to `high`; 0 < low <= high < modulus
/// and step < modulus. As in Euclid's algorithm: either a multiple of the step falls between, or the question is one of the
/// remainders of the step.
fn first_between(step: u128, modulus: u128, low: u128, high: u128) -> Option<u128> {
    if step == 0 {
        return None;
    }
    let times = low.div_ceil(step);
    if times * step <= high {
        return Some(times);
    }
    // No multiple of the step lies between, so that neither bound is one.
    let wraps = first_between(modulus % step, step, step - high % step, step - low % step)?;
    Some((low + modulus * wraps).div_ceil(step))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn span(start: u64, len: u64, stride: u64, count: u64) -> Span {
        let (hull, rows) = Rows::new(start, len, stride, count).unwrap();
        Span { hull, rows }
    }

    fn small() -> impl Strategy<Value = Span> {
        (0u64..60, 1u64..7, 0u64..14, 1u64..8).prop_map(|(start, len, stride, count)| span(start, len, stride, count))
    }

    fn large() -> impl Strategy<Value = Span> {
        (0u64..1 << 20, 1u64..900, 0u64..5000, 1u64..300).prop_map(|(a, b, c, d)| span(a, b, c, d))
    }

    fn bytes(span: &Span) -> BTreeSet<u64> {
        span.each().flatten().collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 50 } else { 20_000 }))]

        #[test]
        fn two_sets_meet_where_they_share_a_byte(a in small(), b in small()) {
            let both: BTreeSet<u64> = bytes(&a).intersection(&bytes(&b)).copied().collect();
            match a.meets(&b) {
                Some(hit) => prop_assert!(!hit.is_empty() && hit.clone().all(|at| both.contains(&at)), "{hit:?}: {both:?}"),
                None => prop_assert!(both.is_empty(), "{a:?} and {b:?} share {both:?}"),
            }
            prop_assert_eq!(b.meets(&a).is_some(), !both.is_empty());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        #[cfg_attr(miri, ignore = "takes minutes there, and is safe code alone")]
        fn many_rows_meet_as_if_each_were_looked_at(a in large(), b in large()) {
            let meet = |x: &Range<u64>, y: &Range<u64>| x.start < y.end && y.start < x.end;
            let expected = a.each().any(|x| b.each().any(|y| meet(&x, &y)));
            prop_assert_eq!(a.meets(&b).is_some(), expected, "{:?} and {:?}", a, b);
        }
    }

    #[test]
    fn columns_of_a_large_matrix_are_disjoint() {
        let columns = |first: u64| span(first * 128, 128, 16384, 1 << 20);
        for (a, b) in [(0, 1), (5, 6), (127, 0)] {
            assert_eq!(columns(a).meets(&columns(b)), None);
        }
        let wide = span(100, 200, 16384, 1 << 20);
        assert_eq!(wide.meets(&columns(1)), Some(128..256));
        assert_eq!(wide.meets(&columns(3)), None);
    }

    #[test]
    fn what_has_no_bytes_or_too_many_is_none() {
        assert_eq!(Rows::new(0, 0, 4, 4), None);
        assert_eq!(Rows::new(0, 4, 4, 0), None);
        assert_eq!(Rows::new(0, 4, u64::MAX, 3), None);
        assert_eq!(Rows::new(u64::MAX - 2, 4, 1, 1), None);
        // Rows that touch are one range.
        assert_eq!(Rows::new(8, 4, 4, 3), Some((8..20, None)));
        assert_eq!(Rows::new(8, 4, 3, 2), Some((8..15, None)));
        assert!(Rows::new(8, 4, 5, 2).unwrap().1.is_some());
    }
}
