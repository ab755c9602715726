//! Tests that the two formats agree: what can be read or written in one means the same in the other. A library that
//! reads the schema at run time translates between them, with the schema's own JSON.

use proptest::prelude::*;

use super::request::Request;
use super::{json, protobuf};

pub mod commands;
mod said;
pub mod schema;

/// Checks that the two encoders append the same envelope.
fn check(as_json: impl FnOnce(&mut Vec<u8>), as_protobuf: impl FnOnce(&mut Vec<u8>)) {
    let (mut text, mut bytes) = (Vec::new(), b"before".to_vec());
    as_json(&mut text);
    as_protobuf(&mut bytes);
    let (text, bytes) = (String::from_utf8(text).unwrap(), &bytes[b"before".len()..]);
    let (other_text, other_bytes) = (schema::text_of(bytes), schema::bytes_of(&text));
    if text.contains(TWO_ENTRIES) {
        // The library writes a map's entries in any order.
        assert_eq!(value(&other_text), value(&text));
        assert_eq!(value(&schema::text_of(&other_bytes)), value(&text));
        assert_eq!(other_bytes.len(), bytes.len());
        return;
    }
    assert_eq!(other_text, text);
    assert_eq!(other_bytes, bytes, "{text}");
}

/// Stands in an error whose context has two entries, and in no other envelope unless a user writes it.
const TWO_ENTRIES: &str = "\"retry_after_ms\":";

fn value(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_payload_s_number_means_what_its_name_means() {
    let mut payloads = 0;
    for field in schema::envelope().fields().filter(|field| field.name() != "cid") {
        let text = format!(r#"{{"cid":"1","{}":{{}}}}"#, field.name());
        assert_eq!(protobuf::decode(&schema::bytes_of(&text)), json::decode(&text), "{}", field.name());
        payloads += 1;
    }
    assert_eq!(payloads, json::PAYLOADS);
}

proptest! {
    #[test]
    fn a_command_is_read_alike(cid in any::<String>(), command in commands::command(), style in commands::style()) {
        let text = commands::written(&cid, &command, &style);
        let bytes = schema::bytes_of(&text);
        let request = Request { cid, command };
        prop_assert_eq!(json::decode(&text), Ok(request.clone()), "{}", text);
        prop_assert_eq!(protobuf::decode(&bytes), Ok(request), "{}", text);
    }

    #[test]
    fn an_answer_is_written_alike(cid in any::<String>(), reply in said::reply()) {
        check(|out| json::encode_reply(&cid, &reply, out), |out| protobuf::encode_reply(&cid, &reply, out));
    }

    #[test]
    fn an_event_is_written_alike(event in said::event()) {
        check(|out| json::encode_event(&event, out), |out| protobuf::encode_event(&event, out));
    }

    #[test]
    fn a_gap_is_written_alike(channel in said::channel(), missed in said::missed()) {
        check(|out| json::encode_gap(&channel, missed, out), |out| protobuf::encode_gap(&channel, missed, out));
    }

    #[test]
    fn news_are_written_alike(news in said::news()) {
        check(|out| json::encode_news(&news, out), |out| protobuf::encode_news(&news, out));
    }
}
