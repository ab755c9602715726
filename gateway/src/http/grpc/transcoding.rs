//! A call's message as the REST request that it stands for, and the answer of REST as the message that the call is
//! answered with.

use std::fmt::Write;

use hyper::Uri;
use prost_reflect::prost::Message;
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions, Value};

use super::methods::{Content, Method};
use crate::http::error::Refusal;
use crate::percent;

/// The target and the body of a REST request.
#[derive(Debug)]
pub struct RestRequest {
    pub target: Uri,
    pub body: Vec<u8>,
}

/// The path of the method's requests without the values of its fields: what it names is known before the message is.
pub fn path_of(method: &Method) -> String {
    filled(method.path, |_| String::new())
}

/// The request that the message stands for. Refused if the message cannot be read, or is too long for a target.
pub fn request(method: &Method, input: MessageDescriptor, message: &[u8]) -> Result<RestRequest, Refusal> {
    let unreadable = |error| Refusal::invalid(format!("the message cannot be read: {error}"));
    let mut message = DynamicMessage::decode(input, message).map_err(unreadable)?;
    let mut target = filled(method.path, |field| match message.take_field_by_name(field) {
        Some(Value::String(value)) => percent::encode(&value),
        _ => String::new(),
    });
    let body = match method.content {
        Content::Nothing => Vec::new(),
        Content::Whole => json(&message)?,
        Content::Field(name) => match message.take_field_by_name(name) {
            Some(Value::Message(content)) => json(&content)?,
            _ => b"{}".to_vec(),
        },
    };
    if method.content != Content::Whole {
        let mut before = '?';
        for (field, value) in message.fields() {
            for text in texts(value) {
                // Writing to memory cannot fail.
                let _ = write!(target, "{before}{}={}", field.name(), percent::encode(&text));
                before = '&';
            }
        }
    }
    let target = target.parse().map_err(|_| Refusal::invalid("the message is too long"))?;
    Ok(RestRequest { target, body })
}

/// The bytes of the message that REST has answered as JSON. Members that the schema does not know are left out. Fails if
/// the schema and the answer do not fit each other, which tests exclude.
pub fn answer(output: MessageDescriptor, json: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    Ok(DynamicMessage::deserialize_with_options(output, &mut reader, &options)?.encode_to_vec())
}

/// The path with its fields replaced by their values.
fn filled(path: &str, mut value: impl FnMut(&str) -> String) -> String {
    match path.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?))) {
        Some((before, (field, after))) => format!("{before}{}{after}", value(field)),
        None => path.to_owned(),
    }
}

/// The message as REST reads it: with names in this protocol's spelling, and without fields that are not set. Refused if JSON
/// has no form for a value, such as a time that is out of range.
fn json(message: &DynamicMessage) -> Result<Vec<u8>, Refusal> {
    let mut text = Vec::new();
    let options = SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false);
    let written = message.serialize_with_options(&mut serde_json::Serializer::new(&mut text), &options);
    match written {
        Ok(()) => Ok(text),
        Err(error) => Err(Refusal::invalid(format!("the message cannot be read: {error}"))),
    }
}

/// The values of a field in a query: one, or one for each item of a list.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Bool(truth) => vec![truth.to_string()],
        Value::I32(number) => vec![number.to_string()],
        Value::List(items) => items.iter().flat_map(texts).collect(),
        // The well-known types for values that may be missing.
        Value::Message(wrapped) => wrapped.get_field_by_name("value").map_or_else(Vec::new, |value| texts(&value)),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost_reflect::Kind;

    use super::*;
    use crate::http::grpc::methods::{METHODS, method};
    use crate::http::grpc::schema::messages_of;

    /// The target and the body that a message becomes, which is written as JSON here.
    fn transcoded(name: &str, message: &str) -> (String, String) {
        let method = method(name).unwrap();
        let (input, _) = messages_of(method);
        let bytes = answer(input.clone(), message.as_bytes()).unwrap();
        let RestRequest { target, body } = request(method, input, &bytes).unwrap();
        (target.to_string(), String::from_utf8(body).unwrap())
    }

    #[test]
    fn messages_become_requests() {
        for (name, message, target, body) in [
            ("GetAccount", "{}", "/v2/account", ""),
            (
                "AuthenticateEmail",
                r#"{"account":{"email":"a@b.c","password":"secret","vars":{"k":"v"}},"create":false,"username":"a b"}"#,
                "/v2/account/authenticate/email?create=false&username=a%20b",
                r#"{"email":"a@b.c","password":"secret","vars":{"k":"v"}}"#,
            ),
            ("AuthenticateCustom", "{}", "/v2/account/authenticate/custom", "{}"),
            (
                "UpdateAccount",
                r#"{"display_name":"","lang_tag":"de"}"#,
                "/v2/account",
                r#"{"display_name":"","lang_tag":"de"}"#,
            ),
            (
                "AddFriends",
                r#"{"ids":["x","y"],"usernames":["ü&="]}"#,
                "/v2/friend?ids=x&ids=y&usernames=%C3%BC%26%3D",
                "",
            ),
            ("UpdateGroup", r#"{"group_id":"g/1","open":false}"#, "/v2/group/g%2F1", r#"{"open":false}"#),
            ("ListGroupUsers", r#"{"group_id":"","limit":0,"state":-1}"#, "/v2/group//user?limit=0&state=-1", ""),
            (
                "ListChannelMessages",
                r#"{"channel_id":"2...a b","forward":true}"#,
                "/v2/channel/2...a%20b?forward=true",
                "",
            ),
        ] {
            assert_eq!(transcoded(name, message), (target.to_owned(), body.to_owned()), "{name}");
        }
    }

    #[test]
    fn messages_that_cannot_be_read_are_refused() {
        let method = method("AddFriends").unwrap();
        let (input, _) = messages_of(method);
        // A field that ends too early, and a text that is no UTF-8.
        for bytes in [&b"\x0a\x05ab"[..], b"\x0a\x01\xff", b"\x0f"] {
            let refused = request(method, input.clone(), bytes).unwrap_err();
            assert!(refused.message.starts_with("the message cannot be read"), "{refused:?}");
        }
        // 65,535 bytes are the longest target.
        let long = answer(input.clone(), format!(r#"{{"ids":["{}"]}}"#, "ü".repeat(11_000)).as_bytes()).unwrap();
        assert_eq!(request(method, input, &long).unwrap_err().message, "the message is too long");
    }

    #[test]
    fn whatever_goes_into_a_query_has_a_form_there() {
        for method in METHODS.iter().filter(|method| method.content != Content::Whole) {
            let in_body = |name: &str| {
                method.content
                    == Content::Field(match method.content {
                        Content::Field(field) if field == name => field,
                        _ => return false,
                    })
            };
            for field in messages_of(method).0.fields().filter(|field| !in_body(field.name())) {
                let is_known = match field.kind() {
                    Kind::String | Kind::Bool | Kind::Int32 => true,
                    Kind::Message(message) => {
                        message.package_name() == "google.protobuf" && message.get_field_by_name("value").is_some()
                    }
                    _ => false,
                };
                assert!(is_known && !field.is_map(), "{}: {field:?}", method.name);
            }
        }
    }

    #[test]
    fn a_path_is_known_before_its_values() {
        let path = |name| path_of(method(name).unwrap());
        assert_eq!(path("GetAccount"), "/v2/account");
        assert_eq!(path("JoinGroup"), "/v2/group//join");
        assert_eq!(path("ListChannelMessages"), "/v2/channel/");
    }

    proptest! {
        #[test]
        fn any_bytes_become_a_request_or_a_refusal(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for method in METHODS {
                if let Ok(RestRequest { target, body }) = request(method, messages_of(method).0, &bytes) {
                    prop_assert!(target.path().starts_with('/'));
                    prop_assert!(body.first().is_none_or(|first| *first == b'{'), "the body of {}", method.name);
                }
            }
        }
    }
}
