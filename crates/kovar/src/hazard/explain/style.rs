//! Colours and short names, the same in every picture.

use crate::OpKind;
use crate::hazard::HazardKind;

/// Fill of the boxes of a kind of command.
pub(super) fn fill(kind: OpKind) -> &'static str {
    match kind {
        OpKind::Embedding => "#b7e0d2",
        OpKind::Norm => "#cbdcf5",
        OpKind::MatVec => "#fbd3a6",
        OpKind::MatMul => "#f7bd7c",
        OpKind::Rotary => "#dccdf0",
        OpKind::Attention => "#f7bcc4",
        OpKind::CacheWrite => "#d3dbe2",
        OpKind::Activation => "#cbe8bd",
        OpKind::Elementwise => "#f0ebb0",
        OpKind::Cast => "#e3d8c8",
        OpKind::Transfer => "#dddddd",
        OpKind::Sampling => "#b5e3e8",
        _ => "#f2f2f2",
    }
}

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

/// A text of at most so many characters: first it loses what comes before its last dot, then its end.
pub(super) fn shorten(text: &str, most: usize) -> String {
    let text = match text.rsplit_once('.') {
        Some((_, last)) if text.chars().count() > most && !last.is_empty() => last,
        _ => text,
    };
    if text.chars().count() <= most {
        return text.into();
    }
    let mut short: String = text.chars().take(most.saturating_sub(1)).collect();
    short.truncate(short.trim_end().len());
    short.push('…');
    short
}

/// A number of things: `1 group`, `2 groups`.
pub(super) fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}
