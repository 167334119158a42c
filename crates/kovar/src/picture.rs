//! What all pictures share: colours, font, texts.

use crate::OpKind;

pub(crate) const FONT: &str =
    "ui-sans-serif,system-ui,-apple-system,'Segoe UI',Helvetica,Arial,'DejaVu Sans',sans-serif";

/// Fill of the boxes of a kind of command.
pub(crate) fn fill(kind: OpKind) -> &'static str {
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

/// A text of at most so many characters: first it loses what comes before its last dot, then its end.
pub(crate) fn shorten(text: &str, most: usize) -> String {
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

/// A text as XML and HTML take it.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push('\n'),
            // What XML has no place for.
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}
