//! The unmodified official JavaScript client uses all chat features, with one shard and with four; in JSON, and in
//! protobuf through the official adapter.

use tests::harness::{Format, run_node};

fn run(shards: &str, format: Format) {
    run_node("official.mjs", &[("STENTOR_TEST_SHARDS", shards), ("STENTOR_TEST_FORMAT", format.name())]);
}

#[test]
fn one_shard() {
    run("1", Format::Json);
}

#[test]
fn four_shards() {
    run("4", Format::Json);
}

#[test]
fn one_shard_in_protobuf() {
    run("1", Format::Protobuf);
}

#[test]
fn four_shards_in_protobuf() {
    run("4", Format::Protobuf);
}
