//! The proxies that operators put in front of the server: nginx, HAProxy and Apache from Debian, each on its own
//! loopback ports.
//!
//! They run with the files in `deploy/`, as operators use them. Only what must differ in a test is changed: ports, and
//! the names of the certificate. Each is one process in the foreground that ends with the test.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::ports::ReservedPort;
use super::process::Process;
use super::{DEADLINE, Http, make_certificate};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The program in front of the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProxyKind {
    Nginx,
    Haproxy,
    Apache,
}

/// The settings of a proxy that is to be started.
pub struct ProxyLaunch {
    kind: ProxyKind,
    server: SocketAddr,
    /// Where the server's API in gRPC is, for proxies that pass it on.
    grpc: Option<SocketAddr>,
    changes: Vec<(&'static str, &'static str)>,
}

/// A running proxy. Dropping it kills it.
pub struct Proxy {
    process: Process,
    directory: TempDir,
    plain: ReservedPort,
    secure: ReservedPort,
}

impl ProxyLaunch {
    /// A proxy in front of this server, with the file in `deploy/` as it is.
    pub fn before(server: SocketAddr, kind: ProxyKind) -> Self {
        Self { kind, server, grpc: None, changes: Vec::new() }
    }

    /// Passes calls of gRPC on to this address.
    pub fn grpc(mut self, address: SocketAddr) -> Self {
        self.grpc = Some(address);
        self
    }

    /// Replaces a text that occurs in the file of `deploy/`.
    pub fn changed(mut self, from: &'static str, to: &'static str) -> Self {
        self.changes.push((from, to));
        self
    }

    /// Starts the proxy and waits until it listens.
    pub fn start(self) -> Proxy {
        let directory = tempfile::Builder::new().prefix("stentor-proxy-").tempdir().expect("a temporary directory");
        let (plain, secure) = (ReservedPort::at(&[LOOPBACK]), ReservedPort::at(&[LOOPBACK]));
        make_both(directory.path());
        self.write_files(directory.path(), plain.number(), secure.number());
        let process = Process::start(self.command(directory.path()));
        let mut proxy = Proxy { process, directory, plain, secure };
        proxy.await_listening();
        proxy
    }

    fn write_files(&self, directory: &Path, plain: u16, secure: u16) {
        let place = directory.display();
        let (certificate, key) = (format!("{place}/cert.pem"), format!("{place}/key.pem"));
        let mut changes: Vec<(String, String)> =
            self.changes.iter().map(|&(from, to)| (from.to_owned(), to.to_owned())).collect();
        let mut change = |from: &str, to: String| changes.push((from.to_owned(), to));
        let (file, whole) = match self.kind {
            ProxyKind::Nginx => {
                change("listen 80;", format!("listen 127.0.0.1:{plain};"));
                change("listen 443 ", format!("listen 127.0.0.1:{secure} "));
                change("/etc/ssl/certs/stentor.pem", certificate);
                change("/etc/ssl/private/stentor.key", key);
                change("server 127.0.0.1:7350;", format!("server {};", self.server));
                if let Some(grpc) = self.grpc {
                    change("grpc://127.0.0.1:7349", format!("grpc://{grpc}"));
                }
                // Without a master process, so that there is only one process to end.
                let whole = format!(
                    "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr warn;\n\
                     events {{ worker_connections 1024; }}\n\
                     http {{\n    access_log off;\n    client_body_temp_path body;\n    proxy_temp_path proxy;\n    \
                     fastcgi_temp_path fastcgi;\n    uwsgi_temp_path uwsgi;\n    scgi_temp_path scgi;\n    \
                     include {place}/nginx.conf;\n}}\n"
                );
                ("nginx.conf", whole)
            }
            ProxyKind::Haproxy => {
                change("bind :80\n", format!("bind 127.0.0.1:{plain}\n"));
                change("bind :443 ", format!("bind 127.0.0.1:{secure} "));
                change("/etc/haproxy/stentor.pem", format!("{place}/both.pem"));
                change("127.0.0.1:7350 check", format!("{} check inter 60s", self.server));
                ("haproxy.cfg", String::new())
            }
            ProxyKind::Apache => {
                change("<VirtualHost *:80>", format!("<VirtualHost 127.0.0.1:{plain}>"));
                change("<VirtualHost *:443>", format!("<VirtualHost 127.0.0.1:{secure}>"));
                change("/etc/ssl/certs/stentor.pem", certificate);
                change("/etc/ssl/private/stentor.key", key);
                change("http://127.0.0.1:7350/", format!("http://{}/", self.server));
                let modules = ["mpm_event", "authz_core", "proxy", "proxy_http", "ssl"]
                    .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"));
                let whole = format!(
                    "{}ServerRoot {place}\nDefaultRuntimeDir {place}\nPidFile apache.pid\nErrorLog {place}/log\n\
                     ServerName localhost\nUser www-data\nGroup www-data\n\
                     ThreadsPerChild 64\nMaxRequestWorkers 64\n\
                     Listen 127.0.0.1:{plain}\nListen 127.0.0.1:{secure}\nInclude {place}/apache.conf\n",
                    modules.concat()
                );
                ("apache.conf", whole)
            }
        };
        fs::write(directory.join(file), changed(file, &changes)).expect("our own directory");
        fs::write(directory.join("whole.conf"), whole).expect("our own directory");
    }

    fn command(&self, directory: &Path) -> Command {
        let (program, package) = match self.kind {
            ProxyKind::Nginx => ("/usr/sbin/nginx", "nginx"),
            ProxyKind::Haproxy => ("/usr/sbin/haproxy", "haproxy"),
            ProxyKind::Apache => ("/usr/sbin/apache2", "apache2-bin"),
        };
        assert!(Path::new(program).exists(), "{program} is missing: install {package} (`./check` does it for you)");
        let file = |name: &str| directory.join(name).into_os_string();
        let mut command = Process::command(program);
        match self.kind {
            ProxyKind::Nginx => {
                command.arg("-p").arg(directory).arg("-c").arg(file("whole.conf")).args(["-e", "stderr"])
            }
            ProxyKind::Haproxy => command.arg("-db").arg("-f").arg(file("haproxy.cfg")),
            // One process in the foreground.
            ProxyKind::Apache => command.arg("-X").arg("-f").arg(file("whole.conf")),
        };
        let log = File::options().create(true).append(true).open(file("log")).expect("our own file");
        command.current_dir(directory).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("our own file")).stderr(log);
        command
    }
}

impl Proxy {
    /// The address for plain HTTP.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(LOOPBACK, self.plain.number())
    }

    /// The address for TLS.
    pub fn secure_address(&self) -> SocketAddr {
        SocketAddr::new(LOOPBACK, self.secure.number())
    }

    /// The proxy's self-signed certificate.
    pub fn certificate(&self) -> PathBuf {
        self.directory.path().join("cert.pem")
    }

    /// A client of the address at which the proxy listens without encryption.
    pub fn http(&self) -> Http {
        Http::new(self.address())
    }

    /// Everything that the proxy has printed.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.directory.path().join("log")).unwrap_or_default()).into_owned()
    }

    fn await_listening(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        for address in [self.address(), self.secure_address()] {
            while TcpStream::connect(address).is_err() {
                let ended = self.process.child.try_wait().expect("our own child");
                assert!(ended.is_none() && Instant::now() < deadline, "the proxy did not start ({ended:?})");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.process.end();
        if std::thread::panicking() {
            eprintln!("--- the proxy said ---\n{}----------------------", self.log());
        }
    }
}

/// A file of `deploy/` with these changes. Each must change something, so that the tested file is the one that
/// operators copy.
fn changed(file: &str, changes: &[(String, String)]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("deploy").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    changes.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "deploy/{file} no longer says {from:?}");
        text.replace(from, to)
    })
}

/// Makes a key and a certificate for loopback, in two files and in one combined file.
fn make_both(directory: &Path) {
    let (certificate, key) = make_certificate(directory, "");
    let read = |path| fs::read_to_string(path).expect("just made");
    fs::write(directory.join("both.pem"), read(certificate) + &read(key)).expect("our own directory");
}
