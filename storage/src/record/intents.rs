//! Records of changes in progress in a database: how to undo them if the server dies in the middle.

use rkyv::{Archive, Deserialize, Serialize};
use uuid::Uuid;

use super::{Damage, Kind, access, encode, malformed};

#[derive(Archive, Serialize, Deserialize)]
struct IntentV1 {
    intent: [u8; 16],
    part: u32,
    parts: u32,
    first: i64,
    rows: Vec<RowV1>,
}

#[derive(Archive, Serialize, Deserialize)]
struct RowV1 {
    statement: String,
    values: Vec<ValueV1>,
}

#[derive(Archive, Serialize, Deserialize)]
enum ValueV1 {
    Text(String),
    Texts(Vec<String>),
    Bytes(Vec<u8>),
    Id([u8; 16]),
    Int(i32),
    Big(i64),
    Flag(bool),
}

/// One part of an intent. An intent is valid only if all its parts are there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IntentPart {
    /// The same for all parts of one intent.
    pub intent: Uuid,
    pub part: u32,
    pub parts: u32,
    /// The timestamp of the first row; the others follow.
    pub first: i64,
    /// Statements by name, with their values.
    pub rows: Vec<(String, Vec<Value>)>,
}

/// A value of a row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    Text(String),
    Texts(Vec<String>),
    Bytes(Vec<u8>),
    Id(Uuid),
    Int(i32),
    Big(i64),
    Flag(bool),
}

/// The record of one part of an intent.
pub fn encode_intent(part: IntentPart) -> Vec<u8> {
    let IntentPart { intent, part, parts, first, rows } = part;
    let row = |(statement, values): (_, Vec<_>)| {
        let values = values.into_iter().map(|value| match value {
            Value::Text(text) => ValueV1::Text(text),
            Value::Texts(texts) => ValueV1::Texts(texts),
            Value::Bytes(bytes) => ValueV1::Bytes(bytes),
            Value::Id(id) => ValueV1::Id(id.into_bytes()),
            Value::Int(number) => ValueV1::Int(number),
            Value::Big(number) => ValueV1::Big(number),
            Value::Flag(flag) => ValueV1::Flag(flag),
        });
        RowV1 { statement, values: values.collect() }
    };
    let rows = rows.into_iter().map(row).collect();
    encode(Kind::Intent, &IntentV1 { intent: intent.into_bytes(), part, parts, first, rows })
}

/// The part of an intent in a record. Fails if the record is damaged or of another kind.
pub fn decode_intent(bytes: &[u8]) -> Result<IntentPart, Damage> {
    let record = access::<ArchivedIntentV1>(Kind::Intent, bytes)?;
    let record: IntentV1 = rkyv::deserialize(record).map_err(malformed)?;
    let IntentV1 { intent, part, parts, first, rows } = record;
    let row = |RowV1 { statement, values }| {
        let values = values.into_iter().map(|value| match value {
            ValueV1::Text(text) => Value::Text(text),
            ValueV1::Texts(texts) => Value::Texts(texts),
            ValueV1::Bytes(bytes) => Value::Bytes(bytes),
            ValueV1::Id(id) => Value::Id(Uuid::from_bytes(id)),
            ValueV1::Int(number) => Value::Int(number),
            ValueV1::Big(number) => Value::Big(number),
            ValueV1::Flag(flag) => Value::Flag(flag),
        });
        (statement, values.collect())
    };
    Ok(IntentPart { intent: Uuid::from_bytes(intent), part, parts, first, rows: rows.into_iter().map(row).collect() })
}
