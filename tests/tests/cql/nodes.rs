//! Tests the harness of the CQL tests: nodes that start, are killed and restart, and a proxy that fails on demand.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use tests::harness::cassandra::{Cassandra, Consistency, Cql, CqlError};
use tests::harness::{DEADLINE, Fault, FaultProxy};

/// A table of names and numbers in a keyspace of its own.
struct Numbers(String);

impl Numbers {
    fn make(cluster: &Cassandra) -> Self {
        let (keyspace, copies) = (Cassandra::unused_keyspace(), cluster.nodes().len());
        let replication = format!("{{'class': 'NetworkTopologyStrategy', 'replication_factor': {copies}}}");
        cluster.change_schema(&format!("CREATE KEYSPACE {keyspace} WITH replication = {replication}"));
        cluster.change_schema(&format!("CREATE TABLE {keyspace}.numbers (name text PRIMARY KEY, number bigint)"));
        Self(keyspace)
    }

    fn insert(&self, name: &str, number: i64) -> String {
        format!("INSERT INTO {}.numbers (name, number) VALUES ('{name}', {number})", self.0)
    }

    /// The stored numbers, by name.
    fn stored(&self, cql: &mut Cql) -> Vec<(String, i64)> {
        let asked = format!("SELECT name, number FROM {}.numbers", self.0);
        let rows = cql.query(&asked, Consistency::One).expect("a node that answers");
        let mut stored: Vec<_> = rows.texts("name").into_iter().zip(rows.integers("number")).collect();
        stored.sort();
        stored
    }
}

#[test]
fn a_node_keeps_what_it_was_told_through_a_kill_and_a_stop() {
    let start = Instant::now();
    let cluster = Cassandra::start_durable();
    let node = &cluster.nodes()[0];
    println!("started in {:?}, {} MiB resident", start.elapsed(), node.resident_kib() >> 10);
    let mut cql = node.cql();
    let numbers = Numbers::make(&cluster);
    for statement in [&numbers.insert("one", 1), &numbers.insert("two", -2)] {
        cql.query(statement, Consistency::Quorum).expect(statement);
    }
    assert_eq!(numbers.stored(&mut cql), [("one".into(), 1), ("two".into(), -2)]);
    let refused = cql.query(&format!("SELECT nothing FROM {}.numbers", numbers.0), Consistency::One);
    assert!(matches!(&refused, Err(CqlError::Refused { message, .. }) if message.contains("nothing")), "{refused:?}");

    let mut other = node.cql();
    node.freeze();
    assert_silent(&mut other, "SELECT release_version FROM system.local");
    node.thaw();
    assert_eq!(numbers.stored(&mut cql).len(), 2, "a connection goes on");

    // With the default settings a kill would lose the latest writes, because the commit log is synced periodically.
    node.kill();
    assert!(matches!(Cql::connect(node.address()), Err(CqlError::Connection(_))));
    let start = Instant::now();
    node.start();
    println!("started again in {:?}", start.elapsed());
    assert_eq!(numbers.stored(&mut node.cql()).len(), 2);
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
    let numbers = Numbers::make(&cluster);

    proxy.set(Fault::Hold);
    let written = std::thread::scope(|scope| {
        let written = scope.spawn(|| cql.query(&numbers.insert("held", 1), Consistency::One));
        assert_eq!(numbers.stored(&mut cluster.nodes()[0].cql()), []);
        proxy.set(Fault::None);
        written.join().expect("no panic")
    });
    written.expect("what was held goes on");
    assert_eq!(numbers.stored(&mut cql), [("held".into(), 1)]);

    let mut unheard = connect();
    proxy.set(Fault::SwallowRequests);
    assert_silent(&mut unheard, &numbers.insert("unheard", 2));
    proxy.set(Fault::None);
    assert!(unheard.query("SELECT now() FROM system.local", Consistency::One).is_err(), "it has lost bytes");

    let mut heard = connect();
    proxy.set(Fault::SwallowAnswers);
    assert_silent(&mut heard, &numbers.insert("unanswered", 3));
    proxy.set(Fault::None);
    assert_eq!(numbers.stored(&mut cql), [("held".into(), 1), ("unanswered".into(), 3)]);

    proxy.set(Fault::Delay(Duration::from_millis(100)));
    let start = Instant::now();
    assert_eq!(numbers.stored(&mut cql).len(), 2);
    assert!(start.elapsed() >= Duration::from_millis(200), "there and back");

    proxy.set(Fault::Cut);
    assert!(cql.query("SELECT now() FROM system.local", Consistency::One).is_err());
    assert!(Cql::connect(address).is_err());
    proxy.set(Fault::None);
    assert_eq!(numbers.stored(&mut connect()).len(), 2);
}

/// Asserts that the node does not answer.
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
    let resident: Vec<usize> = nodes.iter().map(|node| node.resident_kib() >> 10).collect();
    println!("three nodes in {:?}, {resident:?} MiB resident", start.elapsed());
    let mut cql = nodes[0].cql();
    let numbers = Numbers::make(&cluster);
    cql.query(&numbers.insert("all", 1), Consistency::All).expect("three of three");
    nodes[2].kill();
    cql.query(&numbers.insert("two of three", 2), Consistency::Quorum).expect("two are enough");
    nodes[2].start();
    nodes[1].kill();
    let killed = Instant::now();
    // Until the other nodes have noticed, a statement may wait for the killed node.
    let deadline = Instant::now() + DEADLINE;
    let second = format!("SELECT number FROM {}.numbers WHERE name = 'two of three'", numbers.0);
    let found = loop {
        match nodes[0].cql().query(&second, Consistency::Quorum) {
            Ok(found) => break found,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    };
    assert_eq!(found.integers("number"), [2], "one of the two was there");
    println!("asked again for {:?}", killed.elapsed());
}
