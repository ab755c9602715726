//! A proxy between the server and the nodes of a database. It does to their connections what faulty networks do.
//!
//! Each node is reached at its own address and another port, which is the same for all nodes. A driver takes a node's
//! address from the cluster and the port from its first connection. So every connection that the driver opens comes
//! through this proxy.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::cassandra::Cassandra;

/// Bytes read at once, and so the most that a held connection stores here in each direction.
const CHUNK_BYTES: usize = 64 << 10;

/// A fault on the way to a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    None,
    /// Nothing passes until this fault ends; then everything passes.
    Hold,
    /// The node does not receive the requests.
    SwallowRequests,
    /// The node carries out the requests, but its answers are lost.
    SwallowAnswers,
    /// Open connections are closed, and new ones are closed at once.
    Cut,
    /// Each chunk of traffic is delayed by this time.
    Delay(Duration),
}

/// A proxy in front of each node of a cluster. Dropping it closes all connections.
pub struct FaultProxy {
    ways: Vec<Arc<Way>>,
    listeners: Vec<JoinHandle<()>>,
}

/// The way to one node.
struct Way {
    address: SocketAddr,
    node: SocketAddr,
    traffic: Mutex<Traffic>,
    changed: Condvar,
    swallowed_bytes: AtomicU64,
}

struct Traffic {
    fault: Fault,
    connections: Vec<Arc<Connection>>,
    ended: bool,
}

/// A client's connection and the one to the node.
struct Connection {
    client: TcpStream,
    node: TcpStream,
    /// Bytes of it were swallowed, so it may never pass any again.
    spoiled: AtomicBool,
}

#[derive(Clone, Copy)]
enum Direction {
    Requests,
    Answers,
}

impl FaultProxy {
    /// Listens for all nodes of the cluster, and passes everything on until it is told otherwise.
    pub fn before(cluster: &Cassandra) -> Self {
        let nodes: Vec<SocketAddr> = cluster.nodes().iter().map(|node| node.address()).collect();
        let mut ways = Vec::new();
        let mut listeners = Vec::new();
        // The first listener takes any port, and the others must get the same one. On a test machine this does not fail
        // a hundred times.
        for _ in 0..100 {
            let Some(bound) = bind_alike(&nodes) else { continue };
            for (listener, node) in bound.into_iter().zip(nodes) {
                let way = Arc::new(Way::new(listener.local_addr().expect("a bound socket"), node));
                ways.push(way.clone());
                listeners.push(std::thread::spawn(move || way.accept(&listener)));
            }
            return Self { ways, listeners };
        }
        panic!("no port is free at the addresses of {nodes:?}");
    }

    /// The addresses of the proxies, in the form that the server's `--scylla` takes.
    pub fn contact_points(&self) -> String {
        let addresses: Vec<String> = self.ways.iter().map(|way| way.address.to_string()).collect();
        addresses.join(",")
    }

    /// Sets the same fault on the way to every node.
    pub fn set(&self, fault: Fault) {
        for way in &self.ways {
            way.set(fault);
        }
    }

    /// Sets a fault on the way to one node. The first node is 0.
    pub fn set_one(&self, node: usize, fault: Fault) {
        self.ways[node].set(fault);
    }

    /// The number of bytes swallowed so far.
    pub fn swallowed_bytes(&self) -> u64 {
        self.ways.iter().map(|way| way.swallowed_bytes.load(Ordering::Relaxed)).sum()
    }

    /// The number of connections that are open now.
    pub fn connections(&self) -> usize {
        self.ways.iter().map(|way| way.traffic.lock().connections.len()).sum()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        for way in &self.ways {
            way.traffic.lock().ended = true;
            way.set(Fault::Cut);
            // Wakes the listener, which then sees that it must end.
            let _ = TcpStream::connect(way.address);
        }
        for listener in self.listeners.drain(..) {
            let _ = listener.join();
        }
    }
}

/// Binds a listener at each node's address, all with the same port.
fn bind_alike(nodes: &[SocketAddr]) -> Option<Vec<TcpListener>> {
    let mut bound = Vec::new();
    let mut port = 0;
    for node in nodes {
        let listener = TcpListener::bind((node.ip(), port)).ok()?;
        port = listener.local_addr().ok()?.port();
        bound.push(listener);
    }
    Some(bound)
}

impl Way {
    fn new(address: SocketAddr, node: SocketAddr) -> Self {
        let traffic = Traffic { fault: Fault::None, connections: Vec::new(), ended: false };
        let (traffic, changed) = (Mutex::new(traffic), Condvar::new());
        Self { address, node, traffic, changed, swallowed_bytes: AtomicU64::new(0) }
    }

    fn set(&self, fault: Fault) {
        let mut traffic = self.traffic.lock();
        traffic.fault = fault;
        for connection in &traffic.connections {
            if fault == Fault::Cut || connection.spoiled.load(Ordering::Relaxed) {
                connection.close();
            }
        }
        self.changed.notify_all();
    }

    fn accept(self: Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming().flatten() {
            let mut traffic = self.traffic.lock();
            if traffic.ended {
                return;
            }
            if traffic.fault == Fault::Cut {
                continue;
            }
            let Ok(connection) = Connection::open(client, self.node) else { continue };
            let connection = Arc::new(connection);
            traffic.connections.push(connection.clone());
            for direction in [Direction::Requests, Direction::Answers] {
                let (way, connection) = (self.clone(), connection.clone());
                std::thread::spawn(move || way.carry(&connection, direction));
            }
        }
    }

    /// Forwards one direction of a connection until either side closes.
    fn carry(&self, connection: &Arc<Connection>, direction: Direction) {
        let (mut from, mut to) = match direction {
            Direction::Requests => (&connection.client, &connection.node),
            Direction::Answers => (&connection.node, &connection.client),
        };
        let mut chunk = vec![0; CHUNK_BYTES];
        while let Ok(length @ 1..) = from.read(&mut chunk) {
            match self.await_passage(direction) {
                Some(true) if to.write_all(&chunk[..length]).is_ok() => {}
                Some(true) | None => break,
                Some(false) => {
                    connection.spoiled.store(true, Ordering::Relaxed);
                    self.swallowed_bytes.fetch_add(length as u64, Ordering::Relaxed);
                }
            }
        }
        connection.close();
        self.traffic.lock().connections.retain(|other| !Arc::ptr_eq(other, connection));
    }

    /// Waits until it is known whether a chunk passes. Returns `None` when the connection passes nothing any more.
    fn await_passage(&self, direction: Direction) -> Option<bool> {
        let mut traffic = self.traffic.lock();
        self.changed.wait_while(&mut traffic, |traffic| traffic.fault == Fault::Hold);
        let fault = traffic.fault;
        drop(traffic);
        match (fault, direction) {
            (Fault::Cut, _) => return None,
            (Fault::SwallowRequests, Direction::Requests) | (Fault::SwallowAnswers, Direction::Answers) => {
                return Some(false);
            }
            (Fault::Delay(duration), _) => std::thread::sleep(duration),
            _ => {}
        }
        Some(true)
    }
}

impl Connection {
    fn open(client: TcpStream, node: SocketAddr) -> std::io::Result<Self> {
        let node = TcpStream::connect(node)?;
        node.set_nodelay(true)?;
        client.set_nodelay(true)?;
        Ok(Self { client, node, spoiled: AtomicBool::new(false) })
    }

    fn close(&self) {
        // This fails only if the other side was closed first.
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.node.shutdown(Shutdown::Both);
    }
}
