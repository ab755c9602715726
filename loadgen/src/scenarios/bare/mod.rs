//! The raw limit: a server that only reads bytes from sockets and writes bytes to sockets, on the same cores as the
//! measured server.
//!
//! It is a separate process. It answers sign-ins, joins and sends with constants, stores nothing and checks nothing,
//! and writes each batch of messages once to each member. No server on this kernel can be faster.

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
use shard::{BareSettings, Door, PARCELS_MAX, Parcel, Shard};

/// The orders for the process, in one line of its standard input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Orders {
    pub address: IpAddr,
    pub dialect: Dialect,
    /// One thread for each core; the thread stays on that core.
    pub cores: Vec<usize>,
    /// How many messages are in one write.
    pub batch_factor: f64,
    /// Bytes of a message's payload.
    pub message_bytes: usize,
}

/// Serves until standard input ends. Prints the address where it listens.
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
    // The process that started us holds the other end of standard input, which closes however that process ends.
    let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
    Ok(())
}

fn serve(orders: &Orders) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((orders.address, 0))?;
    let address = listener.local_addr()?;
    let settings = BareSettings {
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
        let shard = Shard::new(number, settings.clone(), poll, doors.clone(), inbox);
        std::thread::spawn(move || end_with(pin(core).and_then(|()| shard.run())));
    }
    std::thread::spawn(move || end_with(accept(&listener, &doors)));
    Ok(address)
}

/// Assigns connections to the threads in turn.
fn accept(listener: &TcpListener, doors: &[Door]) -> io::Result<()> {
    doors.iter().cycle().try_for_each(|door| door.put(Parcel::Accepted(listener.accept()?.0)))
}

/// Keeps the calling thread on one core.
fn pin(core: usize) -> io::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}

/// The bare server needs all its threads: when one ends, the process ends.
fn end_with(outcome: io::Result<()>) {
    if let Err(error) = outcome {
        eprintln!("loadgen: the bare server ends: {error}");
    }
    std::process::exit(1);
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use std::time::Duration;

    use tokio_tungstenite::tungstenite::{Message, WebSocket, client};

    use super::*;
    use crate::costs::server::ServerProbe;
    use crate::wire::Entrance;

    fn member(server: SocketAddr, room: &str) -> WebSocket<TcpStream> {
        let stream = TcpStream::connect(server).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        let (mut socket, _) = client(format!("ws://{server}/ws"), stream).expect("a WebSocket");
        let entrance = Entrance { room: room.to_owned(), hidden: true, persistence: false };
        socket.send(Dialect::Json.join(&entrance, 0).expect("a join")).expect("an open socket");
        assert!(next(&mut socket).contains("\"channel\""));
        socket
    }

    fn next(socket: &mut WebSocket<TcpStream>) -> String {
        socket.read().expect("a frame within the timeout").into_text().expect("a text").to_string()
    }

    fn say(socket: &mut WebSocket<TcpStream>, room: &str, number: u32) {
        let send: Message = Dialect::Json.send(0, number, room, "{}");
        socket.send(send).expect("an open socket");
    }

    #[test]
    fn a_quiet_rooms_last_messages_arrive_beside_a_busy_room() {
        let cores = ServerProbe::new(std::process::id()).and_then(ServerProbe::cores).expect("this process");
        let orders = Orders {
            address: Ipv4Addr::LOCALHOST.into(),
            dialect: Dialect::Json,
            cores: cores[..1].to_vec(),
            batch_factor: 3.0,
            message_bytes: 0,
        };
        let server = serve(&orders).expect("a bare server");
        let (mut busy, mut quiet) = (member(server, "busy"), member(server, "quiet"));
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // The thread's poll never comes back without an event.
            scope.spawn(|| {
                for number in (0..).take_while(|_| !done.load(Relaxed)) {
                    say(&mut busy, "busy", number);
                    next(&mut busy);
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            say(&mut quiet, "quiet", 0);
            let heard = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| [next(&mut quiet), next(&mut quiet)]));
            done.store(true, Relaxed);
            let [ack, message] = heard.expect("one message is less than a batch, and still arrives");
            assert!(ack.contains("channel_message_ack") && message.contains("\"channel_message\""), "{ack} {message}");
        });
    }
}
