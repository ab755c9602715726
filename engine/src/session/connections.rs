//! The table of a shard's connections, by slot.
//!
//! A slot is used again after its connection is gone. So a caller that kept a [`ConnectionId`] looks with it, and finds
//! nothing if another connection has the slot now.

use crate::id::ConnectionId;
use crate::session::connection::Connection;

/// The connections of a shard.
#[derive(Default)]
pub struct Connections {
    slots: Vec<Option<Connection>>,
}

impl Connections {
    /// Adds a connection. The gateway gives out each slot once at a time.
    pub fn insert(&mut self, slot: u32, connection: Connection) {
        let slot = slot as usize;
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, || None);
        }
        assert!(self.slots[slot].is_none(), "slot {slot} has a connection already");
        self.slots[slot] = Some(connection);
    }

    /// Removes a connection, if it is there.
    pub fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        self.get(id)?;
        self.slots[id.slot as usize].take()
    }

    /// The connection with this id.
    pub fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.slots.get(id.slot as usize)?.as_ref().filter(|connection| connection.generation == id.generation)
    }

    /// The connection with this id.
    pub fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.slots.get_mut(id.slot as usize)?.as_mut().filter(|connection| connection.generation == id.generation)
    }

    /// The connection that has this slot now.
    pub fn in_slot(&mut self, slot: u32) -> Option<&mut Connection> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// How many slots there are, free ones included: all slots are below this number.
    pub fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    /// The id of the connection that has this slot now.
    pub fn id_in_slot(&self, slot: u32) -> Option<ConnectionId> {
        let connection = self.slots.get(slot as usize)?.as_ref()?;
        Some(ConnectionId { slot, generation: connection.generation })
    }

    /// All connections, in the order of slots.
    pub fn iter(&self) -> impl Iterator<Item = (ConnectionId, &Connection)> + '_ {
        self.slots.iter().enumerate().filter_map(|(slot, connection)| {
            let connection = connection.as_ref()?;
            Some((ConnectionId { slot: slot as u32, generation: connection.generation }, connection))
        })
    }
}
