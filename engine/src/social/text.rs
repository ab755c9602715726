//! Texts by which users show themselves to others: statuses, profiles, names of groups.

/// Whether a text has no control character of the C0 set, except tab, line feed and carriage return.
///
/// JSON writes each of the others in six bytes, so an answer could be six times as long as what it tells of.
pub fn is_plain_text(text: &str) -> bool {
    text.bytes().all(|byte| byte >= b' ' || matches!(byte, b'\t' | b'\n' | b'\r'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_people_is_plain() {
        for text in ["", "away\r\n\tback", "caf\u{e9} \u{1f600}", "\u{7f}\u{85}"] {
            assert!(is_plain_text(text), "{text:?}");
        }
        for text in ["\0", "a\u{1b}[31m", "\u{8}", "\u{1f}"] {
            assert!(!is_plain_text(text), "{text:?}");
        }
    }
}
