//! Names of rooms that a client chooses, so that one shard would own all of them.

use std::collections::{BTreeMap, BTreeSet};

use engine::id::{ChannelId, ShardId};
use engine::routing::PlacementKey;
use serde_json::Value;
use tests::harness::{Launch, bearer};

use crate::stage::Stage;

const SHARDS: u16 = 4;
const ROOMS: usize = 64;

/// Names of rooms that a server without a key would place on its first shard.
fn chosen() -> Vec<String> {
    let on_first = |name: &String| {
        let channel = ChannelId::parse(&format!("2...{name}")).expect("a room");
        PlacementKey::default().owner(&channel, SHARDS) == ShardId::alone(0)
    };
    (0..).map(|number| format!("chosen-{number}")).filter(on_first).take(ROOMS).collect()
}

/// Where a server that has just started places rooms with these names.
fn placed(names: &[String]) -> BTreeMap<String, u64> {
    let stage = Stage::launch_with(|launch: Launch| launch.shards(SHARDS));
    let mut attacker = stage.server.connect("attacker");
    stage.beside_a_room(|| {
        for name in names {
            attacker.join(name);
        }
    });
    let token = std::fs::read_to_string(stage.data().join("admin.token")).expect("the operators' token");
    let listed =
        stage.server.admin().request("GET", "/v1/channels?limit=1000", &[("Authorization", &bearer(token.trim()))], "");
    let listed = listed.json();
    let place = |channel: &Value| {
        let name = channel["id"].as_str()?.strip_prefix("2...chosen-")?.to_owned();
        Some((name, channel["shard"].as_u64()?))
    };
    let placed: BTreeMap<_, _> = listed["channels"].as_array().into_iter().flatten().filter_map(place).collect();
    assert_eq!(placed.len(), names.len(), "{listed}");
    placed
}

#[test]
fn chosen_names_are_spread_over_the_shards_and_another_installation_spreads_them_otherwise() {
    let names = chosen();
    let [first, second] = [placed(&names), placed(&names)];
    for placed in [&first, &second] {
        let shards: BTreeSet<u64> = placed.values().copied().collect();
        // The chance that 64 rooms are on two of four shards is one in 10^18.
        assert!(shards.len() > 2, "{placed:?}");
    }
    assert_ne!(first, second, "each installation has a key of its own");
}
