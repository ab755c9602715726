//! The key by which channels are placed on shards. Each installation has its own, so that a client cannot name many rooms
//! which one shard orders. Nothing that is stored depends on it.

use engine::routing::PlacementKey;
use storage::{PLACEMENT_KEY_BYTES, Store};

use crate::keys::{self, KeysError};
use crate::options::{Options, StoreKind};

/// The file of the key, in the data directory of an embedded store.
const FILE: &str = "placement.key";

/// The installation's key: kept beside an embedded store, or in the database. With the memory store it ends with the process.
/// Made at the first start. Fails if it cannot be read or kept.
pub fn key(options: &Options, store: &dyn Store) -> Result<PlacementKey, String> {
    let said = |error: KeysError| match error {
        KeysError::Damaged { path } => {
            format!("the placement key {} is damaged: delete it, and the server makes another one", path.display())
        }
        error => error.to_string(),
    };
    let candidate = match options.store {
        StoreKind::Embedded if !options.read_only => keys::obtain_file(&options.data, FILE).map_err(said)?,
        // A disk that must not be written keeps no key.
        StoreKind::Embedded | StoreKind::Memory | StoreKind::Scylla => keys::random_key().map_err(said)?,
    };
    let mut bytes = [0; PLACEMENT_KEY_BYTES];
    for (byte, from) in bytes.iter_mut().zip(candidate.bytes()) {
        *byte = *from;
    }
    store.placement_key(bytes).map(PlacementKey).map_err(|failure| failure.to_string())
}
