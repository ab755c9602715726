//! Request bodies: read up to a bound, inflated up to the same bound, and parsed as JSON
//! (docs/protocol.md, sections 1.7 and 1.9).

use std::io::Read;

use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::body::{Body, Bytes};
use hyper::header::CONTENT_ENCODING;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::{Code, Refusal};

/// Largest request body, compressed or not.
const BODY_BYTES_MAX: usize = 262_144;

/// How many bytes of a body that is too large are read and discarded. A client that reads only after it has sent its
/// body then gets the refusal and not a reset connection.
const DISCARDED_BYTES_MAX: usize = 4 * BODY_BYTES_MAX;

/// Reads a body, up to one byte more than is allowed: enough to know that it is too large.
pub async fn collect<B: Body<Data = Bytes> + Unpin>(mut body: B) -> Result<Bytes, B::Error> {
    // The client announces more than the server would discard, so nothing is read.
    if body.size_hint().lower() > DISCARDED_BYTES_MAX as u64 {
        return Ok(vec![0; BODY_BYTES_MAX + 1].into());
    }
    let mut kept = Vec::new();
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let Ok(bytes) = frame?.into_data() else { continue };
        let room = BODY_BYTES_MAX + 1 - kept.len();
        kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        read += bytes.len();
        if read > DISCARDED_BYTES_MAX {
            break;
        }
    }
    Ok(kept.into())
}

/// Parses the object in a body. An empty body counts as an empty object.
///
/// Unknown members are ignored, `null` counts as absent, duplicate members are refused. Each type names the camelCase
/// forms of its members.
pub fn read<T: DeserializeOwned>(headers: &HeaderMap, body: Bytes) -> Result<T, Refusal> {
    let body = inflated(headers, body)?;
    let json: &[u8] = match body.trim_ascii() {
        b"" => b"{}",
        // serde would also accept an array of the struct's members.
        text if text[0] != b'{' => return Err(Refusal::invalid("the body must be a JSON object")),
        text => text,
    };
    serde_json::from_slice(json).map_err(|error| Refusal::invalid(format!("the body cannot be read: {error}")))
}

/// Reads a text of a body: `null` counts as absent, and absent text is empty.
pub fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn inflated(headers: &HeaderMap, body: Bytes) -> Result<Bytes, Refusal> {
    let body = match encoding(headers)? {
        Encoding::Gzip if body.len() <= BODY_BYTES_MAX => {
            let mut inflated = Vec::new();
            let bounded = MultiGzDecoder::new(&body[..]).take(BODY_BYTES_MAX as u64 + 1).read_to_end(&mut inflated);
            bounded.map_err(|_| Refusal::invalid("the body is not gzip, although its encoding says so"))?;
            inflated.into()
        }
        Encoding::Gzip | Encoding::None => body,
    };
    if body.len() > BODY_BYTES_MAX {
        return Err(Refusal::invalid(format!("the body is larger than {BODY_BYTES_MAX} bytes")));
    }
    Ok(body)
}

/// How a body is compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Encoding {
    None,
    Gzip,
}

/// `x-gzip` is another name of `gzip` (RFC 9110, section 8.4.1.3).
fn encoding(headers: &HeaderMap) -> Result<Encoding, Refusal> {
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
    use glommio::LocalExecutor;
    use http_body_util::Full;
    use hyper::header::HeaderValue;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, PartialEq, Debug)]
    struct Thing {
        #[serde(alias = "avatarUrl")]
        avatar_url: Option<String>,
    }

    fn encoded(encoding: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(encoding))])
    }

    fn gzip(bytes: &[u8]) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap().into()
    }

    fn check(headers: &HeaderMap, body: impl Into<Bytes>, expected: Option<Option<&str>>) {
        let body = body.into();
        let thing: Option<Thing> = read(headers, body.clone()).ok();
        let shown = body.slice(..body.len().min(80));
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
        check(&none, format!("{{\"x\":{}1{}}}", "[".repeat(99_999), "]".repeat(99_999)), Some(None));
    }

    #[test]
    fn bounded_before_and_after_inflating() {
        let none = HeaderMap::new();
        check(&none, padded(BODY_BYTES_MAX), Some(None));
        check(&none, padded(BODY_BYTES_MAX + 1), None);
        check(&encoded("gzip"), gzip(br#"{"avatar_url":"a"}"#), Some(Some("a")));
        check(&encoded("GZIP"), gzip(&padded(BODY_BYTES_MAX)), Some(None));
        check(&encoded("gzip"), gzip(&padded(BODY_BYTES_MAX + 1)), None);
        check(&encoded("gzip"), gzip(&padded(64 * BODY_BYTES_MAX)), None);
        check(&encoded("gzip"), "{}", None);
        check(&encoded("gzip"), gzip(b"{}").slice(..12), None);
        check(&encoded("identity"), "{}", Some(None));
        check(&encoded("x-gzip"), gzip(b"{}"), Some(None));
        check(&encoded("identity, X-GZIP"), gzip(b"{}"), Some(None));
        for unknown in ["br", "deflate", "zstd", "gzip, gzip", "gzip, br", "gzi"] {
            let refused = read::<Thing>(&encoded(unknown), gzip(b"{}")).unwrap_err();
            assert_eq!(refused.code, Code::UnknownEncoding, "{unknown}");
        }
    }

    #[test]
    fn collects_no_more_than_tells_that_it_is_too_much() {
        let collected = |size: usize| {
            let body = Full::new(Bytes::from(vec![b' '; size]));
            LocalExecutor::default().run(async move { collect(body).await.unwrap().len() })
        };
        assert_eq!(collected(0), 0);
        assert_eq!(collected(BODY_BYTES_MAX), BODY_BYTES_MAX);
        assert_eq!(collected(BODY_BYTES_MAX + 1), BODY_BYTES_MAX + 1);
        assert_eq!(collected(3 * BODY_BYTES_MAX), BODY_BYTES_MAX + 1);
    }
}
