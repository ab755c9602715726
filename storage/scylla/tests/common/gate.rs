//! A proxy between a store and its node. It examines every batch and passes it on or not, so a test can let a server
//! die between any two batches. Of CQL it knows only frames, which of them are batches, and how to refuse one.

use std::collections::{HashSet, VecDeque};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use parking_lot::Mutex;

/// Bytes before a frame's body: version, flags, stream (2), opcode, length (4).
const HEADER_BYTES: usize = 9;
const BODY_BYTES_MAX: usize = 16 << 20;
const OPCODE_ERROR: u8 = 0x00;
const OPCODE_BATCH: u8 = 0x0d;
const VERSION_RESPONSE: u8 = 0x84;
/// The error code of an invalid request: the node has done nothing of it.
const INVALID: i32 = 0x2200;

/// What the gate does with a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Pass,
    /// The node does not get it; the store gets an error that says it is invalid.
    Refuse,
    /// The node carries it out, but the store gets no answer.
    Unheard,
    /// Neither this batch nor anything after it passes.
    Cut,
}

pub struct Gate {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

struct Shared {
    node: SocketAddr,
    state: Mutex<State>,
}

struct State {
    verdicts: VecDeque<Verdict>,
    cut: bool,
    told: mpsc::Sender<()>,
    connections: Vec<Arc<Way>>,
}

/// One connection: its sockets to the store and to the node.
struct Way {
    client: TcpStream,
    node: TcpStream,
    /// Held while an answer is written, because both the node and this gate write answers.
    answering: Mutex<()>,
    unheard: Mutex<HashSet<[u8; 2]>>,
}

impl Gate {
    /// Applies these verdicts to the coming batches; after the last verdict all batches pass. The receiver reports a
    /// cut.
    pub fn before(node: &str, verdicts: impl IntoIterator<Item = Verdict>) -> (Self, mpsc::Receiver<()>) {
        let node: SocketAddr = node.parse().unwrap();
        // The driver takes the node's address from the cluster, and the port from the address to which it was told to
        // connect.
        let listener = TcpListener::bind((node.ip(), 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (told, cut) = mpsc::channel();
        let state = State { verdicts: verdicts.into_iter().collect(), cut: false, told, connections: Vec::new() };
        let shared = Arc::new(Shared { node, state: Mutex::new(state) });
        let accepting = shared.clone();
        let listener = std::thread::spawn(move || accepting.accept(&listener));
        (Self { address, shared, listener: Some(listener) }, cut)
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.shared.cut();
        // Wakes the listener, which then sees the cut and ends.
        let _ = TcpStream::connect(self.address);
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

impl Shared {
    fn accept(self: Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming().flatten() {
            let mut state = self.state.lock();
            if state.cut {
                return;
            }
            let Ok(node) = TcpStream::connect(self.node) else { continue };
            for stream in [&client, &node] {
                let _ = stream.set_nodelay(true);
            }
            let (answering, unheard) = (Mutex::default(), Mutex::default());
            let way = Arc::new(Way { client, node, answering, unheard });
            state.connections.push(way.clone());
            let (shared, requests) = (self.clone(), way.clone());
            std::thread::spawn(move || {
                let _ = shared.carry_requests(&requests);
                requests.close();
            });
            std::thread::spawn(move || {
                let _ = way.carry_answers();
                way.close();
            });
        }
    }

    fn carry_requests(&self, way: &Way) -> io::Result<()> {
        loop {
            let frame = read_frame(&way.client)?;
            let stream = [frame[2], frame[3]];
            let verdict = if frame[4] == OPCODE_BATCH { self.judge() } else { Verdict::Pass };
            match verdict {
                Verdict::Pass => {}
                Verdict::Unheard => {
                    way.unheard.lock().insert(stream);
                }
                Verdict::Refuse => {
                    way.refuse(stream)?;
                    continue;
                }
                Verdict::Cut => {
                    self.cut();
                    return Ok(());
                }
            }
            // The lock is held during the write, so that nothing passes after a cut.
            let state = self.state.lock();
            if state.cut {
                return Ok(());
            }
            (&way.node).write_all(&frame)?;
        }
    }

    fn judge(&self) -> Verdict {
        self.state.lock().verdicts.pop_front().unwrap_or(Verdict::Pass)
    }

    fn cut(&self) {
        let mut state = self.state.lock();
        state.cut = true;
        state.connections.drain(..).for_each(|way| way.close());
        let _ = state.told.send(());
    }
}

impl Way {
    fn carry_answers(&self) -> io::Result<()> {
        loop {
            let frame = read_frame(&self.node)?;
            if self.unheard.lock().contains(&[frame[2], frame[3]]) {
                return Ok(());
            }
            let _one_at_a_time = self.answering.lock();
            (&self.client).write_all(&frame)?;
        }
    }

    fn refuse(&self, stream: [u8; 2]) -> io::Result<()> {
        let reason = b"refused by the gate";
        let mut body = INVALID.to_be_bytes().to_vec();
        body.extend((reason.len() as u16).to_be_bytes());
        body.extend(reason);
        let mut frame = vec![VERSION_RESPONSE, 0, stream[0], stream[1], OPCODE_ERROR];
        frame.extend((body.len() as u32).to_be_bytes());
        frame.extend(body);
        let _one_at_a_time = self.answering.lock();
        (&self.client).write_all(&frame)
    }

    fn close(&self) {
        // Fails only if the other side has closed the connection first.
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.node.shutdown(Shutdown::Both);
    }
}

fn read_frame(mut from: &TcpStream) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; HEADER_BYTES];
    from.read_exact(&mut frame)?;
    let length = u32::from_be_bytes([frame[5], frame[6], frame[7], frame[8]]) as usize;
    if length > BODY_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    frame.resize(HEADER_BYTES + length, 0);
    from.read_exact(&mut frame[HEADER_BYTES..])?;
    Ok(frame)
}
