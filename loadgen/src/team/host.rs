//! `loadgen worker --listen`: lends this machine to coordinators on other machines, one at a time.
//!
//! A coordinator takes the machine with one connection. It keeps this connection for the run and compares clocks over
//! it. It opens one more connection for each worker process that it wants. A worker is started here just as a
//! coordinator on this machine would start it, and its orders and words are passed on unchanged, line by line. When the
//! coordinator leaves, or is silent for too long, its workers end and the machine is free again.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::LocalSet;

use crate::base::clock;
use crate::orders::Word;
use crate::team::comparison::Stamps;
use crate::team::introduction::{self, Errand, Secret, Site};
use crate::team::lines::{self, LINE_BYTES_MAX, Lines, SILENCE_MAX};
use crate::team::process::{self, Spawned};
use crate::watch::note;

/// The most connections at once, and so the most workers. A million users need some fifty workers, on all machines
/// together.
const CONNECTIONS_MAX: usize = 512;
/// The pause before the next attempt when no connection can be accepted, for example because the descriptors have run
/// out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves coordinators until the process is ended. Returns only if there is an error.
pub fn run(listen: SocketAddr, secret: Secret) -> Result<(), String> {
    if secret.is_empty() && !listen.ip().is_loopback() {
        return Err(format!(
            "a worker that listens on {listen} could be taken by any client: give it a --secret (or LOADGEN_SECRET), or \
             let it listen on 127.0.0.1"
        ));
    }
    let descriptors = process::raise_descriptor_limit().map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start a runtime: {error}"))?;
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind(listen).await;
        let listener = listener.map_err(|error| format!("cannot listen on {listen}: {error}"))?;
        let address = listener.local_addr().map_err(|error| format!("cannot listen on {listen}: {error}"))?;
        println!("listening on {address}");
        let host = Rc::new(Host { secret, descriptors, tenancy: RefCell::default() });
        host.accept(listener).await;
        Ok(())
    })
}

struct Host {
    secret: Secret,
    descriptors: u64,
    tenancy: RefCell<Option<Tenancy>>,
}

/// The run that has taken the machine.
struct Tenancy {
    run: u64,
    coordinator: SocketAddr,
    /// Closed when the tenancy ends; the workers' relays notice that.
    held: watch::Sender<()>,
}

impl Host {
    async fn accept(self: Rc<Self>, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            // With more connections than that, new ones wait in the listener's queue.
            let Ok(place) = places.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, coordinator)) => {
                    let host = self.clone();
                    tokio::task::spawn_local(async move {
                        if let Err(error) = host.serve(stream, coordinator).await {
                            note(&format!("{coordinator}: {error}"));
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    note(&format!("cannot accept a connection: {error}"));
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve(&self, stream: TcpStream, coordinator: SocketAddr) -> io::Result<()> {
        lines::prepare(&stream, SILENCE_MAX)?;
        let (reader, mut writer) = stream.into_split();
        let mut lines = Lines::new(reader, 0, Some(SILENCE_MAX));
        let visitor = introduction::receive(&mut lines, &mut writer, &self.secret).await?;
        match visitor.errand {
            Errand::Take { run } => match self.take(run, coordinator) {
                Err(why) => introduction::refuse(&mut writer, &why).await,
                Ok(()) => {
                    let site = Site { pid: std::process::id(), descriptors: self.descriptors };
                    let served = async {
                        visitor.welcome(&mut writer, site).await?;
                        tell_the_time(&mut lines, &mut writer).await
                    };
                    let served = served.await;
                    *self.tenancy.borrow_mut() = None;
                    note(&format!("{coordinator} has left"));
                    served
                }
            },
            Errand::Work { run, clock_offset_ns } => match self.tenant(run) {
                Err(why) => introduction::refuse(&mut writer, &why).await,
                Ok(held) => {
                    let Spawned { mut child, pid, orders, words } = process::spawn(clock_offset_ns)?;
                    visitor.welcome(&mut writer, Site { pid, descriptors: self.descriptors }).await?;
                    let relay = Relay { orders, words: Lines::new(words, LINE_BYTES_MAX, None) };
                    relay.run(lines, &mut writer, held).await?;
                    let status = process::ended(&mut child).await;
                    lines::write(&mut writer, &Word::Ended { status }).await?;
                    writer.shutdown().await
                }
            },
        }
    }

    fn take(&self, run: u64, coordinator: SocketAddr) -> Result<(), String> {
        let mut tenancy = self.tenancy.borrow_mut();
        if let Some(other) = &*tenancy {
            return Err(format!("it works for {}: wait until that run is over", other.coordinator));
        }
        note(&format!("{coordinator} has taken this machine"));
        *tenancy = Some(Tenancy { run, coordinator, held: watch::Sender::new(()) });
        Ok(())
    }

    fn tenant(&self, run: u64) -> Result<watch::Receiver<()>, String> {
        let tenancy = self.tenancy.borrow();
        let held = tenancy.as_ref().filter(|tenancy| tenancy.run == run).map(|tenancy| tenancy.held.subscribe());
        held.ok_or_else(|| "this run has not taken the machine".to_owned())
    }
}

/// Stamps every line that comes, and sends the stamps back.
async fn tell_the_time(lines: &mut Lines<OwnedReadHalf>, writer: &mut OwnedWriteHalf) -> io::Result<()> {
    while lines.next().await?.is_some() {
        let received_ns = clock::machine_ns();
        lines::write(writer, &Stamps { received_ns, answered_ns: clock::machine_ns() }).await?;
    }
    Ok(())
}

/// Connects a coordinator with a worker process on this machine.
struct Relay {
    orders: tokio::process::ChildStdin,
    words: Lines<tokio::process::ChildStdout>,
}

impl Relay {
    /// Passes orders and words on until the worker has sent its last word. The worker ends when its orders end.
    async fn run(
        self,
        coordinator: Lines<OwnedReadHalf>,
        writer: &mut OwnedWriteHalf,
        mut held: watch::Receiver<()>,
    ) -> io::Result<()> {
        let Self { mut orders, mut words } = self;
        let pass_orders = async {
            let mut rest = coordinator.into_rest();
            tokio::select! {
                // An error here needs no report: the worker's orders end, and so does the worker.
                _ = tokio::io::copy_buf(&mut rest, &mut orders) => {}
                _ = held.changed() => {}
            }
            drop(orders);
            std::future::pending::<io::Result<()>>().await
        };
        let pass_words = async {
            while let Some(word) = words.next().await? {
                writer.write_all(word).await?;
                writer.write_all(b"\n").await?;
            }
            Ok(())
        };
        tokio::select! {
            passed = pass_words => passed,
            never = pass_orders => never,
        }
    }
}
