//! Tests of all statements together, and what the tests of the tables share: a row goes through the bytes of the wire and
//! comes back, without a database.

use std::collections::HashMap;

use scylla::deserialize::FrameSlice;
use scylla::deserialize::row::{ColumnIterator, DeserializeRow};
use scylla::frame::response::result::{CollectionType, ColumnSpec, ColumnType, NativeType, TableSpec};
use scylla::serialize::value::SerializeValue;
use scylla::serialize::writers::CellWriter;
use scylla::value::Counter;

use super::*;

/// The columns of a table, from its definition: each with its type.
fn columns(table: &'static str) -> HashMap<&'static str, ColumnType<'static>> {
    let (_, body) = table.split_once('(').unwrap();
    let typed = body.split(',').filter_map(|part| {
        let mut words = part.split_whitespace();
        let (name, kind) = (words.next()?, words.next()?.trim_end_matches(')'));
        Some((name, type_of(kind)?))
    });
    typed.collect()
}

/// A table's definition with a column that a later version of the schema adds.
pub fn with_column(table: &'static str, added: &'static str) -> &'static str {
    let (_, column) = added.split_once(" ADD ").unwrap();
    format!("{table}, {column}").leak()
}

fn type_of(kind: &str) -> Option<ColumnType<'static>> {
    let native = match kind {
        "text" => NativeType::Text,
        "bigint" => NativeType::BigInt,
        "int" => NativeType::Int,
        "uuid" => NativeType::Uuid,
        "blob" => NativeType::Blob,
        "boolean" => NativeType::Boolean,
        "frozen<list<text>>" => {
            let texts = Box::new(ColumnType::Native(NativeType::Text));
            return Some(ColumnType::Collection { frozen: true, typ: CollectionType::List(texts) });
        }
        _ => return None,
    };
    Some(ColumnType::Native(native))
}

/// The values that a statement gives to columns, by their names. Markers of another use (a limit, a bound) are left out.
fn named(cql: &'static str, values: &[CqlValue]) -> HashMap<&'static str, CqlValue> {
    let mut values = values.iter().cloned();
    let cql = cql.split(" IF ").next().unwrap();
    let mut value = |given: &str| match given {
        "?" => values.next(),
        number => number.parse().ok().map(|number| CqlValue::Counter(Counter(number))),
    };
    if let Some(inserted) = cql.strip_prefix("INSERT INTO ") {
        let (names, given) = inserted.split_once(") VALUES (").unwrap();
        let (_, names) = names.split_once('(').unwrap();
        let (given, _) = given.split_once(')').unwrap();
        return names.split(", ").zip(given.split(", ").map(|given| value(given).unwrap())).collect();
    }
    let words: Vec<_> = cql.split(' ').map(|word| word.trim_matches(['(', ')', ','])).collect();
    let pairs = words.windows(3).filter_map(|window| {
        let found = value(window[2]);
        Some((window[0], found?)).filter(|_| window[1] == "=")
    });
    pairs.collect()
}

/// A number that stands in a statement is a value of its column's type. [`named`] does not know the type, and returns it
/// as a counter, which no table has.
fn typed(value: &CqlValue, kind: &ColumnType) -> CqlValue {
    match (value, kind) {
        (CqlValue::Counter(Counter(number)), ColumnType::Native(NativeType::Int)) => int(*number as i32),
        (CqlValue::Counter(Counter(number)), _) => big(*number),
        (value, _) => value.clone(),
    }
}

/// The values that a mutation gives to columns.
fn given(mutation: &Mutation) -> HashMap<&'static str, CqlValue> {
    let Mutation { statement, values } = mutation.clone();
    named(statement.cql(), &if statement.is_conditional() { values } else { statement.stamped(values, 1) })
}

/// What the columns of a read are called, and the type and the value of each in a row.
fn selected(
    table: &'static str,
    cql: &'static str,
    row: &HashMap<&'static str, CqlValue>,
) -> Vec<(String, ColumnType<'static>, Option<CqlValue>)> {
    let (names, _) = cql["SELECT ".len()..].split_once(" FROM ").unwrap();
    let columns = columns(table);
    let mut depth = 0;
    let names = names.trim_start_matches("DISTINCT ").split(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    });
    let column = |name: &str| match name.trim() {
        // The names that Cassandra gives them.
        name if name.starts_with("TTL") => (name.to_lowercase(), ColumnType::Native(NativeType::Int), Some(int(7))),
        name if name.contains('(') => {
            let name = name.to_lowercase().replace("token", "system.token");
            (name, ColumnType::Native(NativeType::BigInt), Some(big(8)))
        }
        name => (name.to_owned(), columns[name].clone(), row.get(name).cloned()),
    };
    names.map(column).collect()
}

/// Writes a row, and reads it again as the query's type, with the bytes that go over the wire. Fails if a value has not
/// the type of its column, if the row's type is not what the query reads, or if the query asks for another row.
pub fn read_back<R>(table: &'static str, put: &Mutation, query: Query<R>) -> R
where
    R: for<'f, 'm> DeserializeRow<'f, 'm>,
{
    let (columns, row) = (columns(table), given(put));
    for (name, value) in &row {
        let mut bytes = Vec::new();
        let written = typed(value, &columns[name]).serialize(&columns[name], CellWriter::new(&mut bytes));
        assert!(written.is_ok(), "{name} of {:?} has another type", put.statement);
    }
    for (name, value) in named(query.statement.cql(), &query.values) {
        assert_eq!(Some(&value), row.get(name), "{name} in {:?}", query.statement);
    }
    let (mut bytes, mut specs) = (Vec::new(), Vec::new());
    let found = selected(table, query.statement.cql(), &row);
    for (name, kind, value) in &found {
        let value = value.as_ref().map(|value| typed(value, kind));
        value.serialize(kind, CellWriter::new(&mut bytes)).unwrap();
        specs.push(ColumnSpec::borrowed(name, kind.clone(), TableSpec::borrowed("", "")));
    }
    R::type_check(&specs).unwrap();
    R::deserialize(ColumnIterator::new(&specs, FrameSlice::new_borrowed(&bytes))).unwrap()
}

/// Checks that `delete` names the row that `put` writes.
pub fn check_delete(put: &Mutation, delete: &Mutation) {
    let (row, key) = (given(put), given(delete));
    assert!(!key.is_empty(), "{delete:?}");
    for (name, value) in &key {
        assert_eq!(Some(value), row.get(name), "{name} in {:?}", delete.statement);
    }
}

/// Stored records contain names of statements, each with this number of values. All statements that write one row are
/// here, because any of them may come into a record. A statement that must change gets a new name, and the old one
/// stays.
#[test]
fn what_records_name_is_found() {
    let named = "PutMessage 11 EditMessage 7 DeleteMessage 3 SetHead 6 PutAuthored 2 PutAuthorBucket 5 PutUser 14 DeleteUser 1 \
                 PutRevocation 3 DeleteRevocation 2 PutGroup 12 DeleteGroup 1 PutGroupList 3 DeleteGroupList 2 \
                 PutMember 5 DeleteMember 3 PutRoster 5 DeleteRoster 5 PutUserGroup 4 DeleteUserGroup 4 PutEdge 4 \
                 DeleteEdge 2 PutFriend 4 DeleteFriend 4 PutEdgeNoted 5 PutFriendNoted 5 PutBlockedBy 2 DeleteBlockedBy 2 PutCircle 3 DeleteCircle 1 \
                 PutInbox 4 DeleteInbox 1 PutNotification 7 DeleteNotification 2 PutDeparture 1 DeleteDeparture 1 \
                 PutObject 9 DeleteObject 4 PutPublicObject 3 DeletePublicObject 3 PutObjectCounts 3 DeleteObjectCounts 1 \
                 PutGroupCount 2 DeleteGroupCount 1 PutLeftover 3 DeleteLeftover 2 SetIntent 2 PutIntentPart 3 ClearIntent 1";
    let words: Vec<_> = named.split(' ').collect();
    for pair in words.chunks(2) {
        let statement = Statement::named(pair[0]).unwrap();
        assert_eq!(statement.name(), pair[0]);
        // One parameter more than in the record: the timestamp.
        assert_eq!((statement.cql().matches('?').count() - 1).to_string(), pair[1], "{}", statement.cql());
        assert_eq!(statement.values().to_string(), pair[1]);
    }
    assert_eq!(Statement::named("DropEverything"), None);
}

#[test]
fn each_statement_is_in_its_place_and_takes_its_timestamp() {
    for (place, (statement, cql)) in ALL.iter().enumerate() {
        assert_eq!(*statement as usize, place);
        let stamped = cql.contains("TIMESTAMP ?");
        assert!(!(stamped && statement.is_conditional()), "{cql}: transactions have timestamps of their own");
        if !stamped {
            continue;
        }
        if cql.starts_with("INSERT") {
            assert!(cql.ends_with("TIMESTAMP ?"), "{cql}");
        } else {
            assert!(cql.find('?') == cql.find("TIMESTAMP ?").map(|at| at + 10), "{cql}");
        }
    }
}
