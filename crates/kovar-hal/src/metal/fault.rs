//! What an `NSError` of a command buffer means to the caller.

use crate::HalError;

/// The parts of an `NSError` that Metal fills.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) domain: String,
    pub(crate) code: isize,
    pub(crate) text: String,
    /// Label and state of each encoder, where they were asked for.
    pub(crate) encoders: Vec<(String, &'static str)>,
}

impl Report {
    fn reason(&self) -> String {
        let mut reason = format!("{} ({} {})", self.text, self.domain, self.code);
        for (index, (label, state)) in self.encoders.iter().enumerate() {
            reason += &format!("; encoder {index} {label:?}: {state}");
        }
        reason
    }
}

/// Names of `MTLCommandEncoderErrorState`, by value.
pub(crate) fn encoder_state(value: isize) -> &'static str {
    match value {
        1 => "completed",
        2 => "affected",
        3 => "never started",
        4 => "faulted",
        _ => "unknown",
    }
}

/// The error of a command buffer that ended with `MTLCommandBufferStatusError`. Codes are those of
/// `MTLCommandBufferError`.
pub(crate) fn classify(label: &str, report: &Report) -> HalError {
    let (label, reason) = (label.to_string(), report.reason());
    if report.domain != "MTLCommandBufferErrorDomain" {
        return HalError::Driver { call: "executing a command buffer", reason: format!("{label:?}: {reason}") };
    }
    match report.code {
        2 => HalError::Timeout { label, reason },
        // Page fault, invalid resource, stack overflow.
        3 | 9 | 12 => HalError::Fault { label, reason },
        // Access revoked after too many faults, not permitted, device removed.
        4 | 7 | 11 => HalError::DeviceLost { label, reason },
        8 => HalError::OutOfMemory { label, bytes: 0, reason },
        _ => HalError::Driver { call: "executing a command buffer", reason: format!("{label:?}: {reason}") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: isize) -> HalError {
        let encoders = vec![("layer 3".into(), encoder_state(4))];
        let report =
            Report { domain: "MTLCommandBufferErrorDomain".into(), code, text: "Caused GPU Timeout".into(), encoders };
        classify("step", &report)
    }

    #[test]
    fn codes_become_what_a_caller_can_act_on() {
        assert!(matches!(error(2), HalError::Timeout { .. }));
        for code in [3, 9, 12] {
            assert!(matches!(error(code), HalError::Fault { .. }), "{code}");
        }
        for code in [4, 7, 11] {
            assert!(matches!(error(code), HalError::DeviceLost { .. }), "{code}");
        }
        assert!(matches!(error(8), HalError::OutOfMemory { .. }));
        assert!(matches!(error(1), HalError::Driver { .. }));
        let elsewhere = Report { domain: "IOGPUCommandQueueErrorDomain".into(), code: 8, ..Report::default() };
        assert!(matches!(classify("step", &elsewhere), HalError::Driver { .. }));
    }

    #[test]
    fn the_text_names_label_code_and_encoder() {
        let text = error(2).to_string();
        for part in ["step", "Caused GPU Timeout", "MTLCommandBufferErrorDomain 2", "layer 3", "faulted"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}
