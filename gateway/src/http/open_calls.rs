//! Counts calls of gRPC that are being answered, up to a bound.

use std::cell::Cell;
use std::rc::Rc;

/// Most calls of a shard at a time: as many as it has connections at most.
pub const CALLS_MAX: usize = 8192;

/// The calls that are being answered.
pub struct OpenCalls {
    open: Rc<Cell<usize>>,
    max: usize,
}

/// One of them. It counts until it is dropped.
pub struct OpenCall(Rc<Cell<usize>>);

impl OpenCalls {
    /// At most so many calls.
    pub fn new(max: usize) -> Self {
        Self { open: Rc::default(), max }
    }

    /// Counts one more call. Returns `None` if there are as many as may be.
    pub fn enter(&self) -> Option<OpenCall> {
        if self.open.get() >= self.max {
            return None;
        }
        self.open.set(self.open.get() + 1);
        Some(OpenCall(self.open.clone()))
    }

    /// How many calls are being answered.
    pub fn len(&self) -> usize {
        self.open.get()
    }
}

impl Default for OpenCalls {
    fn default() -> Self {
        Self::new(CALLS_MAX)
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        debug_assert!(self.0.get() > 0, "a call leaves once");
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_and_counted() {
        let calls = OpenCalls::new(2);
        let open = [calls.enter(), calls.enter()];
        assert!(open.iter().all(Option::is_some) && calls.enter().is_none());
        drop(open);
        assert_eq!(calls.len(), 0);
        assert!(calls.enter().is_some());
    }
}
