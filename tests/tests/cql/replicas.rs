//! Three nodes with three copies: one node is killed under load, and restarts.

use std::sync::Arc;

use tests::harness::cassandra::Cassandra;

use crate::load::under_load;
use crate::stage::{Stage, await_health};

#[test]
fn one_of_three_nodes_may_die_under_load() {
    let cluster = Arc::new(Cassandra::start_three());
    let stage = Stage::on(cluster.clone());
    let server = stage.launch(&cluster.contact_points()).start();
    under_load(&stage, &server, |progress| {
        for node in [1, 2] {
            cluster.nodes()[node].kill();
            // The other two nodes are enough: messages are acknowledged while the node is away.
            progress.await_more_acks(1000);
            await_health(&server, 200);
            cluster.nodes()[node].start();
            progress.await_more_acks(200);
        }
    });
    server.assert_works("the death of nodes");
    server.stop();
}
