//! The raw limit: a server that does nothing but take bytes from sockets and put bytes into sockets, on the same cores as the
//! one that is measured.
//!
//! A process of its own. It answers sign-ins, joins and sends with constants, stores nothing, checks nothing, knows nobody,
//! and writes each batch of messages once to each member. What it cannot do, no server on this kernel can.

mod batch;
mod conversation;
mod shard;

use std::io::{self, BufRead, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use rustix::thread::{CpuSet, sched_setaffinity};
use serde::{Deserialize, Serialize};

use crate::wire::Dialect;
use shard::{Door, Manner, PARCELS_MAX, Parcel, Shard};

/// What the process is told, in one line of its standard input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Orders {
    pub address: IpAddr,
    pub dialect: Dialect,
    /// A thread for each, which stays there.
    pub cores: Vec<usize>,
    /// Messages in one write.
    pub batch_factor: f64,
    /// Bytes of a message's payload.
    pub message_bytes: usize,
}

/// Serves until standard input ends; says where it listens.
pub fn run() -> Result<(), String> {
    let report_panic = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report_panic(panic);
        std::process::exit(101);
    }));
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(|error| error.to_string())?;
    let orders: Orders = serde_json::from_str(&line).map_err(|error| format!("these are no orders: {error}"))?;
    let address = serve(&orders).map_err(|error| format!("the bare server cannot start: {error}"))?;
    let mut out = io::stdout().lock();
    writeln!(out, "{address}").and_then(|()| out.flush()).map_err(|error| error.to_string())?;
    // Whoever started us holds the other end, and lets go of it however it ends.
    let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
    Ok(())
}

fn serve(orders: &Orders) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((orders.address, 0))?;
    let address = listener.local_addr()?;
    let manner = Manner {
        dialect: orders.dialect.clone(),
        batch_factor: orders.batch_factor,
        message_bytes: orders.message_bytes,
    };
    let (mut doors, mut insides) = (Vec::new(), Vec::new());
    for _ in &orders.cores {
        let (parcels, inbox) = sync_channel(PARCELS_MAX);
        let (poll, doorbell) = shard::poll()?;
        doors.push(Door { parcels, doorbell });
        insides.push((poll, inbox));
    }
    let doors: Arc<[Door]> = doors.into();
    for ((number, (poll, inbox)), core) in insides.into_iter().enumerate().zip(orders.cores.clone()) {
        let shard = Shard::new(number, manner.clone(), poll, doors.clone(), inbox);
        std::thread::spawn(move || end_with(pin(core).and_then(|()| shard.run())));
    }
    std::thread::spawn(move || end_with(accept(&listener, &doors)));
    Ok(address)
}

/// Deals connections to the threads in turn.
fn accept(listener: &TcpListener, doors: &[Door]) -> io::Result<()> {
    doors.iter().cycle().try_for_each(|door| door.put(Parcel::Accepted(listener.accept()?.0)))
}

/// This thread stays on a core.
fn pin(core: usize) -> io::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}

/// A bare server without one of its threads is none.
fn end_with(outcome: io::Result<()>) {
    if let Err(error) = outcome {
        eprintln!("loadgen: the bare server ends: {error}");
    }
    std::process::exit(1);
}
