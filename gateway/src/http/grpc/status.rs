//! How a call ends: its code and text, and the headers that say so.

use std::borrow::Cow;
use std::time::Duration;

use engine::counters::GRPC_CODES;
use hyper::HeaderMap;
use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue, RETRY_AFTER};
use serde::Deserialize;

use super::message::encoded_text;
use crate::http::error::{Code, Refusal};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// In what time a call is to be answered.
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

const DEADLINE_EXCEEDED: u8 = 4;
const UNIMPLEMENTED: u8 = 12;
const INTERNAL: u8 = 13;

/// Most digits of a timeout.
const TIMEOUT_DIGITS_MAX: usize = 8;

/// Why a call has no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// The number of the code, of `GRPC_CODES`.
    pub code: u8,
    pub message: Cow<'static, str>,
    /// When the client may try again, as REST says it.
    retry_after: Option<HeaderValue>,
}

const _: () = assert!(GRPC_CODES.len() == 17);

impl Status {
    /// The time of the call is over. A change that has begun goes on.
    pub fn deadline_exceeded(message: &'static str) -> Self {
        Self { code: DEADLINE_EXCEEDED, message: message.into(), retry_after: None }
    }

    /// There is no such method.
    pub fn unimplemented(message: impl Into<Cow<'static, str>>) -> Self {
        Self { code: UNIMPLEMENTED, message: message.into(), retry_after: None }
    }

    /// What the REST answer with this status, these headers and this body says. An answer that is no error is unexpected
    /// here.
    pub fn of_answer(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Error {
            code: u8,
            message: String,
        }
        let retry_after = headers.get(RETRY_AFTER).cloned();
        match serde_json::from_slice(body) {
            Ok(Error { code, message }) if !status.is_success() && usize::from(code) < GRPC_CODES.len() => {
                Self { code, message: message.into(), retry_after }
            }
            _ => Self { code: INTERNAL, message: "the server has no words for its answer".into(), retry_after },
        }
    }

    /// The same status for a feature that the server does not have. REST finds nothing at its path.
    pub fn of_lacking(self) -> Self {
        let code = if self.code == Code::NotFound.number() { UNIMPLEMENTED } else { self.code };
        Self { code, ..self }
    }

    /// The headers of this status.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(self.code)));
        // The text is encoded, so it is always a value.
        if let Ok(message) = HeaderValue::from_str(&encoded_text(&self.message)) {
            headers.insert(GRPC_MESSAGE, message);
        }
        headers.extend(self.retry_after.clone().map(|after| (RETRY_AFTER, after)));
        headers
    }
}

/// The trailers of a call that was answered.
pub fn done() -> HeaderMap {
    HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static("0"))])
}

/// The time that the client gives a call, or `None` if it gives any. Refused if it cannot be read.
pub fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    let Some(value) = headers.get(GRPC_TIMEOUT) else { return Ok(None) };
    let read = || {
        let (unit, digits) = value.as_bytes().split_last()?;
        if !(1..=TIMEOUT_DIGITS_MAX).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
        Some(match unit {
            b'H' => Duration::from_secs(number * 3600),
            b'M' => Duration::from_secs(number * 60),
            b'S' => Duration::from_secs(number),
            b'm' => Duration::from_millis(number),
            b'u' => Duration::from_micros(number),
            b'n' => Duration::from_nanos(number),
            _ => return None,
        })
    };
    read().map(Some).ok_or_else(|| Refusal::invalid("grpc-timeout is no time"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http::answer::refused;

    proptest! {
        #[test]
        fn any_text_is_a_time_or_is_refused(text in "[0-9]{0,10}[HMSmun]?|[ -~]{0,12}") {
            let headers = HeaderMap::from_iter([(GRPC_TIMEOUT, HeaderValue::from_str(&text).unwrap())]);
            let is_time = (2..=TIMEOUT_DIGITS_MAX + 1).contains(&text.len())
                && text.ends_with(['H', 'M', 'S', 'm', 'u', 'n'])
                && text[..text.len() - 1].bytes().all(|byte| byte.is_ascii_digit());
            let read = timeout(&headers);
            prop_assert_eq!(read.is_ok(), is_time, "{:?} is read as {:?}", text, read);
            if let Ok(time) = read {
                prop_assert!(time.is_some_and(|time| time <= Duration::from_secs(99_999_999 * 3600)));
            }
        }
    }

    #[test]
    fn times_are_read() {
        let read = |text: &'static str| {
            let headers = HeaderMap::from_iter([(GRPC_TIMEOUT, HeaderValue::from_static(text))]);
            timeout(&headers).ok().flatten()
        };
        assert_eq!(timeout(&HeaderMap::new()).unwrap(), None);
        for (text, time) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("99999999S", Duration::from_secs(99_999_999)),
            ("250m", Duration::from_millis(250)),
            ("7u", Duration::from_micros(7)),
            ("0n", Duration::ZERO),
        ] {
            assert_eq!(read(text), Some(time), "{text}");
        }
        for text in ["", "S", "1", "1s", "-1S", "123456789S", "1.5S", "1 S"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_status_says_what_rest_says() {
        let answer = refused(&Refusal::not_found("100% gone"));
        let body = br#"{"error":"100% gone","message":"100% gone","code":5}"#;
        let status = Status::of_answer(answer.status(), answer.headers(), body);
        assert_eq!((status.code, &*status.message), (5, "100% gone"));
        assert_eq!(status.headers()["grpc-status"], "5");
        assert_eq!(status.headers()["grpc-message"], "100%25 gone");
        assert_eq!(status.of_lacking().code, UNIMPLEMENTED);
        let busy = refused(&Refusal::new(Code::Unavailable, "busy"));
        let status = Status::of_answer(busy.status(), busy.headers(), br#"{"message":"busy","code":14}"#);
        assert_eq!(status.headers()["retry-after"], busy.headers()["retry-after"]);
        let strange = Status::of_answer(StatusCode::BAD_REQUEST, &HeaderMap::new(), b"text");
        assert_eq!(strange.code, INTERNAL);
    }
}
