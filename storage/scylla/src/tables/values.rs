//! Values as the driver takes them, by their types in CQL.

use scylla::value::CqlValue;
use storage::group::RosterPlace;
use uuid::Uuid;

/// The three columns by which rosters are ordered, for the first and the last place of a range.
pub fn roster_places(places: [RosterPlace; 2]) -> impl Iterator<Item = CqlValue> {
    places.into_iter().flat_map(|place| [int(place.role as i32), big(place.since.0), id(place.id)])
}

/// A value of the CQL type `text`.
pub fn text(value: &str) -> CqlValue {
    CqlValue::Text(value.to_owned())
}

/// A value of the CQL type `list<text>`.
pub fn texts(values: &[String]) -> CqlValue {
    CqlValue::List(values.iter().map(|value| text(value)).collect())
}

/// A value of the CQL type `uuid`.
pub fn id(value: Uuid) -> CqlValue {
    CqlValue::Uuid(value)
}

/// A value of the CQL type `int`.
pub fn int(value: i32) -> CqlValue {
    CqlValue::Int(value)
}

/// A value of the CQL type `bigint`.
pub fn big(value: i64) -> CqlValue {
    CqlValue::BigInt(value)
}

/// A value of the CQL type `boolean`.
pub fn flag(value: bool) -> CqlValue {
    CqlValue::Boolean(value)
}

/// A value of the CQL type `blob`.
pub fn bytes(value: &[u8]) -> CqlValue {
    CqlValue::Blob(value.to_vec())
}

/// A `LIMIT` as CQL takes it: from 1 to `i32::MAX`.
pub fn limit_of(limit: usize) -> i32 {
    i32::try_from(limit).unwrap_or(i32::MAX).max(1)
}
