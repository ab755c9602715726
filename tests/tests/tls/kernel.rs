//! TLS that the kernel encrypts: what it is given, and what happens where it cannot.

use std::convert::Infallible;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use gateway::tls::{HandedOver, KernelCiphers, Received, TlsConnection};
use rustls::crypto::aws_lc_rs::{self, cipher_suite};
use rustls::crypto::cipher::OutboundPlainMessage;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, ConnectionTrafficSecrets, ContentType, ProtocolVersion, ServerConfig,
    SupportedCipherSuite,
};
use tempfile::TempDir;
use tests::harness::{data_dir, make_certificate};

use super::{launch, say, stage_with};

/// More rounds than any handshake has.
const ROUNDS_MAX: usize = 10;

const SUITES: [SupportedCipherSuite; 3] = [
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
];

/// The two ends of a connection whose handshake is over, without a socket.
struct Pair {
    server: Box<TlsConnection>,
    client: ClientConnection,
}

fn server_config(directory: &TempDir) -> Arc<ServerConfig> {
    let (certificate, key) = make_certificate(directory.path(), "");
    let certificate = CertificateDer::from_pem_file(certificate).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("both versions").with_no_client_auth();
    let mut config = builder.with_single_cert(vec![certificate], key).expect("a certificate and its key");
    config.enable_secret_extraction = true;
    Arc::new(config)
}

/// A client's configuration with one cipher suite only.
fn client_config(directory: &TempDir, suite: SupportedCipherSuite) -> Arc<ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    let root = CertificateDer::from_pem_file(directory.path().join("cert.pem")).expect("a certificate");
    roots.add(root).expect("a root");
    let provider = rustls::crypto::CryptoProvider { cipher_suites: vec![suite], ..aws_lc_rs::default_provider() };
    let builder = ClientConfig::builder_with_provider(Arc::new(provider));
    let version = suite.version();
    let config = builder.with_protocol_versions(&[version]).expect("a version").with_root_certificates(roots);
    Arc::new(config.with_no_client_auth())
}

impl Pair {
    fn new(suite: SupportedCipherSuite) -> Self {
        let directory = data_dir();
        let server = TlsConnection::new(server_config(&directory), Some(KernelCiphers::ALL)).expect("a connection");
        let name = ServerName::try_from("localhost").expect("a name");
        let client = ClientConnection::new(client_config(&directory, suite), name).expect("a client");
        let mut pair = Self { server: Box::new(server), client };
        for _ in 0..ROUNDS_MAX {
            assert_eq!(pair.sent_to_server(), b"", "a handshake has no content");
            pair.sent_to_client();
        }
        assert!(!pair.server.is_handshaking() && !pair.client.is_handshaking(), "the handshake is over");
        pair
    }

    /// Takes what the client wants to send to the server. Returns what it was.
    fn sent_to_server(&mut self) -> Vec<u8> {
        let (mut bytes, mut content) = (Vec::new(), Vec::new());
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).expect("a buffer takes all");
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let read = |buffer: &mut [u8]| Ok::<_, Infallible>(rest.read(buffer).expect("a slice can be read"));
            let Ok(received) = self.server.receive(&mut content, read);
            assert!(matches!(received, Ok(Received::Bytes(_))), "{received:?}");
        }
        content
    }

    /// Takes what the server has not sent to the client.
    fn sent_to_client(&mut self) {
        let bytes = self.server.unsent().to_vec();
        self.server.sent(bytes.len());
        self.client_reads(&bytes);
    }

    fn client_reads(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            self.client.read_tls(&mut bytes).expect("a slice can be read");
            self.client.process_new_packets().expect("the server's records are sound");
        }
    }

    fn client_got(&mut self) -> Vec<u8> {
        let mut content = Vec::new();
        match self.client.reader().read_to_end(&mut content) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => content,
            outcome => panic!("{outcome:?}: {content:?}"),
        }
    }
}

/// A record as the kernel makes it from a key, an initial vector and the record's number (RFC 8446, section 5.2).
fn record(suite: SupportedCipherSuite, secrets: ConnectionTrafficSecrets, number: u64, content: &[u8]) -> Vec<u8> {
    let (key, iv) = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (key, iv),
        _ => panic!("a cipher that the kernel is not given"),
    };
    let message = OutboundPlainMessage {
        typ: ContentType::ApplicationData,
        version: ProtocolVersion::TLSv1_3,
        payload: content.into(),
    };
    let mut encrypter = suite.tls13().expect("a suite of TLS 1.3").aead_alg.encrypter(key, iv);
    encrypter.encrypt(message, number).expect("a record").encode()
}

#[test]
fn the_keys_go_on_where_rustls_stopped() {
    for suite in SUITES {
        let mut pair = Pair::new(suite);
        // Both directions have sent records of their own, so that their numbers differ.
        pair.client.writer().write_all(b"GET / HTTP/1.1\r\n").expect("room");
        assert_eq!(pair.sent_to_server(), b"GET / HTTP/1.1\r\n");
        for part in [&b"HTTP/1.1 101 "[..], b"Switching", b" Protocols"] {
            let mut sent = Vec::new();
            let Ok(taken) = pair.server.send(&[part], |records| {
                sent.extend_from_slice(records);
                Ok::<_, Infallible>(records.len())
            });
            assert_eq!(taken.expect("it is encrypted"), part.len());
            pair.client_reads(&sent);
        }
        assert_eq!(pair.client_got(), b"HTTP/1.1 101 Switching Protocols");

        let Pair { server, client } = pair;
        let secrets = server.into_secrets().expect("the keys");
        let made = record(suite, secrets.tx.1, secrets.tx.0, b"hello");
        assert!(secrets.tx.0 > secrets.rx.0, "three records went out, and one came in");
        let directory = data_dir();
        let mut pair = Pair { server: Box::new(fresh(&directory)), client };
        pair.client_reads(&made);
        assert_eq!(pair.client_got(), b"hello", "{suite:?}");
    }
}

/// A connection that has heard nothing.
fn fresh(directory: &TempDir) -> TlsConnection {
    TlsConnection::new(server_config(directory), None).expect("a connection")
}

#[test]
fn what_is_not_tls_13_or_not_asked_for_stays_with_rustls() {
    let (listener, _stream) = connected();
    let mut old = Pair::new(cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256);
    old.client.writer().write_all(b"a").expect("room");
    assert_eq!(old.sent_to_server(), b"a");
    assert!(matches!(old.server.hand_over(&listener), Ok(HandedOver::Kept(_))), "TLS 1.2");

    let mut half = Pair::new(SUITES[0]);
    half.client.writer().write_all(b"abc").expect("room");
    let mut bytes = Vec::new();
    half.client.write_tls(&mut bytes).expect("a buffer takes all");
    let mut beginning = &bytes[..bytes.len() - 1];
    let Ok(received) =
        half.server.receive(&mut Vec::new(), |buffer| Ok::<_, Infallible>(beginning.read(buffer).unwrap()));
    assert!(matches!(received, Ok(Received::Bytes(0))), "{received:?}");
    assert!(matches!(half.server.hand_over(&listener), Ok(HandedOver::Kept(_))), "a record has begun");

    let directory = data_dir();
    let unasked = Box::new(fresh(&directory));
    assert!(matches!(unasked.hand_over(&listener), Ok(HandedOver::Kept(_))), "the handshake has not begun");
}

/// The two ends of a connection over loopback.
fn connected() -> (OwnedFd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let stream = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    (listener.accept().expect("the connection").0.into(), stream)
}

#[test]
fn a_kernel_without_tls_leaves_the_connection_as_it_was() {
    let mut pair = Pair::new(SUITES[0]);
    let (socket, mut stream) = connected();
    match pair.server.hand_over(&socket) {
        Ok(HandedOver::Kept(server)) => {
            assert!(KernelCiphers::probe().is_err(), "the kernel has TLS and was not given the keys");
            let mut pair = Pair { server, client: pair.client };
            pair.client.writer().write_all(b"still here").expect("room");
            assert_eq!(pair.sent_to_server(), b"still here");
        }
        Ok(HandedOver::Kernel(mut kernel)) => {
            let mut socket = fs::File::from(socket);
            socket.write_all(b"from the kernel").expect("the kernel encrypts");
            kernel.count_sent(15).expect("the first record");
            pair.client.writer().write_all(b"to the kernel").expect("room");
            pair.client.write_tls(&mut stream).expect("the socket takes it");
            let mut content = [0; 13];
            socket.read_exact(&mut content).expect("the kernel decrypts");
            assert_eq!(&content, b"to the kernel");
            pair.client.read_tls(&mut stream).expect("a record");
            pair.client.process_new_packets().expect("a sound record");
            let mut content = [0; 15];
            pair.client.reader().read_exact(&mut content).expect("the content");
            assert_eq!(&content, b"from the kernel");
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_start_with_ktls_serves_through_the_kernel_or_is_refused() {
    if KernelCiphers::probe().is_ok() {
        let stage = stage_with(|launch| launch.flags(["--ktls".into()]));
        let mut session = stage.session(&stage.sign_in("a-device-of-ktls-1"));
        let channel = session.join("ktls");
        session.ask(&say(&channel, &serde_json::json!({"n": 1})));
        return;
    }
    let ulps = fs::read_to_string("/proc/sys/net/ipv4/tcp_available_ulp").unwrap_or_default();
    assert!(!ulps.contains("tls"), "the kernel says that it has TLS: {ulps}");
    let directory = data_dir();
    let refused = launch(directory.path(), "tls:127.0.0.1:0").flags(["--ktls".into()]).start_refused();
    refused.assert_says(&["no TLS", "modprobe tls", "ktls"]);
}
