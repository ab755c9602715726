//! Starts a measured server as a child process on its own core and a free port.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rustls::ClientConfig;
use serde::Serialize;
use tempfile::TempDir;

use crate::accounts::{self, SERVER_KEY_BASIC};
use crate::companion::Companion;
use crate::dialect::{Dialect, ROOM, USERNAME};
use crate::failure::Failure;
use crate::http;
use crate::launch::{Budgets, Launch};
use crate::tls::Certificate;

/// Time from the start of the process until it prints where it listens. A durable store may have to create its files
/// first.
const START_TIME_MAX: Duration = Duration::from_secs(20);
/// The number of the local address from which members sign in. Members connect from lower ones.
const SIGN_IN_ADDRESS: u8 = 200;
/// The server key that standard clients use by default.
const SERVER_KEY: &str = "defaultkey";

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Stentor,
    BareLoop,
    BatchingLoop,
    /// Stentor whose members connect within TLS.
    StentorTls,
    /// The batching loop whose members connect within TLS.
    TlsLoop,
}

impl Kind {
    fn is_stentor(self) -> bool {
        matches!(self, Kind::Stentor | Kind::StentorTls)
    }

    fn is_secured(self) -> bool {
        matches!(self, Kind::StentorTls | Kind::TlsLoop)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Kind::Stentor => "stentor",
            Kind::BareLoop => "bare loop",
            Kind::BatchingLoop => "batching loop",
            Kind::StentorTls => "stentor, TLS",
            Kind::TlsLoop => "TLS loop",
        })
    }
}

pub struct Server {
    process: Companion,
    pub address: SocketAddr,
    /// Where it listens within TLS, and how clients trust it.
    secured: Option<(SocketAddr, Certificate)>,
    /// The admin address with the metrics. The bare loops have none.
    admin: Option<SocketAddr>,
    /// The server's data directory. It is removed with its content when the server is dropped.
    _directory: Option<TempDir>,
}

impl Server {
    pub fn start(kind: Kind, launch: &Launch) -> io::Result<Server> {
        let directory = kind.is_stentor().then(|| launch.data_directory()).transpose()?;
        let mut command = command(kind, launch, directory.as_ref().map(TempDir::path))?;
        let certificate = kind.is_secured().then(Certificate::make).transpose()?;
        if let Some(certificate) = &certificate {
            command.arg("--tls-cert").arg(certificate.file()).arg("--tls-key").arg(certificate.key_file());
        }
        if kind == Kind::StentorTls {
            command.args(["--listen", "tls:127.0.0.1:0"]);
        }
        Server::start_as(&kind.to_string(), command, launch, directory, certificate)
    }

    /// Starts Stentor on a directory that already exists and is kept.
    pub fn start_on(data: &Path, launch: &Launch) -> io::Result<Server> {
        Server::start_as("stentor", command(Kind::Stentor, launch, Some(data))?, launch, None, None)
    }

    fn start_as(
        name: &str,
        command: Command,
        launch: &Launch,
        directory: Option<TempDir>,
        certificate: Option<Certificate>,
    ) -> io::Result<Server> {
        let process = Companion::spawn(command, launch, &launch.server_cpus)?;
        let named = |error| io::Error::other(format!("{name}: {error}"));
        let Addresses { plain, secured, admin } = addresses_of(&process).map_err(named)?;
        if secured.is_some() != certificate.is_some() {
            return Err(named(io::Error::other("it does not listen within TLS as it was told")));
        }
        Ok(Server { process, address: plain, secured: secured.zip(certificate), admin, _directory: directory })
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Where members connect within TLS, if they do, and with what.
    pub fn secured(&self) -> Option<(SocketAddr, Arc<ClientConfig>)> {
        self.secured.as_ref().map(|(address, certificate)| (*address, certificate.client()))
    }

    /// The admin address with the metrics.
    pub fn admin(&self) -> io::Result<SocketAddr> {
        self.admin.ok_or_else(|| io::Error::other("a bare loop counts nothing"))
    }

    /// The dialect for this server. For Stentor this signs in a user for each of so many members.
    pub fn dialect(&self, kind: Kind, launch: &Launch, members: usize) -> Result<Dialect, Failure> {
        match kind {
            Kind::BareLoop | Kind::BatchingLoop | Kind::TlsLoop => Ok(Dialect::Bare),
            Kind::Stentor | Kind::StentorTls => Ok(Dialect::Stentor {
                tokens: self.tokens(members)?,
                persistence: launch.persistence,
                room: ROOM.into(),
            }),
        }
    }

    /// Signs in so many users, and returns a token of each. The first is the user of `token`, whose messages are as long
    /// as the bare loops' are.
    pub fn tokens(&self, users: usize) -> Result<Vec<String>, Failure> {
        let mut tokens = vec![self.token()?];
        tokens.extend(accounts::sign_in(self.address, SIGN_IN_ADDRESS, "member", users.saturating_sub(1))?);
        Ok(tokens)
    }

    /// Signs in the user who publishes, or who has all sessions, and returns a token.
    pub fn token(&self) -> io::Result<String> {
        let line = format!("POST /v2/account/authenticate/custom?create=true&username={USERNAME}");
        let headers = format!("Authorization: Basic {SERVER_KEY_BASIC}\r\nContent-Type: application/json\r\n");
        let session = http::ask(self.address, &line, &headers, r#"{"id":"bench-members"}"#)?;
        let token = serde_json::from_str::<serde_json::Value>(&session)?["token"].as_str().map(str::to_owned);
        token.ok_or_else(|| io::Error::other(format!("sign-in was not answered with a token but: {session}")))
    }
}

fn command(kind: Kind, launch: &Launch, directory: Option<&Path>) -> io::Result<Command> {
    let Some(directory) = directory else {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(kind.to_string().to_lowercase().replace(' ', "-"));
        return Ok(command);
    };
    let mut command = Command::new(&launch.stentor);
    // Flags set every relevant option, so that no environment variable changes what is measured.
    command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--store", &launch.store]);
    command.args(["--server-key", SERVER_KEY, "--shards", &launch.shards.to_string()]);
    if let Budgets::Off(_) = launch.budgets {
        command.args(["--sessions-per-user", "0", "--memberships-per-user", "0"]);
        command.args(["--work-per-session", "0", "--work-per-user", "0"]);
    }
    command.arg("--data").arg(directory).args(&launch.more);
    Ok(command)
}

/// Where a server listens.
struct Addresses {
    plain: SocketAddr,
    secured: Option<SocketAddr>,
    admin: Option<SocketAddr>,
}

/// Waits for the lines that say where the server listens.
fn addresses_of(process: &Companion) -> io::Result<Addresses> {
    let ready_by = Instant::now() + START_TIME_MAX;
    let address_behind = |words: &str| -> io::Result<(String, SocketAddr)> {
        loop {
            let line = process
                .line(ready_by.saturating_duration_since(Instant::now()))
                .map_err(|error| io::Error::other(format!("{error}; no line had `{words}` and an address")))?;
            if let Some(address) = address_in(&line, words) {
                return Ok((line, address));
            }
        }
    };
    let (line, plain) = address_behind("listening on ")?;
    let secured = line.split_once(" (TLS)").and_then(|(before, _)| before.rsplit(' ').next()?.parse().ok());
    let admin = if line.starts_with("stentor ") { Some(address_behind("admin ")?.1) } else { None };
    Ok(Addresses { plain, secured, admin })
}

fn address_in(line: &str, words: &str) -> Option<SocketAddr> {
    let (_, behind) = line.split_once(words)?;
    let word = behind.split_whitespace().next()?;
    let word = word.trim_start_matches("http://");
    word.split('/').next()?.trim_end_matches([',', '.', ';']).parse().ok()
}

/// Builds the server in release mode and returns the path of the binary.
pub fn build_stentor() -> io::Result<PathBuf> {
    build("gateway", "stentor")
}

/// Builds one of our programs in release mode, where this program was built, and returns the path of the binary.
pub fn build(package: &str, program: &str) -> io::Result<PathBuf> {
    let this = std::env::current_exe()?;
    let target = this.ancestors().nth(2).ok_or_else(|| io::Error::other("this program is in no target directory"))?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "-p", package, "--bin", program, "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()?;
    let path = target.join("release").join(program);
    match built.success() && path.exists() {
        true => Ok(path),
        false => Err(io::Error::other(format!("`cargo build --release -p {package}` made no {program}; name one"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_what_a_server_prints() {
        let check = |line: &str, expected: Option<&str>| {
            assert_eq!(address_in(line, "listening on "), expected.map(|text| text.parse().unwrap()), "{line}");
        };
        check("listening on 127.0.0.1:7350", Some("127.0.0.1:7350"));
        check("stentor 0.1.0 listening on 127.0.0.1:41234, 1 shard, store memory", Some("127.0.0.1:41234"));
        check("listening on http://127.0.0.1:80/", Some("127.0.0.1:80"));
        check("starting", None);
        check("listening on nowhere", None);
        let admin = "  admin        http://127.0.0.1:41235/metrics";
        assert_eq!(address_in(admin, "admin "), Some("127.0.0.1:41235".parse().unwrap()));
        assert_eq!(address_in("  admin        off", "admin "), None);
    }
}
