//! The harness that the tests on CQL stand on: nodes that start, die and come back, and a way to them that fails on demand.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use tests::harness::cassandra::{Cassandra, Consistency, Cql, CqlError};
use tests::harness::{DEADLINE, Fault, FaultProxy};

const KEYSPACE: &str =
    "CREATE KEYSPACE k WITH replication = {'class': 'NetworkTopologyStrategy', 'replication_factor': 1}";
const TABLE: &str = "CREATE TABLE k.t (name text PRIMARY KEY, number bigint)";

fn insert(name: &str, number: i64) -> String {
    format!("INSERT INTO k.t (name, number) VALUES ('{name}', {number})")
}

/// What is stored, by name.
fn stored(cql: &mut Cql) -> Vec<(String, i64)> {
    let rows = cql.query("SELECT name, number FROM k.t", Consistency::One).expect("a node that answers");
    let mut stored: Vec<_> = rows.texts("name").into_iter().zip(rows.integers("number")).collect();
    stored.sort();
    stored
}

#[test]
fn a_node_keeps_what_it_was_told_through_a_kill_and_a_stop() {
    let start = Instant::now();
    let cluster = Cassandra::start();
    let node = &cluster.nodes()[0];
    println!("started in {:?}, {} MiB resident", start.elapsed(), node.resident_kib() >> 10);
    let mut cql = node.cql();
    cluster.change_schema(KEYSPACE);
    cluster.change_schema(TABLE);
    for statement in [&insert("one", 1), &insert("two", -2)] {
        cql.query(statement, Consistency::Quorum).expect(statement);
    }
    assert_eq!(stored(&mut cql), [("one".into(), 1), ("two".into(), -2)]);
    let refused = cql.query("SELECT nothing FROM k.t", Consistency::One);
    assert!(matches!(&refused, Err(CqlError::Refused { message, .. }) if message.contains("nothing")), "{refused:?}");

    let mut other = node.cql();
    node.freeze();
    assert_silent(&mut other, "SELECT release_version FROM system.local");
    node.thaw();
    assert_eq!(stored(&mut cql).len(), 2, "a connection goes on");

    // The log of commits is written as it comes and synced later, so what a kill leaves is what the kernel has.
    node.kill();
    assert!(matches!(Cql::connect(node.address()), Err(CqlError::Connection(_))));
    let start = Instant::now();
    node.start();
    println!("started again in {:?}", start.elapsed());
    assert_eq!(stored(&mut node.cql()).len(), 2);
    let start = Instant::now();
    node.stop();
    println!("stopped in {:?}", start.elapsed());
}

#[test]
fn the_way_to_a_node_fails_on_demand() {
    let cluster = Cassandra::shared();
    let proxy = FaultProxy::before(&cluster);
    let address = proxy.contact_points().parse().expect("one address");
    let connect = || Cql::connect(address).expect("a way to the node");
    let mut cql = connect();
    cluster.change_schema(KEYSPACE);
    cluster.change_schema(TABLE);

    proxy.set(Fault::Hold);
    let written = std::thread::scope(|scope| {
        let written = scope.spawn(|| cql.query(&insert("held", 1), Consistency::One));
        assert_eq!(
            cluster.nodes()[0].cql().query("SELECT name FROM k.t", Consistency::One).expect("rows").rows.len(),
            0
        );
        proxy.set(Fault::None);
        written.join().expect("no panic")
    });
    written.expect("what was held goes on");
    assert_eq!(stored(&mut cql), [("held".into(), 1)]);

    let mut unheard = connect();
    proxy.set(Fault::SwallowRequests);
    assert_silent(&mut unheard, &insert("unheard", 2));
    proxy.set(Fault::None);
    assert!(unheard.query("SELECT now() FROM system.local", Consistency::One).is_err(), "it has lost bytes");

    let mut heard = connect();
    proxy.set(Fault::SwallowAnswers);
    assert_silent(&mut heard, &insert("unanswered", 3));
    proxy.set(Fault::None);
    assert_eq!(stored(&mut cql), [("held".into(), 1), ("unanswered".into(), 3)]);

    proxy.set(Fault::Delay(Duration::from_millis(100)));
    let start = Instant::now();
    assert_eq!(stored(&mut cql).len(), 2);
    assert!(start.elapsed() >= Duration::from_millis(200), "there and back");

    proxy.set(Fault::Cut);
    assert!(cql.query("SELECT now() FROM system.local", Consistency::One).is_err());
    assert!(Cql::connect(address).is_err());
    proxy.set(Fault::None);
    assert_eq!(stored(&mut connect()).len(), 2);
}

/// Nothing comes back.
fn assert_silent(cql: &mut Cql, statement: &str) {
    cql.set_patience(Duration::from_millis(500));
    match cql.query(statement, Consistency::One) {
        Err(CqlError::Connection(error)) if error.kind() == ErrorKind::WouldBlock => {}
        other => panic!("{statement}: {other:?}"),
    }
}

#[test]
fn of_three_nodes_two_are_a_quorum() {
    let start = Instant::now();
    let cluster = Cassandra::start_three();
    let nodes = cluster.nodes();
    let resident: Vec<u64> = nodes.iter().map(|node| node.resident_kib() >> 10).collect();
    println!("three nodes in {:?}, {resident:?} MiB resident", start.elapsed());
    let mut cql = nodes[0].cql();
    cluster.change_schema(&KEYSPACE.replace(": 1}", ": 3}"));
    cluster.change_schema(TABLE);
    cql.query(&insert("all", 1), Consistency::All).expect("three of three");
    nodes[2].kill();
    cql.query(&insert("two of three", 2), Consistency::Quorum).expect("two are enough");
    nodes[2].start();
    nodes[1].kill();
    let killed = Instant::now();
    // Until the others have noticed, a statement may wait for the node that is gone.
    let deadline = Instant::now() + DEADLINE;
    let second = "SELECT number FROM k.t WHERE name = 'two of three'";
    let found = loop {
        match nodes[0].cql().query(second, Consistency::Quorum) {
            Ok(found) => break found,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    };
    assert_eq!(found.integers("number"), [2], "one of the two was there");
    println!("asked again for {:?}", killed.elapsed());
}
