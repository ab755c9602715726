//! TLS whose records the kernel makes and reads (kTLS). After the handshake the kernel has the keys, and the socket takes and
//! gives plain bytes: the bytes that all members of a room share go to it as they are.
//!
//! Only TLS 1.3 is handed over. There a record's nonce follows from its number, which the kernel is told. In TLS 1.2 the
//! kernel would count nonces in another way than rustls did before it, and could use one twice.

use std::os::fd::OwnedFd;

use ktls_core::{
    Context, DUMMY_TLS_13_SESSION_SERVER, ExtractedSecrets, ProtocolVersion, TlsCryptoInfoRx, TlsCryptoInfoTx,
    setup_tls_params, setup_ulp,
};

use super::connection::{CONTENT_BYTES_MAX, TlsConnection, TlsFault};
use crate::log_limit;

/// Records that one key may encrypt: AES-GCM is the cipher that bears the fewest (RFC 8446, section 5.5).
const RECORDS_SENT_MAX: u32 = (1 << 24) - 1;

/// Whether the kernel has a connection's keys, so that the socket takes and gives plain bytes. Every connection has one of
/// these, so it is small: the records that the key may still encrypt, and none if the kernel has no key.
#[derive(Default, Debug)]
pub struct KernelTls {
    records_left: [u8; 3],
}

impl KernelTls {
    fn of(records_left: u32) -> Self {
        let [low, middle, high, _] = records_left.to_le_bytes();
        Self { records_left: [low, middle, high] }
    }

    fn records_left(&self) -> u32 {
        let [low, middle, high] = self.records_left;
        u32::from_le_bytes([low, middle, high, 0])
    }

    /// Whether the kernel has the keys.
    pub fn is_in_force(&self) -> bool {
        self.records_left() > 0
    }

    /// Counts the records of a write that the socket took. Fails when the key has encrypted as many as it may: the connection
    /// must end then, and its client comes back with new keys.
    pub fn count_sent(&mut self, bytes: usize) -> Result<(), TlsFault> {
        let records = u32::try_from(bytes.div_ceil(CONTENT_BYTES_MAX)).unwrap_or(u32::MAX);
        let left = self.records_left().checked_sub(records).filter(|left| *left > 0).ok_or(TlsFault::WornOut)?;
        *self = Self::of(left);
        Ok(())
    }

    /// Tells the client that nothing more comes, as far as the socket takes it.
    pub fn close(&self, socket: &OwnedFd) {
        Context::new(DUMMY_TLS_13_SESSION_SERVER, None).shutdown(socket);
    }
}

/// What came of handing a connection over.
pub enum HandedOver {
    Kernel(KernelTls),
    /// The kernel cannot have this one, or not now: rustls goes on with it.
    Kept(Box<TlsConnection>),
}

impl TlsConnection {
    /// Gives the keys to the kernel, if it was asked to have them and can. Fails if the kernel has refused them when rustls had
    /// given them away: nothing can be sent any more.
    pub fn hand_over(self: Box<Self>, socket: &OwnedFd) -> Result<HandedOver, TlsFault> {
        if !self.may_be_handed_over() {
            return Ok(HandedOver::Kept(self));
        }
        if let Err(error) = setup_ulp(socket) {
            log_limit::warn!(%error, "the kernel's TLS failed at a connection, which rustls goes on with");
            return Ok(HandedOver::Kept(self));
        }
        let ExtractedSecrets { tx, rx } = ExtractedSecrets::try_from(self.into_secrets()?)?;
        let tx = TlsCryptoInfoTx::new(ProtocolVersion::TLSv1_3, tx.1, tx.0)?;
        let rx = TlsCryptoInfoRx::new(ProtocolVersion::TLSv1_3, rx.1, rx.0)?;
        setup_tls_params(socket, &tx, &rx)?;
        Ok(HandedOver::Kernel(KernelTls::of(RECORDS_SENT_MAX)))
    }

    fn may_be_handed_over(&self) -> bool {
        let suite = self.connection.negotiated_cipher_suite().map(|suite| suite.suite());
        let is_new = self.connection.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3);
        let fits = self.kernel.zip(suite).is_some_and(|(kernel, suite)| kernel.has(suite));
        is_new && fits && self.is_between_records()
    }

    /// The keys of both directions, and the numbers of the next records.
    pub fn into_secrets(self: Box<Self>) -> Result<rustls::ExtractedSecrets, TlsFault> {
        let (secrets, _) = self.connection.dangerous_into_kernel_connection()?;
        Ok(secrets)
    }
}
