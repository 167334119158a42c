//! Colours and short names, the same in every picture.

use crate::hazard::HazardKind;

/// Colour of a barrier with this first reason.
pub(super) fn stroke(kind: Option<HazardKind>) -> &'static str {
    match kind {
        Some(HazardKind::Raw) => "#cf5a4a",
        Some(HazardKind::War) => "#b9770e",
        Some(HazardKind::Waw) => "#7d3c98",
        None => "#7f8c8d",
    }
}

/// The name of a buffer without its number.
pub(super) fn short_buffer(name: &str) -> &str {
    name.rsplit_once(" #").map_or(name, |(label, _)| label)
}

/// A number of things: `1 group`, `2 groups`.
pub(super) fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}
