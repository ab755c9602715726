//! The limits that SIGHUP changes: each tick the shard takes up those in force.

use engine::limits::ClientLimits;
use engine::shard::Shard;

use super::SocketTable;
use crate::live::Live;

impl SocketTable {
    /// Takes limits for clients that may change while the server runs.
    pub fn follow_limits(&mut self, limits: Live<ClientLimits>) {
        self.limits = Some(limits);
    }

    /// Puts the limits and the rates of the process in force as they are now.
    pub(super) fn take_up_limits(&self, shard: &mut Shard) {
        self.services.take_up_rates();
        if let Some(limits) = &self.limits {
            shard.set_limits(**limits.load());
        }
    }
}
