//! Percent-decoding of URL paths and queries. The result is valid text or nothing: no replacement characters, no
//! guesses.

/// Which part of a URL is decoded. Both decode `%XX`. A query also decodes `+`, which means a blank there and itself in
/// a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UrlPart {
    Path,
    Query,
}

/// Returns the text, or `None` if an escape is incomplete or the bytes are not UTF-8.
pub fn decode(encoded: &str, part: UrlPart) -> Option<String> {
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        decoded.push(match byte {
            b'%' => hex(rest.next()?)? * 16 + hex(rest.next()?)?,
            b'+' if part == UrlPart::Query => b' ',
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

/// The text as a value in a query. Everything but letters, digits and `-._~` is encoded.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            byte => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// Most parameters of a query that are looked at.
pub const PARAMETERS_MAX: usize = 2048;

/// The pairs of a query, still encoded. Empty pairs are left out: clients end URLs with `?` and `&`.
pub fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(encoded: &str, path: Option<&str>, query: Option<&str>) {
        assert_eq!(decode(encoded, UrlPart::Path).as_deref(), path, "{encoded}");
        assert_eq!(decode(encoded, UrlPart::Query).as_deref(), query, "{encoded}");
    }

    #[test]
    fn decodes() {
        check("", Some(""), Some(""));
        check("2...a%2Fb", Some("2...a/b"), Some("2...a/b"));
        check("a+b", Some("a+b"), Some("a b"));
        check("%c3%A9", Some("é"), Some("é"));
        check("%ff", None, None);
        check("%", None, None);
        check("%2", None, None);
        check("%zz", None, None);
        check("%+1", None, None);
    }

    #[test]
    fn what_is_encoded_is_decoded_to_the_same() {
        for text in ["", "plain-._~09", "a b+c&d=e/f%ü\n"] {
            let encoded = encode(text);
            assert!(encoded.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte)), "{encoded}");
            check(&encoded, Some(text), Some(text));
        }
    }

    #[test]
    fn splits() {
        let split = |query| pairs(query).collect::<Vec<_>>();
        assert_eq!(split("a=1&b&&c==&"), [("a", "1"), ("b", ""), ("c", "=")]);
        assert_eq!(split(""), []);
    }
}
