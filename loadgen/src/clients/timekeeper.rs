//! The timekeeper of one thread's publishers: it queues each message at its intended time.
//!
//! It has a thread of its own, because the kernel's timer is far finer than the runtime's.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::base::clock;
use crate::clients::crowd::Due;
use crate::plan::run_plan::Plan;

/// The queue of messages for one publisher's socket.
pub type Outbox = mpsc::Sender<Due>;

/// Starts the timekeeper. `outboxes` has the outbox of each publisher by the publisher's number, and `start_ns` is the
/// time of offset 0 of all schedules.
pub fn start(plan: Arc<Plan>, start_ns: u64, outboxes: HashMap<u32, Outbox>) {
    if !outboxes.is_empty() {
        // This thread is not joined: if a run is stopped early, messages still due are dropped with the process.
        std::thread::spawn(move || keep_time(&plan, start_ns, &outboxes));
    }
}

fn keep_time(plan: &Plan, start_ns: u64, outboxes: &HashMap<u32, Outbox>) {
    // The next message of each room, the earliest on top.
    let mut rooms: HashSet<usize> = outboxes.keys().map(|user| plan.room_of(*user)).collect();
    let first = |room: usize| Some(Reverse((plan.rooms.get(room)?.schedule.due_ns(0), room, 0)));
    let mut next: BinaryHeap<Reverse<(u64, usize, u32)>> = rooms.drain().filter_map(first).collect();
    while let Some(Reverse((due_ns, number, index))) = next.pop() {
        let room = &plan.rooms[number];
        if index + 1 < room.schedule.messages() {
            let later_ns = room.schedule.due_ns(index + 1);
            assert!(later_ns >= due_ns, "message {index} is due after the next one");
            next.push(Reverse((later_ns, number, index + 1)));
        }
        let slot = room.schedule.slot(index);
        let Some(outbox) = outboxes.get(&(room.users.start + slot.publisher)) else { continue };
        let intended_ns = start_ns + due_ns;
        clock::sleep_until(intended_ns);
        // An outbox has room for the whole schedule. It is closed if its user was disconnected, and the disconnection
        // is counted elsewhere.
        let _ = outbox.try_send(Due { number: slot.number, intended_ns });
    }
}
