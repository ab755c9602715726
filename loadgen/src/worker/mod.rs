//! A worker process: it reads orders from standard input, runs the users of its assignment on threads, and answers on
//! standard output. It ends when its orders end, so no worker outlives its coordinator. If the coordinator is on
//! another machine, `host.rs` passes orders and words on.

mod threads;

use std::io::{self, BufRead, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::base::clock;
use crate::clients::idlers::Idlers;
use crate::clients::page_readers::PageReaders;
use crate::clients::stages::Stages;
use crate::orders::{Assignment, Order, Word};
use crate::team::lines::LINE_BYTES_MAX;
use crate::worker::threads::deal;

/// How often progress is reported.
pub const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// Stages are ordered one after another, so an order never waits long behind another.
pub const ORDERS_MAX: usize = 4;

const NO_ASSIGNMENT: &str = "no assignment came first";

/// Serves the coordinator until the end of the run, on the coordinator's clock.
pub fn run(clock_offset_ns: i64) -> Result<(), String> {
    clock::follow(clock_offset_ns);
    let report_panic = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report_panic(panic);
        // A thread that panicked has lost its users, and a worker that waits for its word would wait for ever.
        std::process::exit(101);
    }));
    let runtime = runtime()?;
    let (orders_in, orders) = mpsc::channel(ORDERS_MAX);
    std::thread::spawn(move || read_orders(&orders_in));
    let outcome = runtime.block_on(serve(orders));
    if let Err(what) = &outcome {
        say(&Word::Failed { what: what.clone() })?;
    }
    outcome
}

pub fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| format!("cannot start a runtime: {error}"))
}

/// The number of cores that this process may use.
pub fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32)
}

fn read_orders(orders: &mpsc::Sender<Order>) {
    let mut lines = io::stdin().lock();
    let mut line = Vec::new();
    // When the input ends, or ends in the middle of an order, the coordinator is gone and there is no more work.
    while let Ok(1..) = (&mut lines).take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line)
        && line.last() == Some(&b'\n')
    {
        let order = match serde_json::from_slice(&line) {
            Ok(order) => order,
            Err(error) => {
                let what = format!("an unreadable order: {error}; coordinator and worker must be the same program");
                // If sending this fails too, the coordinator notices that the process has ended.
                let _ = say(&Word::Failed { what });
                break;
            }
        };
        if orders.blocking_send(order).is_err() {
            return;
        }
        line.clear();
    }
    std::process::exit(1);
}

pub fn say(word: &Word) -> Result<(), String> {
    let line = serde_json::to_string(word).map_err(|error| format!("cannot write a word: {error}"))?;
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| format!("the coordinator is gone: {error}"))
}

/// The first order determines the kind of run.
async fn serve(mut orders: mpsc::Receiver<Order>) -> Result<(), String> {
    let first = Arc::new(orders.recv().await.ok_or(NO_ASSIGNMENT)?);
    match &*first {
        Order::SignIn(Assignment { plan, users, in_flight, sources }) => {
            let parts = deal(users.clone(), |user| plan.publishes(user), plan.threads.unwrap_or_else(cores));
            let (plan, in_flight, sources) = (Arc::new(plan.clone()), *in_flight, *sources);
            let settle = move |share| Stages::new(plan.clone(), in_flight, sources, share);
            threads::serve(parts, first, orders, settle).await
        }
        Order::Hold(holding) => {
            let parts = deal(holding.users.clone(), |_| false, holding.threads.unwrap_or_else(cores));
            let holding = holding.clone();
            threads::serve(parts, first, orders, move |share| Idlers::new(holding.clone(), share)).await
        }
        Order::Read(reading) => {
            let parts = deal(reading.readers.clone(), |_| false, reading.threads.unwrap_or_else(cores));
            let reading = Arc::new(reading.clone());
            threads::serve(parts, first, orders, move |share| PageReaders::new(reading.clone(), share)).await
        }
        Order::Join | Order::Begin { .. } | Order::Stop | Order::Tally { .. } => Err(NO_ASSIGNMENT.to_owned()),
    }
}
