//! One TLS connection without its socket.
//!
//! What comes is decrypted in a buffer that all connections of a thread share. A connection keeps only the beginning of a
//! record that has not come whole, and encrypted bytes that its socket has not taken: at most `RECORDS_WRITE_MAX` records,
//! and one record each when the connections of the thread keep `UNSENT_BYTES_FEW` together.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, InsufficientSizeError, UnbufferedStatus, WriteTraffic,
};

use super::kernel_ciphers::KernelCiphers;

/// Most bytes of one record that is received: its header, its content and what ciphers add (RFC 5246, section 6.2.3).
pub const RECORD_BYTES_MAX: usize = 5 + (16 << 10) + 2048;
/// Most bytes that are encrypted as one record (RFC 8446, section 5.1).
pub const CONTENT_BYTES_MAX: usize = 16 << 10;
/// Records that are encrypted before the socket is asked to take them, so that one system call takes them all.
pub const RECORDS_WRITE_MAX: usize = 4;
/// Unsent bytes of a thread's connections beyond which each write is one record: those of some hundred slow readers. So the
/// next ten thousand of them keep a quarter as much.
const UNSENT_BYTES_FEW: usize = 8 << 20;
/// What encryption adds to a record at most: its header, an explicit nonce, the type of the content and the tag.
const OVERHEAD_BYTES_MAX: usize = 64;

/// The messages of one side of a handshake have at most so many bytes: a client's greeting with keys of post-quantum
/// exchanges has some 2 KiB.
const HANDSHAKE_BYTES_MAX: usize = RECORD_BYTES_MAX;

/// Bytes that are read at once while the handshake goes on: more than a client says in it. What comes behind the
/// handshake is looked at record by record.
const HANDSHAKE_READ_BYTES: usize = 4 << 10;

/// Records that are looked at before those without content among them are counted.
const RECORDS_LOOKED_AT: usize = 8;

/// A record without content, such as an update of keys, costs up to ten times as much as another. A client may send one
/// when it likes, and then one for each so many records with content, of which `SILENT_MAX` may come together. Clients
/// update keys once in millions of records (RFC 8446, section 5.5).
const SILENT_EACH: u8 = 16;
const SILENT_MAX: u8 = 4;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub enum TlsFault {
    #[error("{0}")]
    Protocol(#[from] rustls::Error),
    #[error("a message of the handshake is longer than {HANDSHAKE_BYTES_MAX} bytes")]
    TooLong,
    #[error("too many records have no content")]
    Silent,
    #[error("the connection is broken")]
    Broken,
    #[error("the kernel does not take the keys: {0}")]
    Kernel(#[from] ktls_core::Error),
    #[error("the key has encrypted as many records as it may")]
    WornOut,
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
    /// The unsent bytes of this thread's connections. A connection that moves to another thread is counted wrongly until it
    /// has sent them, which changes nothing but the length of writes.
    static UNSENT: Cell<usize> = const { Cell::new(0) };
}

/// One connection. It may be moved between threads.
pub struct TlsConnection {
    pub(super) connection: UnbufferedServerConnection,
    /// What the kernel may encrypt instead, once the handshake is over.
    pub(super) kernel: Option<KernelCiphers>,
    /// The beginning of a record, behind records of a message of which more must come.
    incoming: Vec<u8>,
    /// How many bytes of `incoming` are such records. rustls has looked at them and remembers how far; it must never be given
    /// fewer bytes than that again, and it may have moved their contents together, over their headers.
    looked_at: usize,
    outgoing: Unsent,
    /// Records with content that came and that no record without content has used up, `SILENT_EACH` for each.
    silence_left: u8,
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
    pub fn new(config: Arc<ServerConfig>, kernel: Option<KernelCiphers>) -> Result<Self, TlsFault> {
        let connection = UnbufferedServerConnection::new(config)?;
        Ok(Self {
            connection,
            kernel,
            incoming: Vec::new(),
            looked_at: 0,
            outgoing: Unsent::default(),
            silence_left: SILENT_EACH,
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

    /// Whether neither side has begun a record that it has not ended, and neither wants to end the connection.
    pub(super) fn is_between_records(&self) -> bool {
        let is_over = self.ended || self.closed || self.is_broken;
        !is_over && !self.is_handshaking() && self.incoming.is_empty() && !self.has_unsent()
    }

    /// Whether the client has said that it sends no more.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Bytes of the beginning of a record, which are kept until the rest comes.
    pub fn kept_bytes(&self) -> usize {
        self.incoming.len()
    }

    /// Encrypted bytes that the socket must take before anything else is written.
    pub fn unsent(&self) -> &[u8] {
        &self.outgoing.0
    }

    /// Whether there are such bytes.
    pub fn has_unsent(&self) -> bool {
        !self.outgoing.0.is_empty()
    }

    /// The socket has taken so many of the unsent bytes.
    pub fn sent(&mut self, bytes: usize) {
        self.outgoing.sent(bytes);
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
            let most = if self.is_handshaking() { kept + HANDSHAKE_READ_BYTES } else { RECORD_BYTES_MAX };
            incoming.resize(most.min(RECORD_BYTES_MAX), 0);
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
        let (mut rest, before) = (bytes, content.len());
        while !rest.is_empty() {
            let part = self.receive(content, |buffer| {
                let (part, behind) = rest.split_at(rest.len().min(buffer.len()));
                buffer[..part.len()].copy_from_slice(part);
                rest = behind;
                Ok::<usize, Infallible>(part.len())
            });
            let Ok(received) = part;
            if let Received::Last(_) = received? {
                return Ok(Received::Last(content.len() - before));
            }
        }
        Ok(Received::Bytes(content.len() - before))
    }

    /// Processes the records in `bytes`. Keeps the beginning of one that is not whole. Returns how many bytes of content
    /// there were.
    fn take_in(&mut self, bytes: &mut [u8], content: &mut Vec<u8>) -> Result<usize, TlsFault> {
        if self.is_broken {
            return Err(TlsFault::Broken);
        }
        let (mut used, before) = (0, content.len());
        let mut looked_at = self.looked_at;
        let mut end = looked_at;
        while end < bytes.len() {
            let counts = !self.is_handshaking();
            // What follows the last record of the handshake is counted.
            let most = if counts { RECORDS_LOOKED_AT } else { 1 };
            let (records, length) = whole_records(&bytes[looked_at..], most);
            looked_at += length;
            end = if records < most { bytes.len() } else { looked_at };
            let (read, with_content) = self.take_in_records(&mut bytes[used..end], content)?;
            used += read;
            if counts && !self.ended {
                self.count_silence(records, with_content)?;
            }
        }
        let rest = &bytes[used..];
        if rest.len() >= HANDSHAKE_BYTES_MAX {
            return Err(TlsFault::TooLong);
        }
        self.incoming = rest.to_vec();
        self.looked_at = looked_at.saturating_sub(used);
        Ok(content.len() - before)
    }

    /// Counts records, of which so many had content.
    fn count_silence(&mut self, records: usize, with_content: usize) -> Result<(), TlsFault> {
        let earned = u8::try_from(with_content).unwrap_or(u8::MAX);
        let silence = self.silence_left.saturating_add(earned).min(SILENT_MAX * SILENT_EACH);
        let silent = records.saturating_sub(with_content) * usize::from(SILENT_EACH);
        let left = usize::from(silence).checked_sub(silent).ok_or(TlsFault::Silent)?;
        self.silence_left = u8::try_from(left).unwrap_or(u8::MAX);
        Ok(())
    }

    /// Processes some records. Returns how many of the bytes are done with, and how many records had content.
    fn take_in_records(&mut self, bytes: &mut [u8], content: &mut Vec<u8>) -> Result<(usize, usize), TlsFault> {
        let (mut used, mut with_content) = (0, 0);
        loop {
            let UnbufferedStatus { mut discard, state } = self.connection.process_tls_records(&mut bytes[used..]);
            let mut is_over = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        with_content += usize::from(!record.payload.is_empty());
                        content.extend_from_slice(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => self.outgoing.encode(&mut data),
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
                return Ok((used, with_content));
            }
        }
    }

    /// Puts the alert that says why the connection ends to the unsent bytes. After that rustls must be asked nothing more: it
    /// would find the same fault again.
    fn break_off(&mut self, bytes: &mut [u8]) {
        while self.connection.wants_write() {
            let Ok(ConnectionState::EncodeTlsData(mut data)) = self.connection.process_tls_records(bytes).state else {
                return;
            };
            self.outgoing.encode(&mut data);
        }
    }

    /// Encrypts the first bytes of the pieces as some records, and lets `write` send them. `write` returns how many bytes the
    /// socket took; the rest becomes the unsent bytes. Returns how many bytes of the pieces were encrypted. Call it only
    /// while there are no unsent bytes and the handshake is over.
    pub fn send<E>(
        &mut self,
        pieces: &[&[u8]],
        write: impl FnOnce(&[u8]) -> Result<usize, E>,
    ) -> Result<Result<usize, TlsFault>, E> {
        debug_assert!(!self.has_unsent(), "bytes are sent in order");
        SCRATCH.with_borrow_mut(|Scratch { content, outgoing, .. }| {
            let records = if UNSENT.get() < UNSENT_BYTES_FEW { RECORDS_WRITE_MAX } else { 1 };
            let content: &[u8] = match pieces {
                [piece] => &piece[..piece.len().min(records * CONTENT_BYTES_MAX)],
                pieces => gathered(pieces, records * CONTENT_BYTES_MAX, content),
            };
            if content.is_empty() {
                return Ok(Ok(0));
            }
            outgoing.resize(RECORDS_WRITE_MAX * (CONTENT_BYTES_MAX + OVERHEAD_BYTES_MAX), 0);
            let length = match self.encrypt(content, outgoing) {
                Ok(length) => length,
                Err(fault) => return Ok(Err(fault)),
            };
            let taken = write(&outgoing[..length])?;
            self.outgoing.keep(&outgoing[taken..length]);
            Ok(Ok(content.len()))
        })
    }

    /// Encrypts the content, record by record. Returns the length of the records.
    fn encrypt(&mut self, content: &[u8], outgoing: &mut [u8]) -> Result<usize, TlsFault> {
        self.with_writing(|writing| {
            let mut length = 0;
            for part in content.chunks(CONTENT_BYTES_MAX) {
                let encrypted = writing.encrypt(part, &mut outgoing[length..]);
                length += encrypted.map_err(|error| rustls::Error::General(error.to_string()))?;
            }
            Ok(length)
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
            self.outgoing.keep(&alert[..length]);
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
                    self.outgoing.encode(&mut data);
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
            self.looked_at = self.looked_at.saturating_sub(discard);
            if let Some(outcome) = outcome {
                return Ok(outcome);
            }
        }
    }
}

/// Encrypted bytes that the socket has not taken. They are counted for the thread.
#[derive(Default)]
struct Unsent(Vec<u8>);

impl Unsent {
    fn keep(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        count_unsent(|unsent| unsent + bytes.len());
    }

    /// Appends what the connection has to say of its own.
    fn encode<D>(&mut self, data: &mut EncodeTlsData<'_, D>) {
        let before = self.0.len();
        if let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) = data.encode(&mut []) {
            self.0.resize(before + required_size, 0);
            let encoded = data.encode(&mut self.0[before..]).unwrap_or_default();
            self.0.truncate(before + encoded);
            count_unsent(|unsent| unsent + encoded);
        }
    }

    /// The socket has taken so many of them.
    fn sent(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.0.len(), "a socket takes no more than it is offered");
        count_unsent(|unsent| unsent.saturating_sub(bytes));
        if bytes >= self.0.len() {
            self.0 = Vec::new();
        } else {
            self.0.drain(..bytes);
        }
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        count_unsent(|unsent| unsent.saturating_sub(self.0.len()));
    }
}

fn count_unsent(change: impl FnOnce(usize) -> usize) {
    // A connection may be dropped after the thread's variables.
    let _ = UNSENT.try_with(|unsent| unsent.set(change(unsent.get())));
}

/// How many whole records the bytes begin with, up to `most`, and their length (RFC 8446, section 5.1).
fn whole_records(bytes: &[u8], most: usize) -> (usize, usize) {
    let (mut records, mut length) = (0, 0);
    while records < most
        && let Some([_, _, _, high, low]) = bytes[length..].first_chunk()
    {
        let end = length + 5 + usize::from(u16::from_be_bytes([*high, *low]));
        if end > bytes.len() {
            break;
        }
        (records, length) = (records + 1, end);
    }
    (records, length)
}

/// The first bytes of the pieces, up to `max`.
fn gathered<'a>(pieces: &[&[u8]], max: usize, content: &'a mut Vec<u8>) -> &'a [u8] {
    content.clear();
    for piece in pieces {
        let room = max - content.len();
        content.extend_from_slice(&piece[..room.min(piece.len())]);
    }
    content
}
