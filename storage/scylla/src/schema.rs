//! The tables, as CQL that both Cassandra (4.1, 5.0) and ScyllaDB accept, and the migrations from each version to the
//! next.
//!
//! Tables marked *conditional* are written by lightweight transactions only, so that each of their rows has one history.
//! There are no indexes, views, counters or user types: support for those differs.

use std::collections::BTreeMap;

use engine::id::Timestamp;
use scylla::client::session::Session;
use storage::Failure;

use crate::options::{Keyspace, ScyllaOptions};
use crate::tables::{
    account_deletions, author_buckets, authored, blocked_by, channels, credentials, edges, friend_counts, friends,
    group_counts, group_list, group_members, group_names, group_rosters, group_seats, groups, inboxes, installation,
    intents, leftovers, messages, notifications, object_counts, objects, public_objects, revocations, servers,
    transfers, user_groups, usernames, users,
};

/// The schema's version. Rises with every migration; a program refuses versions that are newer than its own.
pub const VERSION: i32 = 7;

/// The statements that lead to each version from the one before; the first creates everything.
const MIGRATIONS: [&[&str]; VERSION as usize] =
    [VERSION_1, VERSION_2, VERSION_3, VERSION_4, VERSION_5, VERSION_6, VERSION_7];

const VERSION_1: &[&str] = &[
    messages::TABLE,
    channels::TABLE,
    channels::EPOCHS_TABLE,
    channels::BUCKETS_TABLE,
    authored::TABLE,
    users::TABLE,
    usernames::TABLE,
    credentials::TABLE,
    revocations::TABLE,
    groups::TABLE,
    group_names::TABLE,
    group_seats::TABLE,
    group_list::TABLE,
    group_members::TABLE,
    group_rosters::TABLE,
    user_groups::TABLE,
    edges::TABLE,
    friends::TABLE,
    blocked_by::TABLE,
    friend_counts::TABLE,
    inboxes::TABLE,
    notifications::TABLE,
    account_deletions::TABLE,
    leftovers::TABLE,
    servers::TABLE,
    transfers::TABLE,
];

const VERSION_2: &[&str] = &[intents::TABLE];

/// The groups of each user are counted when they are next needed.
const VERSION_3: &[&str] = &[group_counts::TABLE];

/// What was noted before stays in `authored`.
const VERSION_4: &[&str] = &[author_buckets::TABLE];

/// No user has objects yet.
const VERSION_5: &[&str] = &[objects::TABLE, public_objects::TABLE, object_counts::TABLE];

/// What a user has noted of another. Rows that were written before have no such value.
const VERSION_6: &[&str] = &[edges::METADATA, friends::METADATA];

/// The next server that starts writes the row.
const VERSION_7: &[&str] = &[installation::TABLE];

const VERSION_TABLE: &str =
    "CREATE TABLE IF NOT EXISTS schema_version (id int PRIMARY KEY, version int, applied_us bigint)";

/// Every table except that of the schema's version.
pub fn tables() -> impl Iterator<Item = &'static str> {
    let named = MIGRATIONS.iter().copied().flatten().filter_map(|cql| cql.strip_prefix("CREATE TABLE IF NOT EXISTS "));
    named.filter_map(|rest| rest.split([' ', '(']).next())
}

/// The whole schema, for operators and for other tools.
pub fn text(keyspace: &Keyspace, replication: u16) -> String {
    let mut text = create_keyspace(keyspace, replication, "") + ";\n";
    text += "-- On ScyllaDB 6.0 to 2025.3 add to it: AND tablets = {'enabled': false}\n";
    text += &format!("USE {keyspace};\n{VERSION_TABLE};\n");
    for statement in MIGRATIONS.iter().copied().flatten() {
        text += &format!("{statement};\n");
    }
    text + &format!("INSERT INTO schema_version (id, version, applied_us) VALUES (0, {VERSION}, 0);\n")
}

fn create_keyspace(keyspace: &Keyspace, replication: u16, more: &str) -> String {
    format!(
        "CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = {{'class': 'NetworkTopologyStrategy', \
         'replication_factor': {replication}}} AND durable_writes = true{more}"
    )
}

/// Refuses more copies than a data center has nodes for: such a keyspace can be made, but nothing can be written to it.
fn check_nodes(session: &Session, replication: u16) -> Result<(), Failure> {
    let state = session.get_cluster_state();
    let mut centers: BTreeMap<&str, usize> = BTreeMap::new();
    for node in state.get_nodes_info() {
        *centers.entry(node.datacenter.as_deref().unwrap_or("the only data center")).or_default() += 1;
    }
    match centers.into_iter().find(|(_, nodes)| *nodes < usize::from(replication)) {
        None => Ok(()),
        Some((center, nodes)) => Err(too_many_copies(center, nodes, replication)),
    }
}

fn too_many_copies(center: &str, nodes: usize, replication: u16) -> Failure {
    Failure::Unfit(format!(
        "{replication} copies are asked for in each data center, and {center} has fewer nodes ({nodes}): such a keyspace could be made, \
         but not written to. Give --replication {nodes}, or add nodes first; nothing was made"
    ))
}

/// Brings a database to this program's version, from an empty or an older one. Repeating it changes nothing.
pub async fn apply(session: &Session, options: &ScyllaOptions, now: Timestamp) -> Result<i32, Failure> {
    let keyspace = &options.keyspace;
    if !exists(session, keyspace).await? {
        check_nodes(session, options.replication)?;
        make_keyspace(session, options).await?;
    }
    use_keyspace(session, keyspace).await?;
    run(session, VERSION_TABLE).await?;
    let before = version(session, keyspace).await?.unwrap_or(0);
    if before > VERSION {
        return Err(newer(keyspace, before));
    }
    for (number, statements) in MIGRATIONS.iter().enumerate().skip(before as usize) {
        for statement in *statements {
            if !is_done(session, keyspace, statement).await? {
                run(session, statement).await?;
            }
        }
        let noted = format!(
            "INSERT INTO schema_version (id, version, applied_us) VALUES (0, {}, {})",
            number + 1,
            now.0.div_euclid(1_000)
        );
        run(session, &noted).await?;
    }
    Ok(before)
}

/// Some versions of ScyllaDB do not support lightweight transactions with tablets, and Cassandra has no tablets.
async fn make_keyspace(session: &Session, options: &ScyllaOptions) -> Result<(), Failure> {
    let cql = "SELECT table_name FROM system_schema.tables WHERE keyspace_name='system' AND table_name='scylla_local'";
    let found = session.query_unpaged(cql, ()).await.map_err(said)?.into_rows_result().map_err(said)?;
    let is_scylla = found.rows_num() > 0;
    let make = |more| create_keyspace(&options.keyspace, options.replication, more);
    if is_scylla && run(session, &make(" AND tablets = {'enabled': false}")).await.is_ok() {
        return Ok(());
    }
    run(session, &make("")).await
}

/// Checks whether the keyspace's tables are those that this program knows; the failure says what to do if they are not.
pub async fn check(session: &Session, keyspace: &Keyspace) -> Result<(), Failure> {
    if !exists(session, keyspace).await? {
        return Err(missing(keyspace));
    }
    let cql = format!(
        "SELECT table_name FROM system_schema.tables WHERE keyspace_name='{keyspace}' AND table_name='schema_version'"
    );
    let tables = session.query_unpaged(cql, ()).await.map_err(said)?.into_rows_result().map_err(said)?;
    if tables.rows_num() == 0 {
        return Err(missing(keyspace));
    }
    match version(session, keyspace).await? {
        None => Err(missing(keyspace)),
        Some(found) if found > VERSION => Err(newer(keyspace, found)),
        Some(found) if found < VERSION => Err(Failure::Corrupt(format!(
            "keyspace {keyspace} has schema version {found}, and this program needs {VERSION}: run `stentor schema \
             --apply` with the same options"
        ))),
        Some(_) => Ok(()),
    }
}

async fn exists(session: &Session, keyspace: &Keyspace) -> Result<bool, Failure> {
    let cql = format!("SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name='{keyspace}'");
    let found = session.query_unpaged(cql, ()).await.map_err(said)?.into_rows_result().map_err(said)?;
    Ok(found.rows_num() > 0)
}

async fn use_keyspace(session: &Session, keyspace: &Keyspace) -> Result<(), Failure> {
    session.use_keyspace(keyspace.as_str(), true).await.map_err(said)
}

/// Whether a statement adds a column that is there, because a migration was cut short. CQL has no form of such a statement
/// that both databases accept and that may be repeated.
async fn is_done(session: &Session, keyspace: &Keyspace, statement: &str) -> Result<bool, Failure> {
    let Some((table, column)) = added_column(statement) else { return Ok(false) };
    let cql = format!(
        "SELECT column_name FROM system_schema.columns WHERE keyspace_name='{keyspace}' AND table_name='{table}' AND \
         column_name='{column}'"
    );
    let found = session.query_unpaged(cql, ()).await.map_err(said)?.into_rows_result().map_err(said)?;
    Ok(found.rows_num() > 0)
}

/// The table and the name of the column that a statement adds, if it adds one.
fn added_column(statement: &str) -> Option<(&str, &str)> {
    let (table, column) = statement.strip_prefix("ALTER TABLE ")?.split_once(" ADD ")?;
    Some((table, column.split(' ').next()?))
}

async fn version(session: &Session, keyspace: &Keyspace) -> Result<Option<i32>, Failure> {
    let cql = format!("SELECT version FROM {keyspace}.schema_version WHERE id = 0");
    let found = session.query_unpaged(cql, ()).await.map_err(said)?.into_rows_result().map_err(said)?;
    Ok(found.maybe_first_row::<(i32,)>().map_err(said)?.map(|(version,)| version))
}

async fn run(session: &Session, cql: &str) -> Result<(), Failure> {
    session.query_unpaged(cql, ()).await.map_err(said)?;
    session.await_schema_agreement().await.map_err(said)?;
    Ok(())
}

fn missing(keyspace: &Keyspace) -> Failure {
    Failure::Corrupt(format!(
        "there is no Stentor schema in keyspace {keyspace}: run `stentor schema --apply` with the same options"
    ))
}

fn newer(keyspace: &Keyspace, found: i32) -> Failure {
    Failure::Corrupt(format!(
        "keyspace {keyspace} has schema version {found}, and this program knows {VERSION} at most: start the program that \
         made it, or a newer one"
    ))
}

fn said(error: impl std::fmt::Display) -> Failure {
    Failure::Passing(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_every_table_once() {
        let keyspace: Keyspace = "chat".parse().unwrap();
        let text = text(&keyspace, 3);
        let names: Vec<_> = tables().collect();
        let columns: Vec<_> = MIGRATIONS.iter().copied().flatten().filter_map(|cql| added_column(cql)).collect();
        assert_eq!(columns, [("edges", "metadata"), ("friends", "metadata")]);
        let statements = MIGRATIONS.iter().map(|statements| statements.len()).sum::<usize>();
        assert_eq!(names.len() + columns.len(), statements, "each makes a table or adds a column");
        for name in names {
            assert_eq!(text.matches(&format!("IF NOT EXISTS {name} (")).count(), 1, "{name}");
        }
        assert!(text.contains("'replication_factor': 3"));
    }
}
