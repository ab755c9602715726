//! The unmodified official JavaScript client does everything a room offers, with one shard and with four.

use tests::harness::run_node;

#[test]
fn one_shard() {
    run_node("official.mjs", &[("STENTOR_TEST_SHARDS", "1")]);
}

#[test]
fn four_shards() {
    run_node("official.mjs", &[("STENTOR_TEST_SHARDS", "4")]);
}
