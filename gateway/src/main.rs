//! The program: options, start, wait, stop.

use std::ffi::c_int;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use engine::id::ShardId;
use engine::limits::Rules;
use engine::session::shared_budgets::SharedBudgets;
use gateway::admin::token::AdminToken;
use gateway::admin::{self, Admin};
use gateway::announcement::Places;
use gateway::beginning::{Beginning, Life};
use gateway::config::ConfigFailure;
use gateway::drain::{Drain, Event};
use gateway::health::{Health, HealthReporter};
use gateway::http::{BODIES_BYTES_MAX, Services};
use gateway::keys::SigningKeys;
use gateway::listen_address::Protocol;
use gateway::listeners::{self, Listening};
use gateway::live::LiveOptions;
use gateway::logging::{LogFormat, Logging};
use gateway::options::{AdminCall, Command, Grpc, Options, OptionsError, StoreKind};
use gateway::password::Passwords;
use gateway::reload::Reloader;
use gateway::sockets::{HEADS_BYTES_MAX, Listener, SocketTable};
use gateway::supervisor::Supervisor;
use gateway::tls::{self, TlsAcceptor};
use gateway::token::Tokens;
use gateway::waiting::WaitingRoom;
use gateway::{
    announcement, backup, config, database, ending, file_modes, health_check, machine, memory, placement, terminal,
    token_command, transfer,
};
use runtime::clock;
use runtime::shards::{Part, start};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use storage::bridge::Bridge;
use storage::embedded::Embedded;
use storage::memory::Memory;
use storage::{Failure, Store};

/// Signals and other reasons to end that may wait. More wait with the kernel.
const EVENTS_MAX: usize = 16;

fn main() -> ExitCode {
    file_modes::make_private();
    let options = match Options::from_process() {
        Ok(options) => options,
        Err(error) => error.exit(),
    };
    let logging = match Logging::start(&options.log_level, options.log_format) {
        Ok(logging) => logging,
        Err(error) => return failed(&error),
    };
    stop_at_the_first_panic(logging.clone());
    warn(&options);
    let done = match &options.command {
        Command::Serve => serve(&options, &logging),
        Command::Status => admin::client::call(&options, &AdminCall::Status).and_then(|said| print(&said)),
        Command::Drain { status, wait, time } => {
            let call = AdminCall::of_drain(*status, *wait, *time);
            admin::client::call(&options, &call).and_then(|said| print(&said))
        }
        Command::Backup { directory, keys } => AdminCall::of_backup(directory, *keys)
            .and_then(|call| admin::client::call(&options, &call))
            .and_then(|said| print(&said)),
        Command::Erase { user } => {
            admin::client::call(&options, &AdminCall::Erase { user: user.clone() }).and_then(|said| print(&said))
        }
        Command::Channels { by, limit, cursor } => {
            let call = AdminCall::Channels { by: *by, limit: *limit, cursor: cursor.clone() };
            admin::client::call(&options, &call).and_then(|said| print(&said))
        }
        Command::User { user } => {
            admin::client::call(&options, &AdminCall::User { user: user.clone() }).and_then(|said| print(&said))
        }
        Command::Disconnect { user, session, reason } => {
            let call = AdminCall::Disconnect { user: user.clone(), session: *session, reason: reason.clone() };
            admin::client::call(&options, &call).and_then(|said| print(&said))
        }
        Command::Restore { directory } => backup::restore(&options, directory).and_then(|done| print(&done)),
        Command::Verify { directory } => verify(&options, directory.as_deref()),
        Command::Config(command) => match config::run(&options, command) {
            Ok(said) => print(&said),
            Err(ConfigFailure::Errors(lines)) => OptionsError::Mistakes(lines).exit(),
            Err(ConfigFailure::Other(reason)) => Err(reason),
        },
        Command::LogLevel { levels } => {
            admin::client::call(&options, &AdminCall::of_log_level(levels.clone())).and_then(|said| print(&said))
        }
        Command::Token(command) => token_command::run(&options, command).and_then(|said| print(&said)),
        Command::HealthCheck => health_check::ask(&options).and_then(|said| print(&format!("{said}\n"))),
        Command::Schema { apply: false } => database::tables(&options.database).and_then(|cql| print(&cql)),
        Command::Schema { apply: true } => {
            database::apply_schema(&options.database).and_then(|done| print(&format!("{done}\n")))
        }
        Command::Export { file } => transfer::export(&options, file).and_then(|done| print(&done)),
        Command::Import { file } => transfer::import(&options, file.as_deref()).and_then(|done| print(&done)),
    };
    let is_logged = options.command == Command::Serve && options.log_format == LogFormat::Json;
    let ended = match done {
        Ok(()) => ExitCode::SUCCESS,
        // What reads such a log reads nothing else.
        Err(error) if is_logged && tracing::enabled!(tracing::Level::ERROR) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
        Err(error) => failed(&error),
    };
    logging.flush();
    ended
}

/// Says in the log what the operator should look at. `config check` says it on its own.
fn warn(options: &Options) {
    let lines = match options.command {
        Command::Serve => config::start_warnings(options),
        Command::Config(_) => Vec::new(),
        _ => file_modes::readable(&options.secret_files()),
    };
    lines.iter().for_each(|line| tracing::warn!("{line}"));
}

/// Writes to standard output. A reader that has gone, such as `head`, wants no more, and that is no failure.
fn print(text: &str) -> Result<(), String> {
    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(format!("standard output cannot be written: {error}"))
        }
        _ => Ok(()),
    }
}

fn failed(error: &str) -> ExitCode {
    terminal::tell(&format!("stentor: {error}"));
    ExitCode::FAILURE
}

/// Prints what can and what cannot be read. Fails if something cannot.
fn verify(options: &Options, directory: Option<&Path>) -> Result<(), String> {
    let verdict = backup::verify(options, directory)?;
    print(&verdict.text)?;
    if verdict.is_damaged { Err("not everything can be read".into()) } else { Ok(()) }
}

/// Runs the server until it receives a signal to stop, or has a fatal failure.
fn serve(options: &Options, logging: &Arc<Logging>) -> Result<(), String> {
    let begun = Instant::now();
    let supervisor = Supervisor::begin().map_err(said)?;
    let (count, shards) = (options.shards, usize::from(options.shards.get()));
    let capacity = machine::prepare(shards)?;
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(said)?;
    let tls = options.tls.clone().map(|files| TlsAcceptor::load(files, options.ktls).map(Arc::new)).transpose();
    let live = LiveOptions::new(options).securing(tls.map_err(|error| format!("no TLS: {error}"))?);
    let mut reloader = Reloader::new(options.clone(), live.clone());
    reloader.follow_log_levels(logging.clone());
    let admin = options.admin.map(|address| Admin::bind(address, live.clone())).transpose()?;
    // The default address of gRPC comes last: it gives way to every address that the operator has named.
    let mut listening = listen_on_all(options, shards)?;
    gateway::clock::watch().map_err(said)?;
    let plain = listening.iter().filter(|listening| listening.is_plain_http());
    let plain = plain.flat_map(|listening| &listening.sockets).map(OwnedFd::try_clone);
    let waiting = plain.chain(admin.iter().map(Admin::listener)).collect::<io::Result<_>>().map_err(said)?;
    let waiting_room = WaitingRoom::open(waiting).map_err(said)?;
    // Files may take long, or for ever, and signals to stop must be heard meanwhile: the server reads them when it serves.
    let mut hung_up = false;
    let beginning = Beginning {
        standby: options.standby,
        room: &waiting_room,
        is_to_stop: &mut || signals.pending().any(|signal| is_to_stop(signal, &mut hung_up)),
        stands_by: &mut || supervisor.stands_by(),
    };
    if let Some(acceptor) = &live.tls {
        tls::watch(acceptor.clone()).map_err(said)?;
    }
    let unopened = |failure| match failure {
        Failure::Final(reason) if options.store == StoreKind::Embedded => {
            format!("the store cannot be opened: {reason}")
        }
        failure => failure.to_string(),
    };
    let Some(Life { store, epoch, revocations }) = beginning.begin(|| open_store(options)).map_err(unopened)? else {
        return Ok(());
    };
    let keys = SigningKeys::obtain(reloader.options()).map_err(said)?;
    let token = |admin| AdminToken::obtain(options).map(|token| (admin, token)).map_err(said);
    let admin = admin.map(token).transpose()?;
    let placement_key = placement::key(options, &*store)?;
    let (bridge, ends) = Bridge::start(store, shards).map_err(said)?;
    let (client, fatal) = (bridge.client(), bridge.fatal());
    let (keep_alive, close_on_expiry) = (options.keep_alive, options.close_on_expiry);
    let retention = options.retention();
    let (session_ttl, refresh_ttl) = (options.session_ttl, options.refresh_ttl);
    let tokens = Arc::new(Tokens::new(&keys, session_ttl, refresh_ttl, &revocations, clock::wall()));
    reloader.follow_keys(keys.clone(), tokens.clone());
    let passwords = Passwords::start(options.password_threads).map_err(said)?;

    let memory = memory::start().map_err(said)?;

    let cores = machine::cores();
    let (erase, erasures) = flume::bounded(1);
    let (questions, asked): (Vec<_>, Vec<_>) = (0..shards).map(|_| flume::bounded(1)).unzip();
    let health = Health::new(shards, capacity);
    let places = Places::of(&listening);
    let of_shards = listeners_of_shards(&mut listening, live.tls.as_ref());
    let parts = of_shards.into_iter().zip(ends).zip(asked).enumerate().map(|(number, ((listeners, store), asked))| {
        let health = HealthReporter::new(health.clone(), number);
        let (memory, live, erasures) = (memory.clone(), live.clone(), erasures.clone());
        let services = (keys.clone(), tokens.clone(), passwords.clone(), client.clone());
        Part {
            core: cores[number % cores.len()],
            store,
            seed: uuid::Uuid::new_v4().as_u64_pair().1,
            sockets: move |shard: ShardId, budgets: SharedBudgets| {
                let (keys, tokens, passwords, client) = services;
                let services = Services::new(&live.server_key.load(), &keys, tokens, passwords, client, clock::wall)
                    .following_server_key(live.server_key)
                    .following_sign_in_terms(live.sign_in)
                    .following_origins(live.allowed_origins)
                    .following_rates(live.process_rates, count)
                    .keeping_connections(keep_alive)
                    .sharing_budgets(budgets)
                    .keeping_messages(retention)
                    .reporting_health(health)
                    .collecting_bodies(BODIES_BYTES_MAX / shards);
                if shard.core == 0 {
                    services.take_up_departures();
                }
                let table = SocketTable::new(listeners, capacity / shards, Rc::new(services));
                let mut table = table.expect("an epoll set can be made");
                table.delete_accounts();
                table.give_memory_back(memory);
                table.bound_heads(HEADS_BYTES_MAX / shards);
                table.trust(live.trusted_proxies);
                table.follow_limits(live.client_limits);
                if close_on_expiry {
                    table.close_on_expiry();
                }
                table.inspect(shard, asked);
                if shard.core == 0 {
                    table.keep_logouts();
                    table.erase_users(erasures);
                }
                table
            },
        }
    });
    let rules = Rules {
        room_members_max: options.room_members_max,
        process_rates: options.process_rates,
        placement_key,
        ..Rules::default()
    };
    drop(waiting_room);
    let running = start(epoch, rules.with(options.client_limits), parts.collect())?;
    let (events, heard) = flume::bounded(EVENTS_MAX);
    let drain = Arc::new(Drain::new(health.clone(), options.drain, events.clone()));
    let admin_address = admin.as_ref().map(|(admin, _)| admin.address()).transpose().map_err(said)?;
    let parts = || admin::Parts {
        observer: running.observer(),
        store: bridge.client(),
        health: health.clone(),
        drain: drain.clone(),
        logging: logging.clone(),
        facts: admin::Facts { store: options.store.name(), shards, capacity, begun },
        backup_plan: admin::BackupPlan::of(options),
        erase: erase.clone(),
        questions: questions.clone(),
    };
    let _admin = admin.map(|(admin, token)| admin.serve(token, parts())).transpose().map_err(said)?;
    if let Err(error) = print(&announcement::text(options, &places, admin_address, shards, capacity)) {
        tracing::warn!(error, "the server runs, but nobody can be told where");
    }

    supervisor.serves(health.clone());
    listen_for_the_end(signals, fatal, Reloads { reloader, is_due: hung_up }, events);
    let ended = ending::wait(&heard, &drain, &health, &supervisor, |time| running.drain(time));
    let shards_stopped = running.stop();
    let store_stopped = bridge.stop().map_err(said);
    ended.and(shards_stopped).and(store_stopped)
}

/// Takes all addresses. Fails with a line for the operator if one cannot be taken.
fn listen_on_all(options: &Options, shards: usize) -> Result<Vec<Listening>, String> {
    let mut all = Vec::new();
    for address in &options.listen {
        let listening = listeners::listen(address, Protocol::Http, shards).map_err(|error| {
            let advice = listeners::advice_for(address, &error);
            format!("cannot listen on {address}: {error}; {advice}: choose another address with --listen")
        })?;
        all.extend(listening);
    }
    let Some(Grpc { address, is_asked_for }) = &options.grpc else { return Ok(all) };
    match listeners::listen(address, Protocol::Grpc, shards) {
        Ok(listening) => all.extend(listening),
        Err(error) => {
            let advice = listeners::advice_for(address, &error);
            let reason =
                format!("cannot listen on {address} for gRPC: {error}; {advice}: choose another address with --grpc");
            if *is_asked_for {
                return Err(reason);
            }
            tracing::warn!("{reason}, or say --grpc off. The server runs without it");
        }
    }
    Ok(all)
}

/// The listeners of each shard: one socket of each place.
fn listeners_of_shards(listening: &mut [Listening], tls: Option<&Arc<TlsAcceptor>>) -> Vec<Vec<Listener>> {
    let mut of_shards: Vec<Vec<Listener>> = Vec::new();
    for Listening { secured, protocol, sockets, .. } in listening {
        let tls = tls.filter(|_| *secured);
        for (shard, socket) in std::mem::take(sockets).into_iter().enumerate() {
            if of_shards.len() <= shard {
                of_shards.push(Vec::new());
            }
            of_shards[shard].push(Listener { socket, tls: tls.cloned(), protocol: *protocol });
        }
    }
    of_shards
}

fn open_store(options: &Options) -> Result<Arc<dyn Store>, Failure> {
    Ok(match options.store {
        StoreKind::Memory => Arc::new(Memory::new()),
        StoreKind::Scylla => database::open(&options.database)?,
        StoreKind::Embedded if options.read_only => {
            let store = Embedded::open_to_read(&options.store_directory(), &options.embedded_store())?;
            tracing::warn!("the server only reads, because --read-only is set: every write is refused");
            Arc::new(store)
        }
        StoreKind::Embedded => Arc::new(Embedded::open(&options.store_directory(), &options.embedded_store())?),
    })
}

/// Tells of each signal to stop, and of a fatal failure of the store. SIGHUP has the configuration read again.
fn listen_for_the_end(
    mut signals: Signals,
    fatal: flume::Receiver<Failure>,
    Reloads { mut reloader, is_due }: Reloads,
    events: flume::Sender<Event>,
) {
    // Reading files may take long, or for ever. Signals to stop are heard meanwhile.
    let (ask, asked) = flume::bounded(1);
    if is_due {
        // The only place is free.
        let _ = ask.try_send(());
    }
    std::thread::spawn(move || asked.iter().for_each(|()| reloader.reload()));
    let signalled = events.clone();
    std::thread::spawn(move || {
        for signal in signals.forever() {
            let event = match signal {
                SIGHUP => {
                    // If one waits already, it reads what there is then.
                    let _ = ask.try_send(());
                    continue;
                }
                SIGINT => Event::Interrupt,
                _ => Event::Terminate,
            };
            let _ = signalled.send(event);
        }
    });
    std::thread::spawn(move || {
        if let Ok(failure) = fatal.recv() {
            let _ = events.send(Event::Fatal(failure.to_string()));
        }
    });
}

/// The reader of the configuration, and whether SIGHUP came before the server served.
struct Reloads {
    reloader: Reloader,
    is_due: bool,
}

/// Whether this signal ends a server that does not serve yet. After SIGHUP it reads the configuration again as soon as it
/// serves. A terminal that closes sends SIGHUP too, and so do tools that rotate logs: it must not end a server.
fn is_to_stop(signal: c_int, hung_up: &mut bool) -> bool {
    if signal == SIGHUP && !std::mem::replace(hung_up, true) {
        tracing::info!("SIGHUP: the configuration is read again when the server serves");
    }
    signal != SIGHUP
}

/// A bug stops the whole process, loudly: a server that has lost a shard would only look alive.
fn stop_at_the_first_panic(logging: Arc<Logging>) {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        logging.flush();
        report(panic);
        std::process::abort();
    }));
}

fn said(error: impl fmt::Display) -> String {
    error.to_string()
}
