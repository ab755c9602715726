//! The certificate and the key in force, and the watch over their files.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use x509_cert::Certificate;
use x509_cert::der::{self, Decode};

use super::connection::{TlsConnection, TlsFault};
use super::kernel_ciphers::{KernelCiphers, KernelFailure};
use crate::listen_address::Protocol;

/// How often the files are looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);
/// With less time left than this, the log warns when the certificate is read. Renewals that run by themselves come sooner.
const RENEWAL_DAYS: i64 = 14;
const SECONDS_PER_DAY: i64 = 24 * 60 * 60;
/// What clients may speak behind TLS (RFC 7301).
const HTTP: &[u8] = b"http/1.1";
const GRPC: &[u8] = b"h2";

/// Where the certificate and its key are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsFiles {
    /// The server's certificate and those between it and the root, in PEM.
    pub certificate: PathBuf,
    /// The private key of the certificate, in PEM.
    pub key: PathBuf,
}

/// The files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsFailure {
    #[error("{}: {error}", path.display())]
    File { path: PathBuf, error: pem::Error },
    #[error("{}: there is no certificate in it", .0.display())]
    NoCertificate(PathBuf),
    #[error("{}: {error}", path.display())]
    Certificate { path: PathBuf, error: der::Error },
    #[error("{} and {}: {error}", files.certificate.display(), files.key.display())]
    Unfit { files: TlsFiles, error: rustls::Error },
    #[error(transparent)]
    Kernel(#[from] KernelFailure),
}

/// Begins connections with the certificate in force. All shards share one.
pub struct TlsAcceptor {
    configs: ArcSwap<Configs>,
    /// When the certificate in force expires, in seconds since 1970.
    expires: AtomicI64,
    loaded: Mutex<Loaded>,
    /// What the kernel encrypts once a handshake is over.
    kernel: Option<KernelCiphers>,
    /// Clients that come back with a ticket need no new signature. Its keys change with time, not with the certificate.
    tickets: Arc<dyn ProducesTickets>,
}

/// What the configuration in force was made of.
struct Loaded {
    files: TlsFiles,
    state: FilesState,
}

/// What can be seen of the two files without reading them.
type FilesState = [Option<(SystemTime, u64)>; 2];

impl TlsAcceptor {
    /// Reads the files. With `ktls`, the kernel is to encrypt sessions. Fails if a file cannot be read, if the key is not the
    /// certificate's, or if the kernel cannot encrypt.
    pub fn load(files: TlsFiles, ktls: bool) -> Result<Self, TlsFailure> {
        let kernel = ktls.then(KernelCiphers::probe).transpose()?;
        let tickets = aws_lc_rs::Ticketer::new();
        let tickets = tickets.map_err(|error| TlsFailure::Unfit { files: files.clone(), error })?;
        let state = state_of(&files);
        let Secured { configs, validity } = read(&files, tickets.clone(), kernel)?;
        validity.warn(&files);
        Ok(Self {
            configs: ArcSwap::from_pointee(configs),
            expires: AtomicI64::new(validity.until),
            loaded: Mutex::new(Loaded { files, state }),
            kernel,
            tickets,
        })
    }

    /// Begins a connection whose client will speak this.
    pub fn begin(&self, protocol: Protocol) -> Result<TlsConnection, TlsFault> {
        let configs = self.configs.load();
        let config = match protocol {
            Protocol::Http => configs.http.clone(),
            Protocol::Grpc => configs.grpc.clone(),
        };
        TlsConnection::new(config, self.kernel)
    }

    /// When the certificate in force expires, in seconds since 1970.
    pub fn expires(&self) -> i64 {
        self.expires.load(Ordering::Relaxed)
    }

    /// Reads these files, and puts them in force for connections that begin later. A failure changes nothing. Returns
    /// whether another certificate or key is in force.
    pub fn reload(&self, files: &TlsFiles) -> Result<bool, TlsFailure> {
        let mut loaded = self.loaded.lock();
        let state = state_of(files);
        if loaded.files == *files && loaded.state == state {
            return Ok(false);
        }
        // A failure is told once, and again when the files change again.
        *loaded = Loaded { files: files.clone(), state };
        let Secured { configs, validity } = read(files, self.tickets.clone(), self.kernel)?;
        validity.warn(files);
        self.configs.store(Arc::new(configs));
        self.expires.store(validity.until, Ordering::Relaxed);
        Ok(true)
    }

    /// Looks whether the files in force have changed.
    pub fn look_again(&self) {
        let files = self.loaded.lock().files.clone();
        self.look_at(&files);
    }

    /// Puts these files in force if they or their contents are others, and says in the log what came of it.
    pub fn look_at(&self, files: &TlsFiles) {
        match self.reload(files) {
            Ok(false) => {}
            Ok(true) => tracing::info!(
                certificate = %files.certificate.display(),
                "the certificate was read again: connections that begin now have the new one"
            ),
            Err(error) => tracing::error!(%error, "the certificate has changed and cannot be used: the old one stays"),
        }
    }
}

impl fmt::Debug for TlsAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The lock is held while files are read.
        let files = self.loaded.try_lock().map(|loaded| loaded.files.clone());
        f.debug_struct("TlsAcceptor").field("files", &files).finish_non_exhaustive()
    }
}

/// Watches the files from a thread of its own, until the process ends. Fails if no thread can be made.
pub fn watch(acceptor: Arc<TlsAcceptor>) -> io::Result<()> {
    thread::Builder::new().name("certificate".into()).spawn(move || {
        loop {
            thread::sleep(WATCH_INTERVAL);
            acceptor.look_again();
        }
    })?;
    Ok(())
}

fn state_of(files: &TlsFiles) -> FilesState {
    let state = |path: &Path| {
        let found = fs::metadata(path).ok()?;
        Some((found.modified().ok()?, found.len()))
    };
    [state(&files.certificate), state(&files.key)]
}

/// What connections begin with.
struct Secured {
    configs: Configs,
    validity: Validity,
}

/// The same certificate for each protocol, which the handshake names.
struct Configs {
    http: Arc<ServerConfig>,
    grpc: Arc<ServerConfig>,
}

/// When a certificate is valid, in seconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Validity {
    from: i64,
    until: i64,
}

impl Validity {
    /// Reads a certificate in DER (RFC 5280, section 4.1.2.5).
    fn of(certificate: &[u8]) -> der::Result<Self> {
        let validity = Certificate::from_der(certificate)?.tbs_certificate.validity;
        let [from, until] = [validity.not_before, validity.not_after].map(|time| time.to_unix_duration().as_secs());
        Ok(Self { from: from as i64, until: until as i64 })
    }

    /// What clients will say of it, if they do not accept it or will not soon.
    fn complaint(self, now: i64) -> Option<String> {
        let days = (self.until - now) / SECONDS_PER_DAY;
        if now >= self.until {
            Some(
                "the certificate has expired: clients refuse it. Renew it, and the server reads it again by itself"
                    .into(),
            )
        } else if now < self.from {
            Some("the certificate is not valid yet: clients refuse it. Compare the clock with the certificate's".into())
        } else if days < RENEWAL_DAYS {
            Some(format!("the certificate expires in {days} days: renew it, and the server reads it again by itself"))
        } else {
            None
        }
    }

    fn warn(self, files: &TlsFiles) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
        if let Some(complaint) = self.complaint(now) {
            tracing::warn!(certificate = %files.certificate.display(), "{complaint}");
        }
    }
}

fn read(
    files: &TlsFiles,
    tickets: Arc<dyn ProducesTickets>,
    kernel: Option<KernelCiphers>,
) -> Result<Secured, TlsFailure> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| TlsFailure::File { path, error }
    };
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(&files.certificate).and_then(|certificates| certificates.collect());
    let certificates = certificates.map_err(failed(&files.certificate))?;
    let Some(first) = certificates.first() else {
        return Err(TlsFailure::NoCertificate(files.certificate.clone()));
    };
    let validity = Validity::of(first);
    let validity = validity.map_err(|error| TlsFailure::Certificate { path: files.certificate.clone(), error })?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(failed(&files.key))?;
    let unfit = |error| TlsFailure::Unfit { files: files.clone(), error };
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unfit)?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(unfit)?;
    config.ticketer = tickets;
    config.enable_secret_extraction = kernel.is_some();
    // Tickets are enough, and hold no memory here.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    let speaking = |protocol: &[u8]| {
        let mut config = config.clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
    };
    Ok(Secured { configs: Configs { http: speaking(HTTP), grpc: speaking(GRPC) }, validity })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_that_clients_refuse_are_complained_of() {
        let validity = Validity { from: 0, until: 100 * SECONDS_PER_DAY };
        let check = |day: i64, expected: Option<&str>| {
            let complaint = validity.complaint(day * SECONDS_PER_DAY);
            assert_eq!(complaint.is_some(), expected.is_some(), "day {day}: {complaint:?}");
            assert!(complaint.unwrap_or_default().contains(expected.unwrap_or_default()), "day {day}");
        };
        check(-1, Some("is not valid yet"));
        check(0, None);
        check(86, None);
        check(87, Some("expires in 13 days"));
        check(99, Some("expires in 1 days"));
        check(100, Some("has expired"));
    }

    #[test]
    fn no_bytes_that_are_no_certificate_have_a_validity() {
        for bytes in [&b""[..], b"\x30", b"\x30\x82\xff\xff", b"hello", &[0x30, 0x80, 0, 0], &[0x30; 300]] {
            assert!(Validity::of(bytes).is_err(), "{bytes:?}");
        }
    }
}
