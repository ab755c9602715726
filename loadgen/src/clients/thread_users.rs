//! What one thread of a simple scenario works with.

use std::rc::Rc;

use tokio::sync::mpsc;

use crate::costs::recorder::Recorder;
use crate::orders::{Order, Word};

/// What one thread gets: its users, the recorder for its figures, its orders, and the channel for its answers.
pub struct ThreadUsers {
    pub users: Vec<u32>,
    pub recorder: Rc<Recorder>,
    pub orders: mpsc::Receiver<Order>,
    pub words: mpsc::Sender<Word>,
    /// The number of threads. What the worker may do at once is divided among them.
    pub threads: usize,
}
