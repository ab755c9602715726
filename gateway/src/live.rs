//! Options that change while the server runs. SIGHUP sets them (`reload.rs`); shards and operators' threads read them, and
//! never wait for it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use engine::limits::ClientLimits;
use engine::process_rates::ProcessRates;

use crate::allowed_origins::AllowedOrigins;
use crate::config::toml;
use crate::options::Options;
use crate::sign_in::SignInTerms;
use crate::tls::TlsAcceptor;
use crate::trusted_proxies::TrustedProxies;

/// The keys whose values change on SIGHUP. All others need a restart. The signing keys are not here, but with what signs by
/// them (`token.rs`).
pub const LIVE_KEYS: [&str; 36] = [
    "account_creation",
    "accounts_per_second",
    "admin_host",
    "allowed_origin",
    "custom_sign_in",
    "identity_audience",
    "identity_clock_skew",
    "identity_direct",
    "identity_issuer",
    "identity_keys",
    "identity_name_claim",
    "joins_per_second",
    "log_level",
    "memberships_per_user",
    "openings_per_second",
    "previous_refresh_key",
    "previous_refresh_key_file",
    "previous_refresh_key_until",
    "previous_session_key",
    "previous_session_key_file",
    "previous_session_key_until",
    "proxy_protocol",
    "refresh_key",
    "refresh_key_file",
    "sends_per_second",
    "server_key",
    "session_key",
    "session_key_file",
    "sessions_per_user",
    "sign_ins_per_second",
    "tls_cert",
    "tls_key",
    "trusted_proxies",
    "work_per_address",
    "work_per_session",
    "work_per_user",
];

/// A value that all threads see change at once.
pub type Live<T> = Arc<ArcSwap<T>>;

/// The values in force.
#[derive(Clone, Debug)]
pub struct LiveOptions {
    pub admin_hosts: Live<Vec<String>>,
    pub server_key: Live<String>,
    pub sign_in: Live<SignInTerms>,
    pub trusted_proxies: Live<TrustedProxies>,
    pub allowed_origins: Live<AllowedOrigins>,
    pub process_rates: Live<ProcessRates>,
    pub client_limits: Live<ClientLimits>,
    /// The certificate of the listeners with TLS, if there are any.
    pub tls: Option<Arc<TlsAcceptor>>,
    /// The hash of the whole configuration in force, without secrets.
    pub sha256: Live<String>,
}

impl LiveOptions {
    /// The values of these options.
    pub fn new(options: &Options) -> Self {
        Self {
            admin_hosts: live(options.admin_hosts.clone()),
            server_key: live(options.server_key.clone()),
            sign_in: live(options.sign_in.clone()),
            trusted_proxies: live(options.trusted_proxies.clone()),
            allowed_origins: live(options.allowed_origins.clone()),
            process_rates: live(options.process_rates),
            client_limits: live(options.client_limits),
            tls: None,
            sha256: live(toml::sha256(&options.configuration)),
        }
    }

    /// From now on, this has the certificate.
    pub fn securing(self, tls: Option<Arc<TlsAcceptor>>) -> Self {
        Self { tls, ..self }
    }

    /// Puts the values of these options in force. What has begun with the old ones ends with them.
    pub fn set(&self, options: &Options) {
        self.admin_hosts.store(Arc::new(options.admin_hosts.clone()));
        self.server_key.store(Arc::new(options.server_key.clone()));
        self.sign_in.store(Arc::new(options.sign_in.clone()));
        self.trusted_proxies.store(Arc::new(options.trusted_proxies.clone()));
        self.allowed_origins.store(Arc::new(options.allowed_origins.clone()));
        self.process_rates.store(Arc::new(options.process_rates));
        self.client_limits.store(Arc::new(options.client_limits));
        if let (Some(acceptor), Some(files)) = (&self.tls, &options.tls) {
            acceptor.look_at(files);
        }
        self.sha256.store(Arc::new(toml::sha256(&options.configuration)));
    }
}

/// A value that can be changed later.
pub fn live<T>(value: T) -> Live<T> {
    Arc::new(ArcSwap::from_pointee(value))
}
