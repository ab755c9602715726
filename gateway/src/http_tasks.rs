//! The tasks that serve a shard's HTTP connections.
//!
//! The tasks are held, not detached: a detached task is leaked with its descriptor when the executor ends.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;

use glommio::Task;
use slab::Slab;

use crate::task_time::{GivingWay, TaskTime};

/// Tasks under way.
#[derive(Default)]
pub struct HttpTasks {
    tasks: Slab<Task<()>>,
    /// Tasks that have ended and can be dropped.
    finished: Rc<RefCell<Vec<usize>>>,
    time: Rc<TaskTime>,
}

impl HttpTasks {
    /// Starts a task that serves a connection. It gives way when such tasks have had their time of a turn.
    pub fn serve(&mut self, serving: impl Future<Output = ()> + 'static) {
        self.spawn(GivingWay::new(serving, self.time.clone()));
    }

    /// The time of the tasks that serve connections.
    pub fn time(&self) -> &TaskTime {
        &self.time
    }

    /// Starts a task on this shard's executor, and keeps it until it ends or the tasks are dropped.
    pub fn spawn(&mut self, serving: impl Future<Output = ()> + 'static) {
        let finished = self.finished.clone();
        let place = self.tasks.vacant_entry();
        let number = place.key();
        place.insert(glommio::spawn_local(async move {
            serving.await;
            finished.borrow_mut().push(number);
        }));
    }

    /// Drops the tasks that have ended.
    pub fn reap(&mut self) {
        for number in self.finished.borrow_mut().drain(..) {
            drop(self.tasks.remove(number));
        }
    }

    /// How many tasks are kept. Tasks that have just ended may be among them.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }
}
