/// What a dispatch moves and computes, as far as whoever records it knows: for profiles alone.
///
/// ```
/// use kovar::profile::Cost;
///
/// // A product of a 4-bit matrix [1024, 1024] with a vector.
/// let cost = Cost { operations: Some(2 * 1024 * 1024), ..Cost::default() };
/// assert_eq!(cost.read, None); // all that its slots show
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Cost {
    /// Bytes read from memory, each counted once. `None`: all that the dispatch is recorded to read.
    pub read: Option<u64>,
    /// Bytes written. `None`: all that the dispatch is recorded to write.
    pub written: Option<u64>,
    /// Additions and multiplications, one each. `None`: nobody said.
    pub operations: Option<u64>,
    /// Bytes read for each position of the context before the first row: how many there are is known only when it runs.
    pub read_per_position: u64,
    /// Operations for each of them.
    pub operations_per_position: u64,
}

impl Cost {
    /// For a dispatch whose bytes are those of its slots.
    pub const fn of_operations(operations: u64) -> Cost {
        Cost {
            read: None,
            written: None,
            operations: Some(operations),
            read_per_position: 0,
            operations_per_position: 0,
        }
    }

    /// Bytes moved with so many positions before; `None` if they depend on that and it is not known.
    pub fn bytes(&self, position: Option<u64>) -> Option<u64> {
        let fixed = self.read?.checked_add(self.written?)?;
        fixed.checked_add(grown(self.read_per_position, position)?)
    }

    /// Operations with so many positions before; `None` if nobody said.
    pub fn operations(&self, position: Option<u64>) -> Option<u64> {
        self.operations?.checked_add(grown(self.operations_per_position, position)?)
    }
}

fn grown(each: u64, position: Option<u64>) -> Option<u64> {
    if each == 0 { Some(0) } else { position?.checked_mul(each) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_depends_on_an_unknown_position_is_unknown() {
        let cost = Cost {
            read: Some(100),
            written: Some(8),
            operations: Some(5),
            read_per_position: 16,
            operations_per_position: 3,
        };
        assert_eq!((cost.bytes(None), cost.operations(None)), (None, None));
        assert_eq!((cost.bytes(Some(10)), cost.operations(Some(10))), (Some(268), Some(35)));
        assert_eq!((cost.bytes(Some(0)), cost.operations(Some(0))), (Some(108), Some(5)));
    }

    #[test]
    fn nothing_said_is_nothing_known() {
        assert_eq!((Cost::default().bytes(Some(1)), Cost::default().operations(Some(1))), (None, None));
        assert_eq!(Cost { read: Some(1), written: Some(u64::MAX), ..Cost::default() }.bytes(None), None);
    }
}
