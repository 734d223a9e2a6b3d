//! What ties together all that is said of one run: a trace id as the W3C has it (Trace Context, level 1).

/// Tells a run from all others of all libraries: a number that the library drew, and which of its runs this is. 0 and 0 before the
/// run is counted. Two numbers rather than a text, because most runs are answered from memory, and of most of those nothing is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunId {
    pub(super) library: u64,
    pub(super) number: u64,
}

impl RunId {
    /// One for a run that was cancelled before it began, which no library counts.
    pub fn of_none() -> Self {
        RunId { library: super::draw(), number: super::draw() }
    }

    /// 32 hexadecimal digits, not all of them 0 once the run was counted. Made by hand: bindings ask every result for it.
    pub fn digits(self) -> [u8; 32] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let id = u128::from(self.library) << 64 | u128::from(self.number);
        std::array::from_fn(|place| DIGITS[(id >> (4 * (31 - place)) & 15) as usize])
    }
}

/// The trace id in the text of a `traceparent` header, of 32 digits: `VERSION-TRACE_ID-PARENT_ID-FLAGS`, in small hexadecimal digits. Nothing if it is none.
pub fn trace_id_of(traceparent: &str) -> Option<&str> {
    let mut parts = traceparent.split('-');
    let mut part = |digits: usize| parts.next().filter(|part| part.len() == digits && part.bytes().all(is_digit));
    let (version, trace_id, parent_id, _flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
    let is_set = |id: &str| id.bytes().any(|digit| digit != b'0');
    // Later versions may say more behind, version 0 may not, and there is no version 255.
    let is_whole = version != "ff" && (version != "00" || parts.next().is_none());
    (is_whole && is_set(trace_id) && is_set(parent_id)).then_some(trace_id)
}

fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    #[test]
    fn a_traceparent_has_a_trace_id() {
        for text in [
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        ] {
            assert_eq!(trace_id_of(text), Some(TRACE), "{text}");
        }
    }

    #[test]
    fn anything_else_is_only_a_text() {
        for text in [
            "",
            "order-17",
            TRACE,
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c8031\u{e9}-b7ad6b7169203331-01",
        ] {
            assert_eq!(trace_id_of(text), None, "{text}");
        }
    }

    #[test]
    fn an_id_of_our_own_is_a_trace_id_too() {
        let id = RunId { library: 7, number: 255 }.digits();
        let id = std::str::from_utf8(&id).expect("digits");
        assert_eq!(id, "000000000000000700000000000000ff");
        assert_eq!(trace_id_of(&format!("00-{id}-b7ad6b7169203331-01")), Some(id));
    }
}
