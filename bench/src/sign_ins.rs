//! Sign-ins of new and of known accounts, by device and by email: how many a second, and what each costs the server; and, beside
//! another binary of Stentor, whether that has changed.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use crate::accounts::SERVER_KEY_BASIC;
use crate::asker::request;
use crate::cpu;
use crate::failure::Failure;
use crate::goals::shown;
use crate::kept_connection::KeptConnection;
use crate::launch::Launch;
use crate::pairs::Ratio;
use crate::report::{self, Conditions, median};
use crate::server::{Kind, Server};
use crate::setting::Setting;

/// Fewest runs of each binary that are compared.
const COMPARED_RUNS_MIN: usize = 20;
/// What every account with an email has.
const PASSWORD: &str = "a good secret";

#[derive(Args, Debug)]
pub struct Options {
    /// Another binary of Stentor, which takes turns with the server.
    #[arg(long)]
    beside: Option<PathBuf>,
    /// Connections, each with one sign-in at a time.
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// Seconds for each of the four kinds of sign-ins in a run.
    #[arg(long, default_value_t = 1.0)]
    secs: f64,
    /// Runs of each binary.
    #[arg(long, default_value_t = COMPARED_RUNS_MIN)]
    repeat: usize,
    /// The store of the servers: `memory` or `embedded`.
    #[arg(long, default_value = "memory")]
    store: String,
    #[command(flatten)]
    setting: Setting,
}

/// Which account signs in, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum SignIn {
    NewDevice,
    KnownDevice,
    NewEmail,
    KnownEmail,
}

impl SignIn {
    const ALL: [SignIn; 4] = [SignIn::NewDevice, SignIn::KnownDevice, SignIn::NewEmail, SignIn::KnownEmail];

    fn name(self) -> &'static str {
        match self {
            SignIn::NewDevice => "new, by device",
            SignIn::KnownDevice => "known, by device",
            SignIn::NewEmail => "new, by email",
            SignIn::KnownEmail => "known, by email",
        }
    }

    /// The request of a client with this number. A known account is the same each time.
    fn request(self, client: usize, number: u64) -> Vec<u8> {
        let (way, body) = match self {
            SignIn::NewDevice => ("device", format!(r#"{{"id":"new-device-{client}-{number}"}}"#)),
            SignIn::KnownDevice => ("device", format!(r#"{{"id":"known-device-{client}"}}"#)),
            SignIn::NewEmail => ("email", email(&format!("new-{client}-{number}"))),
            SignIn::KnownEmail => ("email", email(&format!("known-{client}"))),
        };
        let headers = format!("Authorization: Basic {SERVER_KEY_BASIC}\r\nContent-Type: application/json\r\n");
        request(&format!("POST /v2/account/authenticate/{way}"), &headers, body.as_bytes())
    }
}

fn email(name: &str) -> String {
    format!(r#"{{"email":"{name}@example.org","password":"{PASSWORD}"}}"#)
}

/// The sign-ins of one kind in one run.
#[derive(Clone, Copy, Debug, Serialize)]
struct Measured {
    sign_in: SignIn,
    /// Whether this is the other binary.
    is_beside: bool,
    per_second: f64,
    cpu_us: f64,
}

pub fn run(options: &Options) -> Result<(), Failure> {
    let Options { beside, clients, secs, repeat, store, setting } = options;
    let length = Duration::try_from_secs_f64(*secs).unwrap_or_default();
    if *clients == 0 || length.is_zero() || *repeat == 0 {
        return Err(Failure::Options("--clients, --secs and --repeat must be above zero".into()));
    }
    if beside.is_some() && *repeat < COMPARED_RUNS_MIN {
        return Err(Failure::Options(format!("a comparison takes {COMPARED_RUNS_MIN} runs: --repeat")));
    }
    let launch = Launch { store: store.clone(), ..setting.launch_apart()? };
    let other = beside.clone().map(|stentor| Launch { stentor, ..launch.clone() });
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut all = Vec::new();
    for round in 0..*repeat {
        let mut turns: Vec<_> = [(Some(&launch), false), (other.as_ref(), true)].into();
        // Who comes first in a round comes second in the next.
        turns.rotate_left(round % 2);
        for (launch, is_beside) in turns {
            let Some(launch) = launch else { continue };
            let server = Server::start(Kind::Stentor, launch)?;
            for sign_in in SignIn::ALL {
                all.push(measure(&runtime, &server, (sign_in, is_beside), *clients, length)?);
            }
        }
        eprintln!("round {} of {repeat}", round + 1);
    }
    println!("{}", Conditions::here());
    println!(
        "Sign-ins by {clients} clients, one at a time each; store {store}, server on core {:?}, clients on core {}. \
         Medians of {repeat} runs of {secs} s. {}\n",
        launch.server_cpus,
        launch.client_cpu(),
        launch.budgets,
    );
    println!("{}", table(&all, beside.is_some()));
    Ok(setting.keep(&serde_json::json!({ "runs": all }))?)
}

fn table(all: &[Measured], is_compared: bool) -> comfy_table::Table {
    let figures = |sign_in, is_beside, figure: fn(&Measured) -> f64| -> Vec<f64> {
        all.iter().filter(|one| (one.sign_in, one.is_beside) == (sign_in, is_beside)).map(figure).collect()
    };
    let rows = SignIn::ALL.map(|sign_in| {
        let mut cells = vec![sign_in.name().to_owned()];
        for figure in [|one: &Measured| one.per_second, |one: &Measured| one.cpu_us] {
            let [own, others] = [false, true].map(|is_beside| figures(sign_in, is_beside, figure));
            cells.push(shown(median(own.clone())));
            if is_compared {
                let pairs: Vec<_> = own.into_iter().zip(others).collect();
                cells.push(Ratio::of(&pairs).map_or("–".into(), |ratio| ratio.to_string()));
            }
        }
        cells
    });
    let header = match is_compared {
        false => "sign-in | a second | µs of the server",
        true => "sign-in | a second | ÷ beside | µs of the server | ÷ beside",
    };
    report::table(header, rows)
}

fn measure(
    runtime: &Runtime,
    server: &Server,
    (sign_in, is_beside): (SignIn, bool),
    clients: usize,
    length: Duration,
) -> Result<Measured, Failure> {
    // Each client signs in once beforehand, which makes its known account.
    let connections = runtime.block_on(begin(server.address, sign_in, clients))?;
    let before = cpu::cpu_time(server.pid())?;
    let begun = Instant::now();
    let done = runtime.block_on(sign_in_until(connections, sign_in, begun + length))?;
    let (spent, took) = (cpu::cpu_time(server.pid())?.saturating_sub(before), begun.elapsed());
    if done == 0 {
        return Err(Failure::faulty(format!("no sign-in ({}) was answered in time", sign_in.name())));
    }
    let (per_second, cpu_us) = (done as f64 / took.as_secs_f64(), spent.as_secs_f64() * 1e6 / done as f64);
    Ok(Measured { sign_in, is_beside, per_second, cpu_us })
}

async fn begin(address: SocketAddr, sign_in: SignIn, clients: usize) -> io::Result<Vec<KeptConnection>> {
    let mut connections = Vec::new();
    for client in 0..clients {
        let mut connection = KeptConnection::open(address).await?;
        connection.ask(&sign_in.request(client, 0)).await?;
        connections.push(connection);
    }
    Ok(connections)
}

/// Has the clients sign in until the time is over. Returns how many sign-ins were answered. Fails if one was refused.
async fn sign_in_until(connections: Vec<KeptConnection>, sign_in: SignIn, until: Instant) -> io::Result<u64> {
    let mut signing_in = JoinSet::new();
    for (client, mut connection) in connections.into_iter().enumerate() {
        signing_in.spawn(async move {
            let mut done = 0;
            while Instant::now() < until {
                connection.ask(&sign_in.request(client, done + 1)).await?;
                done += 1;
            }
            io::Result::Ok(done)
        });
    }
    let mut done = 0;
    while let Some(signed_in) = signing_in.join_next().await {
        done += signed_in.map_err(io::Error::other)??;
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_account_is_the_same_each_time() {
        for sign_in in SignIn::ALL {
            let is_known = matches!(sign_in, SignIn::KnownDevice | SignIn::KnownEmail);
            assert_eq!(sign_in.request(1, 1) == sign_in.request(1, 2), is_known, "{}", sign_in.name());
            assert_ne!(sign_in.request(1, 1), sign_in.request(2, 1), "{}", sign_in.name());
        }
    }

    #[test]
    fn the_table_pairs_the_runs() {
        let measured = |sign_in, is_beside, cpu_us| Measured { sign_in, is_beside, per_second: 10.0, cpu_us };
        let all: Vec<_> = (0..20)
            .flat_map(|_| SignIn::ALL)
            .flat_map(|sign_in| [measured(sign_in, false, 3.0), measured(sign_in, true, 2.0)])
            .collect();
        let table = table(&all, true).to_string();
        assert_eq!(table.matches("1.50 (1.50 to 1.50)").count(), 4, "{table}");
        assert_eq!(table.matches("1.00 (1.00 to 1.00)").count(), 4, "{table}");
    }
}
