//! TLS between the measuring client and the servers that are measured under it. Each run makes a certificate of its own.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use tempfile::TempDir;

/// The name that the certificate is for.
const SERVER_NAME: &str = "localhost";
const FILE: &str = "certificate.pem";
const KEY_FILE: &str = "key.pem";
/// Bytes by which the content can exceed the encrypted bytes of one read: the beginning of a record that came before.
pub const CARRIED_BYTES_MAX: usize = 20 << 10;

/// A certificate, its key, and clients that trust it. The files are removed when it is dropped.
pub struct Certificate {
    directory: TempDir,
    client: Arc<ClientConfig>,
}

impl Certificate {
    /// Makes one with `openssl`, which every system has in its packages.
    pub fn make() -> io::Result<Certificate> {
        let directory = TempDir::new()?;
        let [file, key] = [FILE, KEY_FILE].map(|name| directory.path().join(name));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&file)
            .output()
            .map_err(|error| io::Error::other(format!("cannot run `openssl`, install it: {error}")))?;
        if !made.status.success() {
            let said = String::from_utf8_lossy(&made.stderr).into_owned();
            return Err(io::Error::other(format!("`openssl` made no certificate: {said}")));
        }
        let mut trusted = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_file(&file).map_err(io::Error::other)?;
        trusted.add(certificate).map_err(io::Error::other)?;
        let client = Arc::new(ClientConfig::builder().with_root_certificates(trusted).with_no_client_auth());
        Ok(Certificate { directory, client })
    }

    pub fn file(&self) -> PathBuf {
        self.directory.path().join(FILE)
    }

    pub fn key_file(&self) -> PathBuf {
        self.directory.path().join(KEY_FILE)
    }

    /// What a client needs to trust the certificate.
    pub fn client(&self) -> Arc<ClientConfig> {
        self.client.clone()
    }
}

/// How a bare loop serves with this certificate: as the library does by default.
pub fn server_config(certificate: &Path, key: &Path) -> io::Result<Arc<ServerConfig>> {
    let certificate = CertificateDer::from_pem_file(certificate).map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key);
    Ok(Arc::new(config.map_err(io::Error::other)?))
}

/// The TLS of one connection of a client.
pub struct Tls(ClientConnection);

impl Tls {
    /// Makes the handshake, and waits for it.
    pub fn begin(config: Arc<ClientConfig>, mut socket: &TcpStream) -> io::Result<Tls> {
        let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
        let mut connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(Tls(connection))
    }

    /// Sends a few bytes, and waits until the kernel has taken them.
    pub fn say(&mut self, bytes: &[u8], mut socket: &TcpStream) -> io::Result<()> {
        self.0.writer().write_all(bytes)?;
        while self.0.wants_write() {
            self.0.write_tls(&mut socket)?;
        }
        Ok(())
    }

    /// Decrypts what has come. Returns how many bytes of content were put into `content`, which has room for
    /// `CARRIED_BYTES_MAX` more than there are encrypted bytes.
    pub fn decrypt(&mut self, mut encrypted: &[u8], content: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while !encrypted.is_empty() {
            self.0.read_tls(&mut encrypted)?;
            self.0.process_new_packets().map_err(io::Error::other)?;
            loop {
                match self.0.reader().read(&mut content[filled..]) {
                    Ok(0) => break,
                    Ok(read) => filled += read,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(filled)
    }
}
