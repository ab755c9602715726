//! A server with a proxy in front of it.

use std::thread;

use tempfile::TempDir;
use tests::harness::{Http, Launch, Proxy, ProxyKind, ProxyLaunch, Server, data_dir};

/// Simultaneous requests that fill a proxy's pool of connections to the server.
const REQUESTS_AT_ONCE: usize = 8;

pub struct Stage {
    pub proxy: Proxy,
    _server: Server,
    admin: Http,
    _data: TempDir,
}

impl Stage {
    /// Starts both. `changes` are made to the proxy's file.
    pub fn behind(kind: ProxyKind, changes: &[(&'static str, &'static str)]) -> Self {
        Self::launch(kind, changes, &[])
    }

    /// Starts both, the server with these flags.
    pub fn launch(kind: ProxyKind, changes: &[(&'static str, &'static str)], flags: &[&str]) -> Self {
        let data = data_dir();
        let flags = flags.iter().map(|flag| (*flag).to_owned());
        let server = Launch::on(data.path()).admin("127.0.0.1:0").flags(flags).start();
        let launch = ProxyLaunch::before(server.address(), kind);
        let proxy = changes.iter().fold(launch, |launch, (from, to)| launch.changed(from, to)).start();
        Self { proxy, admin: server.admin(), _server: server, _data: data }
    }

    /// Users sign in at the same time, each on a separate connection.
    pub fn fill_pool(&self) {
        thread::scope(|scope| {
            for person in 0..REQUESTS_AT_ONCE {
                scope.spawn(move || self.proxy.http().sign_in(&format!("early-{person}")));
            }
        });
    }

    /// Connections that the server has accepted so far.
    pub fn accepted(&self) -> u64 {
        self.metric("stentor_connections_accepted_total")
    }

    /// A number of the operators' page.
    pub fn metric(&self, name: &str) -> u64 {
        let page = self.admin.request("GET", "/metrics", &[], "").body;
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} is not on\n{page}"))
    }
}
