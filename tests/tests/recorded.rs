//! Recorded conversations, replayed byte for byte in JSON, in protobuf, and with both in one room; with one shard and
//! with four.

use tests::harness::transcript::{Cast, replay};
use tests::harness::{Launch, data_dir};

const SHARD_COUNTS: [u16; 2] = [1, 4];

fn replay_in_every_way(file: &str, text: &str) {
    for shards in SHARD_COUNTS {
        for cast in Cast::EVERY {
            println!("{shards} shards, {cast:?}");
            let data = data_dir();
            replay(&Launch::on(data.path()).shards(shards).start(), cast, file, text);
        }
    }
}

macro_rules! transcripts {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            let file = concat!(stringify!($name), ".txt");
            replay_in_every_way(file, include_str!(concat!("../transcripts/", stringify!($name), ".txt")));
        }
    )*};
}

transcripts! {
    ping two_people persistence hidden rejoin two_sessions room_names direct groups notifications status
}
