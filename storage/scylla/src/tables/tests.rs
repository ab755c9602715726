//! Tests of all statements together.

use super::*;

/// Stored records contain names of statements, each with this number of values. All statements that write one row are
/// here, because any of them may come into a record. A statement that must change gets a new name, and the old one
/// stays.
#[test]
fn what_records_name_is_found() {
    let named = "PutMessage 11 EditMessage 7 DeleteMessage 3 SetHead 6 PutAuthored 2 PutUser 14 DeleteUser 1 \
                 PutRevocation 3 DeleteRevocation 2 PutGroup 12 DeleteGroup 1 PutGroupList 3 DeleteGroupList 2 \
                 PutMember 5 DeleteMember 3 PutRoster 5 DeleteRoster 5 PutUserGroup 4 DeleteUserGroup 4 PutEdge 4 \
                 DeleteEdge 2 PutFriend 4 DeleteFriend 4 PutBlockedBy 2 DeleteBlockedBy 2 PutCircle 3 DeleteCircle 1 \
                 PutInbox 4 DeleteInbox 1 PutNotification 7 DeleteNotification 2 PutDeparture 1 DeleteDeparture 1 \
                 PutLeftover 3 DeleteLeftover 2 SetIntent 2 PutIntentPart 3 ClearIntent 1";
    let words: Vec<_> = named.split(' ').collect();
    for pair in words.chunks(2) {
        let statement = Statement::named(pair[0]).unwrap();
        assert_eq!(statement.name(), pair[0]);
        // One parameter more than in the record: the timestamp.
        assert_eq!((statement.cql().matches('?').count() - 1).to_string(), pair[1], "{}", statement.cql());
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
