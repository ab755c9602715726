//! TLS on the server's listeners, by rustls.
//!
//! `acceptor.rs` has the certificate and key in force and begins connections. `connection.rs` is one connection without a
//! socket of its own: it has no buffers while it is idle, so that many idle clients cost little. The shard's table reads
//! and writes through it (`socket.rs`), and so does HTTP (`http/secured_stream.rs`). If the kernel is to encrypt, a session's
//! connection is handed over to it when the session begins (`kernel.rs`).

mod acceptor;
mod connection;
mod kernel;
mod kernel_ciphers;
mod socket;

pub use acceptor::{TlsAcceptor, TlsFailure, TlsFiles, watch};
pub use connection::{Received, TlsConnection, TlsFault};
pub use kernel::{HandedOver, KernelTls};
pub use kernel_ciphers::{KernelCiphers, KernelFailure};
pub use socket::SocketFault;
