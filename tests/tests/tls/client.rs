//! A blocking client of TLS over a socket.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// No read or write takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

pub type Secured = StreamOwned<ClientConnection, Drip>;

/// What a client trusts: this certificate.
pub fn config(certificate: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(certificate).expect("a certificate that the test made");
    roots.add(certificate).expect("a root");
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = builder.with_safe_default_protocol_versions().expect("both versions").with_root_certificates(roots);
    Arc::new(config.with_no_client_auth())
}

/// Connects. `first` is sent before the handshake.
pub fn secured(address: SocketAddr, config: Arc<ClientConfig>, first: &[u8]) -> Secured {
    let mut stream = TcpStream::connect(address).expect("the server accepts connections");
    stream.set_read_timeout(Some(PATIENCE)).expect("a read timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a write timeout");
    stream.set_nodelay(true).expect("TCP_NODELAY");
    stream.write_all(first).expect("the first bytes are sent");
    let name = ServerName::try_from("localhost").expect("a name");
    StreamOwned::new(ClientConnection::new(config, name).expect("a client"), Drip { stream, drips: false })
}

/// A socket that may send its bytes in small packets.
pub struct Drip {
    stream: TcpStream,
    drips: bool,
}

impl Drip {
    /// Sends bytes past TLS.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }
}

/// Sends the bytes in small packets.
pub trait Dripping {
    fn dripping(self) -> Self;
}

impl Dripping for Secured {
    fn dripping(mut self) -> Self {
        self.sock.drips = true;
        self
    }
}

impl Read for Drip {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream.read(bytes)
    }
}

impl Write for Drip {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.drips || bytes.is_empty() {
            return self.stream.write(bytes);
        }
        // The server sees most of these packets on their own.
        thread::sleep(Duration::from_micros(200));
        self.stream.write(&bytes[..bytes.len().min(7)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
