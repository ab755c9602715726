//! Connections for which something is to be done, each once, first come, first served. So a turn does as much as it may,
//! and the rest waits for the next turn.

use std::collections::{HashSet, VecDeque};

use engine::id::ConnectionId;

/// The line. It holds no more connections than were open since it was last empty.
#[derive(Default)]
pub struct WaitingLine {
    line: VecDeque<ConnectionId>,
    waiting: HashSet<ConnectionId>,
}

impl WaitingLine {
    /// Puts a connection at the end of the line, unless it waits already.
    pub fn put(&mut self, id: ConnectionId) {
        if self.waiting.insert(id) {
            self.line.push_back(id);
        }
        debug_assert_eq!(self.line.len(), self.waiting.len(), "each connection waits once");
    }

    /// Takes the connection that has waited longest.
    pub fn take(&mut self) -> Option<ConnectionId> {
        let id = self.line.pop_front()?;
        let waited = self.waiting.remove(&id);
        debug_assert!(waited, "{id:?} is in the line twice");
        Some(id)
    }

    /// Whether no connection waits.
    pub fn is_empty(&self) -> bool {
        self.line.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_waits_once_and_in_its_turn() {
        let mut line = WaitingLine::default();
        let id = |slot| ConnectionId { slot, generation: 0 };
        for slot in [3, 1, 3, 2, 1] {
            line.put(id(slot));
        }
        assert_eq!(line.take(), Some(id(3)));
        line.put(id(3));
        let rest: Vec<_> = std::iter::from_fn(|| line.take()).collect();
        assert_eq!(rest, [id(1), id(2), id(3)]);
        assert!(line.is_empty() && line.waiting.is_empty());
    }
}
