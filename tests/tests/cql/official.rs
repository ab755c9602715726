//! The unmodified official JavaScript client on a real database.

use tests::harness::cassandra::{Cassandra, Keyspace};
use tests::harness::run_node;

#[test]
fn the_official_client_notices_no_difference() {
    let keyspace = Keyspace::on(Cassandra::shared());
    let flags = keyspace.flags(&keyspace.cluster.contact_points()).join(" ");
    run_node("official.mjs", &[("STENTOR_TEST_SHARDS", "2"), ("STENTOR_TEST_FLAGS", &flags)]);
}
