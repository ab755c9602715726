//! One TLS connection without its socket.
//!
//! What comes is decrypted in a buffer that all connections of a thread share. A connection keeps only the beginning of a
//! record that has not come whole, and encrypted bytes that its socket has not taken. Each is at most one record.

use std::cell::RefCell;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, InsufficientSizeError, UnbufferedStatus, WriteTraffic,
};

/// Most bytes of one record that is received: its header, its content and what ciphers add (RFC 5246, section 6.2.3).
pub const RECORD_BYTES_MAX: usize = 5 + (16 << 10) + 2048;
/// Most bytes that are encrypted as one record (RFC 8446, section 5.1).
pub const CONTENT_BYTES_MAX: usize = 16 << 10;
/// What encryption adds to a record at most: its header, an explicit nonce, the type of the content and the tag.
const OVERHEAD_BYTES_MAX: usize = 64;

/// The messages of one side of a handshake have at most so many bytes: a client's greeting with keys of post-quantum
/// exchanges has some 2 KiB.
const HANDSHAKE_BYTES_MAX: usize = RECORD_BYTES_MAX;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub enum TlsFault {
    #[error("{0}")]
    Protocol(#[from] rustls::Error),
    #[error("a message of the handshake is longer than {HANDSHAKE_BYTES_MAX} bytes")]
    TooLong,
    #[error("the connection is broken")]
    Broken,
}

/// What came of reading.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// So many bytes were decrypted, perhaps none. There may be more later.
    Bytes(usize),
    /// So many bytes were decrypted, and the client sends nothing more.
    Last(usize),
}

/// Buffers that the connections of a thread use in turn.
struct Scratch {
    incoming: Vec<u8>,
    content: Vec<u8>,
    outgoing: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> =
        const { RefCell::new(Scratch { incoming: Vec::new(), content: Vec::new(), outgoing: Vec::new() }) };
}

/// One connection. It may be moved between threads.
pub struct TlsConnection {
    connection: UnbufferedServerConnection,
    /// The beginning of a record.
    incoming: Vec<u8>,
    /// Encrypted bytes that the socket has not taken.
    outgoing: Vec<u8>,
    /// Whether any bytes have come.
    has_begun: bool,
    /// Whether the client has said that it sends no more.
    ended: bool,
    /// Whether the server has said so.
    closed: bool,
    /// Whether the client has broken the protocol.
    is_broken: bool,
}

impl TlsConnection {
    /// A connection that begins with a handshake.
    pub fn new(config: Arc<ServerConfig>) -> Result<Self, TlsFault> {
        let connection = UnbufferedServerConnection::new(config)?;
        Ok(Self {
            connection,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            has_begun: false,
            ended: false,
            closed: false,
            is_broken: false,
        })
    }

    /// Whether the handshake is not over.
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Whether any bytes of the client were looked at.
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Bytes of the beginning of a record, which are kept until the rest comes.
    pub fn kept_bytes(&self) -> usize {
        self.incoming.len()
    }

    /// Encrypted bytes that the socket must take before anything else is written.
    pub fn unsent(&self) -> &[u8] {
        &self.outgoing
    }

    /// Whether there are such bytes.
    pub fn has_unsent(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// The socket has taken so many of the unsent bytes.
    pub fn sent(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.outgoing.len(), "a socket takes no more than it is offered");
        if bytes >= self.outgoing.len() {
            self.outgoing = Vec::new();
        } else {
            self.outgoing.drain(..bytes);
        }
    }

    /// Lets `read` put received bytes into a buffer, and appends what they decrypt to, to `content`. `read` returns how many
    /// bytes it has put there; 0 is the end of the stream. What must be answered is put to the unsent bytes, also after a
    /// fault.
    pub fn receive<E>(
        &mut self,
        content: &mut Vec<u8>,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<Result<Received, TlsFault>, E> {
        SCRATCH.with_borrow_mut(|Scratch { incoming, .. }| {
            incoming.clear();
            incoming.append(&mut self.incoming);
            let kept = incoming.len();
            debug_assert!(kept < RECORD_BYTES_MAX, "the beginning of a record is not a whole one");
            incoming.resize(RECORD_BYTES_MAX, 0);
            let outcome = read(&mut incoming[kept..]);
            let came = *outcome.as_ref().unwrap_or(&0);
            self.has_begun |= came > 0;
            incoming.truncate(kept + came);
            let decrypted = match outcome {
                Ok(0) => {
                    self.ended = true;
                    Ok(0)
                }
                Ok(_) => {
                    let taken = self.take_in(incoming, content);
                    // What rustls had looked at is gone, so it must not be asked again.
                    self.is_broken |= taken.is_err();
                    taken
                }
                Err(error) => {
                    self.incoming = incoming.clone();
                    return Err(error);
                }
            };
            Ok(decrypted.map(|bytes| if self.ended { Received::Last(bytes) } else { Received::Bytes(bytes) }))
        })
    }

    /// Decrypts bytes that were read before it was known that TLS begins: behind the header of a proxy.
    pub fn begin_with(&mut self, bytes: &[u8], content: &mut Vec<u8>) -> Result<Received, TlsFault> {
        if bytes.is_empty() {
            return Ok(Received::Bytes(0));
        }
        let whole = self.receive(content, |buffer| {
            let length = bytes.len().min(buffer.len());
            buffer[..length].copy_from_slice(&bytes[..length]);
            Ok::<usize, std::convert::Infallible>(length)
        });
        let Ok(received) = whole;
        if bytes.len() <= RECORD_BYTES_MAX {
            return received;
        }
        self.is_broken = true;
        Err(TlsFault::TooLong)
    }

    /// Processes the records in `bytes`. Keeps the beginning of one that is not whole. Returns how many bytes of content
    /// there were.
    fn take_in(&mut self, bytes: &mut [u8], content: &mut Vec<u8>) -> Result<usize, TlsFault> {
        if self.is_broken {
            return Err(TlsFault::Broken);
        }
        let (mut used, before) = (0, content.len());
        loop {
            let UnbufferedStatus { mut discard, state } = self.connection.process_tls_records(&mut bytes[used..]);
            let mut is_over = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        content.extend_from_slice(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, &mut self.outgoing),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.ended = true,
                Ok(ConnectionState::Closed) => (self.ended, is_over) = (true, true),
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => is_over = true,
                Ok(_) => return Err(rustls::Error::General("early data was not asked for".into()).into()),
                Err(error) => {
                    self.break_off(&mut bytes[used + discard..]);
                    return Err(error.into());
                }
            }
            used += discard;
            if is_over {
                break;
            }
        }
        let rest = &bytes[used..];
        if rest.len() >= HANDSHAKE_BYTES_MAX {
            return Err(TlsFault::TooLong);
        }
        self.incoming = rest.to_vec();
        Ok(content.len() - before)
    }

    /// Puts the alert that says why the connection ends to the unsent bytes. After that rustls must be asked nothing more: it
    /// would find the same fault again.
    fn break_off(&mut self, bytes: &mut [u8]) {
        while self.connection.wants_write() {
            let Ok(ConnectionState::EncodeTlsData(mut data)) = self.connection.process_tls_records(bytes).state else {
                return;
            };
            encode(&mut data, &mut self.outgoing);
        }
    }

    /// Encrypts the first bytes of the pieces as one record, and lets `write` send it. `write` returns how many bytes the
    /// socket took; the rest becomes the unsent bytes. Returns how many bytes of the pieces were encrypted. Call it only
    /// while there are no unsent bytes and the handshake is over.
    pub fn send<E>(
        &mut self,
        pieces: &[&[u8]],
        write: impl FnOnce(&[u8]) -> Result<usize, E>,
    ) -> Result<Result<usize, TlsFault>, E> {
        debug_assert!(!self.has_unsent(), "bytes are sent in order");
        SCRATCH.with_borrow_mut(|Scratch { content, outgoing, .. }| {
            let content: &[u8] = match pieces {
                [piece] => &piece[..piece.len().min(CONTENT_BYTES_MAX)],
                pieces => gathered(pieces, content),
            };
            if content.is_empty() {
                return Ok(Ok(0));
            }
            outgoing.resize(CONTENT_BYTES_MAX + OVERHEAD_BYTES_MAX, 0);
            let length = match self.encrypt(content, outgoing) {
                Ok(length) => length,
                Err(fault) => return Ok(Err(fault)),
            };
            let taken = write(&outgoing[..length])?;
            self.outgoing.extend_from_slice(&outgoing[taken..length]);
            Ok(Ok(content.len()))
        })
    }

    fn encrypt(&mut self, content: &[u8], outgoing: &mut [u8]) -> Result<usize, TlsFault> {
        self.with_writing(|writing| {
            writing.encrypt(content, outgoing).map_err(|error| rustls::Error::General(error.to_string()))
        })
    }

    /// Says that the server sends no more. The alert is among the unsent bytes then.
    pub fn close(&mut self) {
        if std::mem::replace(&mut self.closed, true) || self.is_handshaking() || self.is_broken {
            return;
        }
        let mut alert = [0; OVERHEAD_BYTES_MAX];
        let closing = self.with_writing(|writing| {
            writing.queue_close_notify(&mut alert).map_err(|error| rustls::Error::General(error.to_string()))
        });
        // A connection that cannot say so just ends.
        if let Ok(length) = closing {
            self.outgoing.extend_from_slice(&alert[..length]);
        }
    }

    /// Brings the connection to where it may write. What it has to say of its own before that becomes unsent bytes.
    ///
    /// rustls must see the kept bytes here as well: it remembers how far it has looked at them.
    fn with_writing<T>(
        &mut self,
        mut write: impl FnMut(&mut WriteTraffic<'_, ServerConnectionData>) -> Result<T, rustls::Error>,
    ) -> Result<T, TlsFault> {
        if self.is_broken {
            return Err(TlsFault::Broken);
        }
        loop {
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(&mut self.incoming);
            let outcome = match state? {
                ConnectionState::WriteTraffic(mut writing) => Some(write(&mut writing)?),
                ConnectionState::EncodeTlsData(mut data) => {
                    encode(&mut data, &mut self.outgoing);
                    None
                }
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    None
                }
                ConnectionState::PeerClosed => {
                    self.ended = true;
                    None
                }
                _ => return Err(rustls::Error::HandshakeNotComplete.into()),
            };
            self.incoming.drain(..discard);
            if let Some(outcome) = outcome {
                return Ok(outcome);
            }
        }
    }
}

/// Appends what the connection has to say of its own.
fn encode<D>(data: &mut EncodeTlsData<'_, D>, outgoing: &mut Vec<u8>) {
    let before = outgoing.len();
    if let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) = data.encode(&mut []) {
        outgoing.resize(before + required_size, 0);
        let encoded = data.encode(&mut outgoing[before..]).unwrap_or_default();
        outgoing.truncate(before + encoded);
    }
}

/// The first bytes of the pieces, as many as one record has.
fn gathered<'a>(pieces: &[&[u8]], content: &'a mut Vec<u8>) -> &'a [u8] {
    content.clear();
    for piece in pieces {
        let room = CONTENT_BYTES_MAX - content.len();
        content.extend_from_slice(&piece[..room.min(piece.len())]);
    }
    content
}
