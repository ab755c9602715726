//! The unmodified official JavaScript client does everything that chat offers, with one shard and with four, in JSON and
//! through the official adapter for protobuf.

use tests::harness::{Format, run_node};

fn check(format: Format, shards: u16) {
    let shards = shards.to_string();
    run_node("official.mjs", &[("STENTOR_TEST_SHARDS", &shards), ("STENTOR_TEST_FORMAT", format.name())]);
}

#[test]
fn json_one_shard() {
    check(Format::Json, 1);
}

#[test]
fn json_four_shards() {
    check(Format::Json, 4);
}

#[test]
fn protobuf_one_shard() {
    check(Format::Protobuf, 1);
}

#[test]
fn protobuf_four_shards() {
    check(Format::Protobuf, 4);
}
