//! The database is slow, silent, away, or not there yet. Every client is answered in time and is told nothing false.
//! When the database is back, everything works again.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tests::harness::cassandra::Cassandra;
use tests::harness::{Fault, FaultProxy, SERVER_KEY, Server, Socket, bearer};

use crate::load::under_load;
use crate::stage::{Stage, assert_unavailable, await_health, custom_id, free_address};

/// How much an outage may add to the server's memory. Waiting requests are bounded, and this is far below the sum of
/// all bounds.
const MEMORY_GROWTH_MAX_KIB: usize = 64 << 10;

#[test]
fn a_server_starts_before_its_database_and_needs_no_second_start() {
    let stage = Stage::shared();
    let proxy = FaultProxy::before(&stage.keyspace.cluster);
    for fault in [Fault::Cut, Fault::SwallowRequests] {
        proxy.set(fault);
        let server = stage.launch(&proxy.contact_points()).begin_at(free_address());
        await_health(&server, 503);
        let path = "/v2/account/authenticate/custom?create=true&username=early";
        assert_unavailable(&server, "POST", path, SERVER_KEY, &custom_id("early"));
        proxy.set(Fault::None);
        await_health(&server, 200);
        server.assert_works("a late database");
        server.stop();
    }
}

#[test]
fn what_is_kept_is_what_was_told_whatever_the_network_does() {
    let stage = Stage::shared();
    let proxy = FaultProxy::before(&stage.keyspace.cluster);
    let server = stage.launch(&proxy.contact_points()).shards(2).start();
    under_load(&stage, &server, |progress| {
        // The server waits out short faults, but not long ones.
        for fault in [Fault::Hold, Fault::SwallowRequests, Fault::SwallowAnswers, Fault::Cut] {
            proxy.set(fault);
            std::thread::sleep(Duration::from_millis(500));
            proxy.set(Fault::None);
            progress.await_more_acks(100);
        }
        proxy.set(Fault::Delay(Duration::from_millis(100)));
        progress.await_more_acks(100);
        proxy.set(Fault::None);
        for fault in [Fault::SwallowAnswers, Fault::Hold] {
            proxy.set(fault);
            progress.await_more_refusals(50);
            proxy.set(Fault::None);
            progress.await_more_acks(100);
        }
        let counts = progress.counts();
        println!("{counts:?} after the storm");
    });
    await_health(&server, 200);
    server.stop();
}

#[test]
fn a_database_that_dies_under_load_takes_nothing_else_with_it() {
    let cluster = Arc::new(Cassandra::start_durable());
    let stage = Stage::on(cluster.clone());
    let server = stage.launch(&cluster.contact_points()).start();
    let mut passing = Passing::join(&server);
    let reader = server.sign_in("reader");
    under_load(&stage, &server, |progress| {
        let before = server.resident_kib();
        cluster.nodes()[0].kill();
        progress.await_more_refusals(200);
        await_health(&server, 503);
        passing.assert_goes_on();
        let path = "/v2/channel/2...room-0?limit=10&forward=true";
        assert_unavailable(&server, "GET", path, &bearer(&reader.token), &Value::Null);
        let path = "/v2/account/authenticate/custom?create=true&username=unlucky";
        assert_unavailable(&server, "POST", path, SERVER_KEY, &custom_id("unlucky"));
        assert_unavailable(&server, "GET", "/v2/account", &bearer(&reader.token), &Value::Null);
        progress.await_more_refusals(2000);
        passing.assert_goes_on();
        let grown = server.resident_kib().saturating_sub(before);
        assert!(grown < MEMORY_GROWTH_MAX_KIB, "{grown} KiB more while the database was away");
        cluster.nodes()[0].start();
        await_health(&server, 200);
        progress.await_more_acks(200);
    });
    server.assert_works("the database's death");
    server.stop();
}

/// Two users in a room whose messages are not stored.
struct Passing {
    speaker: Socket,
    listener: Socket,
    channel: String,
    said: u32,
}

impl Passing {
    fn join(server: &Server) -> Self {
        let actions = json!({"persistence": false, "hidden": false});
        let (mut speaker, mut listener) = (server.connect("speaker"), server.connect("listener"));
        listener.join_as("passing", actions.clone());
        let channel = speaker.join_as("passing", actions);
        Self { speaker, listener, channel, said: 0 }
    }

    /// Live messages need no database.
    fn assert_goes_on(&mut self) {
        for _ in 0..20 {
            self.said += 1;
            let content = json!({"said": self.said}).to_string();
            let answer = self.speaker.say(&self.channel, &content);
            assert!(answer["channel_message_ack"].is_object(), "{answer}");
            self.listener
                .push_where("a message that is not kept", |push| push["channel_message"]["content"] == content);
        }
    }
}
