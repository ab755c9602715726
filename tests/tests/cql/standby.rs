//! A standby on the same keyspace.

use std::time::{Duration, Instant};

use tests::harness::cassandra::Cassandra;
use tests::harness::{DEADLINE, Server, Socket};

use crate::stage::{BUSY_MACHINE, Stage, await_health, free_address};

/// How long a standby may take when the first server has ended without a word (docs/operations.md).
const TAKEOVER_MAX: Duration = Duration::from_secs(16);

fn await_line(server: &Server, words: &str) {
    let begun = Instant::now();
    while !server.output().contains(words) {
        assert!(begun.elapsed() < DEADLINE, "no {words:?} in:\n{}", server.output());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_standby_takes_a_keyspace_over_from_a_server_that_is_killed() {
    let cluster = Cassandra::shared();
    let (stage, nodes) = (Stage::on(cluster.clone()), cluster.contact_points());
    let server = stage.launch(&nodes).start();
    let ada = server.sign_in("ada");
    let mut socket = Socket::connect(server.address(), &ada.token);
    let channel = socket.join("lobby");
    socket.say(&channel, r#"{"text":"kept"}"#);

    let standby = stage.launch(&nodes).environment("STENTOR_STANDBY", "true").begin_at(free_address());
    await_line(&standby, "standby: another server has the store");
    await_health(&standby, 503);
    server.assert_works("a standby beside it");
    let killed = Instant::now();
    server.kill();
    await_health(&standby, 200);
    let took = killed.elapsed();
    assert!(took < TAKEOVER_MAX + BUSY_MACHINE, "taken over after {took:?}");
    await_line(&standby, "standby: this server has taken over");
    assert_eq!(standby.output().matches("waiting for a sign of life").count(), 1, "{}", standby.output());
    assert_eq!(standby.http().history_after(&ada.token, &channel, None).0.len(), 1);
    standby.assert_works("a takeover");
}
