//! What the kernel can encrypt, as a trial at a loopback connection shows it.

use std::io;

use ktls_core::{Compatibilities, Compatibility};
use rustls::CipherSuite;

/// The ciphers of TLS 1.3 that this kernel has.
#[derive(Clone, Copy, Debug)]
pub struct KernelCiphers(Compatibility);

/// The kernel cannot encrypt.
#[derive(Debug, thiserror::Error)]
pub enum KernelFailure {
    #[error("this kernel has no TLS: load its module (`modprobe tls`), or leave out ktls")]
    Missing,
    #[error("the kernel's TLS could not be tried: {0}; leave out ktls")]
    Trial(#[from] io::Error),
}

impl KernelCiphers {
    /// The ciphers that rustls and a recent kernel both have.
    pub const ALL: Self =
        Self(Compatibility::new().with_aes_128_gcm(true).with_aes_256_gcm(true).with_chacha20_poly1305(true));

    /// Tries the kernel's TLS at a loopback connection.
    pub fn probe() -> Result<Self, KernelFailure> {
        let found = Compatibilities::probe()?.ok_or(KernelFailure::Missing)?;
        Some(found.tls13).filter(|ciphers| !ciphers.is_unsupported()).map(Self).ok_or(KernelFailure::Missing)
    }

    /// Whether this is one of them.
    pub fn has(self, suite: CipherSuite) -> bool {
        match suite {
            CipherSuite::TLS13_AES_128_GCM_SHA256 => self.0.aes_128_gcm(),
            CipherSuite::TLS13_AES_256_GCM_SHA384 => self.0.aes_256_gcm(),
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => self.0.chacha20_poly1305(),
            _ => false,
        }
    }
}
