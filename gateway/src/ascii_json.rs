//! JSON for the payloads of tokens, written so that every official client reads it correctly.
//!
//! The official JavaScript client (2.8.0) reads each byte of a payload as a Latin-1 character, and drops `-` and `_`
//! from the payload's base64url text instead of translating them. This writer therefore escapes
//!
//! - every character beyond ASCII, as one or two `\uXXXX`, and
//! - `>`, `?`, `~` and U+007F. Only these ASCII characters can put `-` or `_` into base64url. Three bytes make four
//!   groups of six bits, and `-` and `_` stand for 62 and 63, the groups whose upper five bits are all set. Each of the
//!   first three groups holds the top bit of a byte among those five, and that bit is 0 in ASCII. The last group is the
//!   lower six bits of the third byte, which are 62 or 63 for these four characters only.
//!
//! An escape consists of `\`, `u` and hexadecimal digits, none of which is one of the four. So the result holds at
//! every position of a text in the payload.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// Most bytes that escaping makes of one byte of the same JSON: an escaped `?` has six.
pub const GROWTH_MAX: usize = 6;

/// Writes a value as JSON with these escapes.
pub fn write(value: &impl Serialize) -> serde_json::Result<String> {
    let mut json = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut json, Escaping))?;
    // The JSON is pure ASCII, so the lossy conversion loses nothing.
    Ok(String::from_utf8_lossy(&json).into_owned())
}

struct Escaping;

impl Formatter for Escaping {
    /// serde_json calls this with the parts of a text that JSON itself would not escape.
    fn write_string_fragment<W: Write + ?Sized>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        for piece in fragment.split_inclusive(is_escaped) {
            let escaped = piece.chars().next_back().filter(|character| is_escaped(*character));
            let plain = piece.len() - escaped.map_or(0, char::len_utf8);
            writer.write_all(&piece.as_bytes()[..plain])?;
            if let Some(character) = escaped {
                write_escaped(writer, character)?;
            }
        }
        Ok(())
    }
}

fn is_escaped(character: char) -> bool {
    !character.is_ascii() || matches!(character, '>' | '?' | '~' | '\u{7f}')
}

fn write_escaped<W: Write + ?Sized>(writer: &mut W, character: char) -> io::Result<()> {
    for unit in character.encode_utf16(&mut [0; 2]) {
        write!(writer, "\\u{unit:04x}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: &str) {
        let json = write(&text).unwrap();
        assert_eq!(json, expected, "{text:?}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }

    #[test]
    fn escapes() {
        check("alice", r#""alice""#);
        check("Zoë", r#""Zo\u00eb""#);
        check("鶏皮もも", r#""\u9d8f\u76ae\u3082\u3082""#);
        check("who?", r#""who\u003f""#);
        check("a>b~x\u{7f}", r#""a\u003eb\u007ex\u007f""#);
        check("🎉", r#""\ud83c\udf89""#);
        check("\"\\\n\u{1}?é", r#""\"\\\n\u0001\u003f\u00e9""#);
        let pairs = std::collections::BTreeMap::from([("wo?", "é")]);
        assert_eq!(write(&pairs).unwrap(), r#"{"wo\u003f":"\u00e9"}"#);
    }

    /// Every pair of ASCII characters at each position in a group of three bytes, at the end and before more text.
    #[test]
    fn no_pair_of_characters_puts_a_dash_or_underscore_into_base64() {
        let ascii = || (0..=127u8).map(char::from);
        for (one, other) in ascii().flat_map(|one| ascii().map(move |other| (one, other))) {
            for before in ["", "a", "aa"] {
                for behind in ["", "a", "aa"] {
                    let json = write(&format!("{before}{one}{other}{behind}")).unwrap();
                    let encoded = BASE64_URL_SAFE_NO_PAD.encode(&json);
                    assert!(!encoded.contains(['-', '_']), "{one:?}{other:?} behind {before:?}: {json}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_comes_back_and_is_bounded(text in any::<String>()) {
            let json = write(&text).unwrap();
            prop_assert!(json.is_ascii());
            prop_assert!(!BASE64_URL_SAFE_NO_PAD.encode(&json).contains(['-', '_']));
            prop_assert!(json.len() <= GROWTH_MAX * serde_json::to_string(&text).unwrap().len());
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }
}
