//! The schema, read at run time by an independent library, which translates envelopes between its JSON and bytes. The
//! tests of the whole server include this file.

use std::sync::LazyLock;

use prost_reflect::prost::Message;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions};

/// The description of the message that every frame carries. The schema is compiled at the first call.
pub fn envelope() -> MessageDescriptor {
    static ENVELOPE: LazyLock<MessageDescriptor> = LazyLock::new(|| {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../engine/proto");
        let files = protox::compile(["realtime.proto"], [folder]).expect("the schema compiles");
        let pool = DescriptorPool::from_file_descriptor_set(files).expect("the schema is whole");
        pool.get_message_by_name("nakama.realtime.Envelope").expect("the schema has envelopes")
    });
    ENVELOPE.clone()
}

/// Translates an envelope from text to bytes. Members that the schema does not know are left out, such as those inside
/// payloads that the server does not read.
pub fn bytes_of(text: &str) -> Vec<u8> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    DynamicMessage::deserialize_with_options(envelope(), &mut reader, &options).expect(text).encode_to_vec()
}

/// Translates an envelope from bytes to text, with names in this protocol's spelling.
pub fn text_of(bytes: &[u8]) -> String {
    let message = DynamicMessage::decode(envelope(), bytes).expect("an envelope");
    let mut text = Vec::new();
    let options = SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false);
    message.serialize_with_options(&mut serde_json::Serializer::new(&mut text), &options).expect("memory takes it");
    String::from_utf8(text).expect("JSON is UTF-8")
}
