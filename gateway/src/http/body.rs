//! Request bodies: inflated up to a bound, and parsed as JSON (docs/protocol.md, sections 1.7 and 1.9). `bodies.rs`
//! collects them.

use std::cell::Cell;
use std::io::Read;

use flate2::bufread::GzDecoder;
use hyper::HeaderMap;
use hyper::header::CONTENT_ENCODING;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::{Code, Refusal};

/// A body as it came, until a resource reads it.
#[derive(Default)]
pub struct RequestBody {
    bytes: Cell<Vec<u8>>,
    bytes_max: usize,
}

impl RequestBody {
    /// A body of a resource whose bodies have at most `bytes_max` bytes, also inflated.
    pub fn new(bytes: Vec<u8>, bytes_max: usize) -> Self {
        Self { bytes: Cell::new(bytes), bytes_max }
    }

    /// Parses the object in the body. An empty body counts as an empty object.
    ///
    /// Unknown members are ignored, `null` counts as absent, duplicate members are refused. Each type names the
    /// camelCase forms of its members.
    ///
    /// The bytes are freed, so that a request that waits for the store or for a hash holds none. Call it once.
    pub fn read<T: DeserializeOwned>(&self, headers: &HeaderMap) -> Result<T, Refusal> {
        let body = self.inflated(headers)?;
        let json: &[u8] = match body.trim_ascii() {
            b"" => b"{}",
            // serde would also accept an array of the struct's members.
            text if text[0] != b'{' => return Err(Refusal::invalid("the body must be a JSON object")),
            text => text,
        };
        serde_json::from_slice(json).map_err(|error| Refusal::invalid(format!("the body cannot be read: {error}")))
    }

    /// The bytes as they came, and how many they may be when they are inflated.
    pub fn into_bytes(self) -> (Vec<u8>, usize) {
        (self.bytes.into_inner(), self.bytes_max)
    }

    fn inflated(&self, headers: &HeaderMap) -> Result<Vec<u8>, Refusal> {
        let body = self.bytes.take();
        match encoding(headers)? {
            Encoding::None => Ok(body),
            Encoding::Gzip => inflated(&body, self.bytes_max),
        }
    }
}

/// Inflates a body of gzip. Refused if it is none, or has more bytes than are allowed. A body is one member of gzip: each further member would cost as much as
/// the first, and have as little as twenty bytes.
pub fn inflated(body: &[u8], bytes_max: usize) -> Result<Vec<u8>, Refusal> {
    let mut inflated = Vec::new();
    let mut decoder = GzDecoder::new(body).take(bytes_max as u64 + 1);
    let read = decoder.read_to_end(&mut inflated);
    read.map_err(|_| Refusal::invalid("the body is not gzip, although its encoding says so"))?;
    if inflated.len() > bytes_max {
        return Err(too_large(bytes_max));
    }
    if !decoder.into_inner().into_inner().is_empty() {
        return Err(Refusal::invalid("the body has more than one member of gzip"));
    }
    Ok(inflated)
}

/// The refusal of a body that is larger than its resource allows, compressed or not.
pub fn too_large(bytes_max: usize) -> Refusal {
    Refusal::new(Code::BodyTooLarge, format!("the body is larger than {bytes_max} bytes"))
}

/// Reads a text of a body: `null` counts as absent, and absent text is empty.
pub fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// How a body is compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    None,
    Gzip,
}

/// How a body is compressed, by the request's head. `x-gzip` is another name of `gzip` (RFC 9110, section 8.4.1.3).
/// Refused if there is another coding, or gzip twice.
pub fn encoding(headers: &HeaderMap) -> Result<Encoding, Refusal> {
    let mut encoding = Encoding::None;
    let values = headers.get_all(CONTENT_ENCODING).iter().map(|value| value.as_bytes());
    for name in values.flat_map(|value| value.split(|&byte| byte == b',')).map(<[u8]>::trim_ascii) {
        let named = |known: &[u8]| name.eq_ignore_ascii_case(known);
        if (named(b"gzip") || named(b"x-gzip")) && encoding == Encoding::None {
            encoding = Encoding::Gzip;
        } else if !named(b"identity") && !named(b"") {
            return Err(Refusal::new(Code::UnknownEncoding, "the body's encoding is unknown, use gzip or none"));
        }
    }
    Ok(encoding)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use hyper::header::HeaderValue;
    use serde::Deserialize;

    use super::*;

    const BODY_BYTES_MAX: usize = 16_384;

    #[derive(Deserialize, PartialEq, Debug)]
    struct Thing {
        #[serde(alias = "avatarUrl")]
        avatar_url: Option<String>,
    }

    fn encoded(encoding: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(encoding))])
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(headers: &HeaderMap, body: &[u8]) -> Result<Thing, Refusal> {
        RequestBody::new(body.to_vec(), BODY_BYTES_MAX).read(headers)
    }

    fn check(headers: &HeaderMap, body: impl AsRef<[u8]>, expected: Option<Option<&str>>) {
        let body = body.as_ref();
        let thing = read(headers, body).ok();
        let shown = String::from_utf8_lossy(&body[..body.len().min(80)]);
        assert_eq!(thing.map(|thing| thing.avatar_url), expected.map(|text| text.map(str::to_owned)), "{shown:?}");
    }

    /// A body of this total size.
    fn padded(size: usize) -> Vec<u8> {
        format!("{{\"x\":\"{}\"}}", "x".repeat(size - 8)).into_bytes()
    }

    #[test]
    fn lenient_but_not_careless() {
        let none = HeaderMap::new();
        check(&none, "", Some(None));
        check(&none, " \n", Some(None));
        check(&none, "{}", Some(None));
        check(&none, r#"{"avatar_url":"a"}"#, Some(Some("a")));
        check(&none, r#" {"avatarUrl":"a","unknown":[{}]} "#, Some(Some("a")));
        check(&none, r#"{"avatar_url":null}"#, Some(None));
        check(&none, r#"{"avatar_url":1}"#, None);
        check(&none, r#"{"avatar_url":"a","avatar_url":"b"}"#, None);
        check(&none, r#"{"avatar_url":"a","avatarUrl":"b"}"#, None);
        check(&none, r#"{"avatar_url":"\ud800"}"#, None);
        check(&none, &b"{\"avatar_url\":\"\xff\"}"[..], None);
        check(&none, r#"["a"]"#, None);
        check(&none, r#""a""#, None);
        check(&none, "null", None);
        check(&none, "{", None);
        check(&none, "{} {}", None);
        // Unknown members are ignored at any depth, without using stack.
        check(&none, format!("{{\"x\":{}1{}}}", "[".repeat(8_000), "]".repeat(8_000)), Some(None));
    }

    #[test]
    fn bounded_before_and_after_inflating() {
        let none = HeaderMap::new();
        check(&none, padded(BODY_BYTES_MAX), Some(None));
        check(&encoded("gzip"), gzip(br#"{"avatar_url":"a"}"#), Some(Some("a")));
        check(&encoded("GZIP"), gzip(&padded(BODY_BYTES_MAX)), Some(None));
        check(&encoded("gzip"), gzip(&padded(BODY_BYTES_MAX + 1)), None);
        check(&encoded("gzip"), gzip(&padded(64 * BODY_BYTES_MAX)), None);
        check(&encoded("gzip"), "{}", None);
        check(&encoded("gzip"), &gzip(b"{}")[..12], None);
        check(&encoded("gzip"), [gzip(b"{}"), gzip(b"")].concat(), None);
        check(&encoded("gzip"), [&gzip(b"{}")[..], b" "].concat(), None);
        check(&encoded("identity"), "{}", Some(None));
        check(&encoded("x-gzip"), gzip(b"{}"), Some(None));
        check(&encoded("identity, X-GZIP"), gzip(b"{}"), Some(None));
        for unknown in ["br", "deflate", "zstd", "gzip, gzip", "gzip, br", "gzi"] {
            let refused = read(&encoded(unknown), &gzip(b"{}")).unwrap_err();
            assert_eq!(refused.code, Code::UnknownEncoding, "{unknown}");
        }
    }
}
