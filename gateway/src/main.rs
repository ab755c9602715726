//! The program: options, start, wait, stop.

use std::fmt;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

use engine::id::ShardId;
use engine::runtime::shards::{Part, start};
use engine::shard::Rules;
use gateway::admin::Admin;
use gateway::http::{Services, system_time};
use gateway::keys::SigningKeys;
use gateway::listeners::listeners;
use gateway::options::{Options, StoreKind};
use gateway::password::Passwords;
use gateway::sockets::SocketTable;
use gateway::token::Tokens;
use gateway::{announcement, machine, revocations};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use storage::Store;
use storage::bridge::Bridge;
use storage::embedded::{Embedded, EmbeddedOptions};
use storage::memory::Memory;

/// Threads that hash passwords: one does twenty a second or so, and the cores belong to the shards.
const PASSWORD_THREADS: usize = 1;

fn main() -> ExitCode {
    stop_at_the_first_panic();
    let options = match Options::from_process() {
        Ok(options) => options,
        Err(error) => error.exit(),
    };
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::INFO).init();
    match serve(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &str) -> ExitCode {
    eprintln!("stentor: {error}");
    ExitCode::FAILURE
}

/// Runs the server until it is told to stop, or cannot go on.
fn serve(options: &Options) -> Result<(), String> {
    let shards = usize::from(options.shards.get());
    let capacity = machine::prepare(shards)?;
    let signals = Signals::new([SIGTERM, SIGINT]).map_err(said)?;
    let (listening, address) = listeners(options.listen, shards).map_err(|error| {
        let advice = "is another server listening there? Choose another address with --listen";
        format!("cannot listen on {}: {error}; {advice}", options.listen)
    })?;
    let admin = options.admin.map(Admin::bind).transpose()?;
    let store = open_store(options)?;
    let epoch = store.next_epoch().map_err(said)?;
    let revocations = revocations::kept(&*store, system_time()).map_err(said)?;
    let keys = SigningKeys::obtain(options).map_err(said)?;
    let (bridge, ends) = Bridge::start(store, shards).map_err(said)?;
    let (client, fatal) = (bridge.client(), bridge.fatal());
    let (session_ttl, refresh_ttl) = (options.session_ttl, options.refresh_ttl);
    let tokens = Arc::new(Tokens::new(&keys, session_ttl, refresh_ttl, &revocations, system_time()));
    let passwords = Passwords::start(PASSWORD_THREADS).map_err(said)?;

    let cores = machine::cores();
    let parts = listening.into_iter().zip(ends).enumerate().map(|(number, (listener, store))| {
        let services = (options.server_key.clone(), keys.clone(), tokens.clone(), passwords.clone(), client.clone());
        Part {
            core: cores[number % cores.len()],
            store,
            seed: uuid::Uuid::new_v4().as_u64_pair().1,
            sockets: move |shard: ShardId| {
                let (server_key, keys, tokens, passwords, client) = services;
                let services = Services::new(&server_key, &keys, tokens, passwords, client, system_time);
                if shard.0 == 0 {
                    services.take_up_departures();
                }
                let table = SocketTable::new(listener, capacity / shards, Rc::new(services));
                let mut table = table.expect("an epoll set can be made");
                table.delete_accounts();
                table
            },
        }
    });
    let rules = Rules {
        room_members_max: options.room_members_max,
        sends_per_second: options.sends_per_second,
        ..Rules::default()
    };
    let running = start(epoch, rules, parts.collect())?;
    let mut admin_address = None;
    if let Some(admin) = admin {
        admin_address = Some(admin.address().map_err(said)?);
        admin.serve(running.observer()).map_err(said)?;
    }
    announcement::print(options, address, admin_address, shards, capacity);

    let ended = wait(signals, fatal);
    let shards_stopped = running.stop();
    let store_stopped = bridge.stop().map_err(said);
    ended.and(shards_stopped).and(store_stopped)
}

fn open_store(options: &Options) -> Result<Arc<dyn Store>, String> {
    Ok(match options.store {
        StoreKind::Memory => Arc::new(Memory::new()),
        StoreKind::Embedded => {
            Arc::new(Embedded::open(&options.store_directory(), &EmbeddedOptions::default()).map_err(said)?)
        }
    })
}

/// Waits for a signal to stop, or for the store's end.
fn wait(mut signals: Signals, fatal: flume::Receiver<storage::Failure>) -> Result<(), String> {
    let (told, news) = flume::bounded(1);
    let signalled = told.clone();
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            tracing::info!("stopping: no new work, everything acknowledged is kept");
            let _ = signalled.try_send(Ok(()));
        }
    });
    std::thread::spawn(move || {
        if let Ok(failure) = fatal.recv() {
            let _ = told.try_send(Err(failure.to_string()));
        }
    });
    news.recv().unwrap_or(Ok(()))
}

/// A bug stops the whole process, loudly: a server that has lost a shard would only look alive.
fn stop_at_the_first_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

fn said(error: impl fmt::Display) -> String {
    error.to_string()
}
