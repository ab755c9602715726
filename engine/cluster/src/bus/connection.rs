//! One connection to a server of the bus, from its making until it is lost. Nothing of it is used after that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::{Client, ConnectOptions, Event, ServerAddr, Subscriber};
use bytes::Bytes;
use engine::id::Life;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{BusOptions, CLUSTER_NAME_BYTES_MAX, StartFailure};
use crate::packet::PACKET_BYTES_MAX;

/// For how long a server may take to accept a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);

/// How often, and for how long, a probe over the own subject is tried.
const ECHO_INTERVAL: Duration = Duration::from_millis(100);
const ECHO_PATIENCE: Duration = Duration::from_secs(2);

/// For how long a packet may wait for the client. A server may make a publisher wait while a subscriber is slow; beyond
/// this the connection is given up.
const PUBLISH_PATIENCE: Duration = Duration::from_secs(2);

/// How often the client asks the server whether it is there. After two questions without an answer the connection is lost.
const PING_INTERVAL: Duration = Duration::from_secs(2);

/// Packets between the links and the client, and commands between the client's two halves. They are few, because what is
/// in them is what may be late after a reconnection.
const LEAVING_PACKETS_MAX: usize = 16;
const CLIENT_COMMANDS_MAX: usize = 16;

/// Packets that have arrived and were not read. Beyond it they are dropped, and the links send them again. Peers keep to
/// their windows, so these are small ones.
const ARRIVED_PACKETS_MAX: usize = 4096;

/// What the client says beside messages. More of it tells nothing new.
const NEWS_MAX: usize = 16;

/// Why a connection is not there.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error("no server of the bus takes a connection: {0}")]
    Connect(String),
    #[error(
        "the server takes packets of {0} bytes at most, and {PACKET_BYTES_MAX} are needed: set its max_payload higher"
    )]
    MaxPayload(usize),
    #[error("the own subject does not come back: {0}")]
    Echo(&'static str),
    #[error("the server took no packet for {PUBLISH_PATIENCE:?}")]
    Stalled,
    #[error("the connection was lost: {0}")]
    Lost(String),
}

/// The servers of the bus and how to connect to one of them.
#[derive(Clone)]
pub struct Servers {
    addresses: Arc<[ServerAddr]>,
    options: Arc<BusOptions>,
}

impl Servers {
    /// Checks names and addresses.
    pub fn read(options: &BusOptions) -> Result<Self, StartFailure> {
        let name = options.cluster.as_bytes();
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !(1..=CLUSTER_NAME_BYTES_MAX).contains(&name.len()) || !name.iter().all(allowed) {
            return Err(StartFailure::ClusterName);
        }
        let read = |server: &String| server.parse().map_err(|_| StartFailure::Server(server.clone()));
        let addresses: Arc<[ServerAddr]> = options.servers.iter().map(read).collect::<Result<_, _>>()?;
        if addresses.is_empty() {
            return Err(StartFailure::NoServer);
        }
        Ok(Self { addresses, options: Arc::new(options.clone()) })
    }

    /// The subject of a life.
    pub fn subject(&self, life: Life) -> String {
        format!("stentor.{}.{life}", self.options.cluster)
    }

    /// The subject on which all lives say that they are alive.
    pub fn beats(&self) -> String {
        format!("stentor.{}.beat", self.options.cluster)
    }

    /// A connection that receives this subject. `echo` is a packet of this node's own, which must come back first.
    pub async fn connect(self, subject: String, echo: Bytes) -> Result<Connection, Trouble> {
        let (news_sender, news) = mpsc::channel(NEWS_MAX);
        let mut options = ConnectOptions::new()
            .connection_timeout(CONNECT_PATIENCE)
            .ping_interval(PING_INTERVAL)
            // Each server once. Connections are made anew here, and not by the client.
            .max_reconnects(self.addresses.len())
            .ignore_discovered_servers()
            .client_capacity(CLIENT_COMMANDS_MAX)
            .subscription_capacity(ARRIVED_PACKETS_MAX)
            .event_callback(move |event| {
                let news = news_sender.clone();
                async move { drop(news.try_send(event)) }
            });
        if let Some((user, password)) = &self.options.login {
            options = options.user_and_password(user.clone(), password.clone());
        }
        if let Some(ca) = &self.options.ca {
            options = options.add_root_certificates(ca.clone()).require_tls(true);
        }
        let client = options.connect(&self.addresses[..]).await.map_err(|error| Trouble::Connect(error.to_string()))?;
        let max_payload = client.server_info().max_payload;
        if max_payload < PACKET_BYTES_MAX {
            return Err(Trouble::MaxPayload(max_payload));
        }
        let mut subscriber =
            client.subscribe(subject.clone()).await.map_err(|error| Trouble::Lost(error.to_string()))?;
        hear_echo(&client, &mut subscriber, &subject, &echo).await?;
        Ok(Connection::new(client, subscriber, news))
    }
}

/// Waits until what is published on the subject comes back over it. Until then the server may not know the subscription.
async fn hear_echo(client: &Client, subscriber: &mut Subscriber, subject: &str, echo: &Bytes) -> Result<(), Trouble> {
    let begun = Instant::now();
    while begun.elapsed() < ECHO_PATIENCE {
        let publishing = client.publish(subject.to_owned(), echo.clone());
        match timeout(PUBLISH_PATIENCE, publishing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(Trouble::Lost(error.to_string())),
            Err(_) => return Err(Trouble::Stalled),
        }
        let heard = async {
            while let Some(message) = subscriber.next().await {
                if message.payload == *echo {
                    return true;
                }
            }
            false
        };
        match timeout(ECHO_INTERVAL, heard).await {
            Ok(true) => return Ok(()),
            Ok(false) => return Err(Trouble::Echo("the subscription has ended")),
            Err(_) => {}
        }
    }
    Err(Trouble::Echo("nothing has arrived"))
}

/// A connection whose subject is heard.
pub struct Connection {
    subscriber: Subscriber,
    leaving: mpsc::Sender<(String, Bytes)>,
    news: mpsc::Receiver<Event>,
    stalled: mpsc::Receiver<Trouble>,
    publishing: tokio::task::JoinHandle<()>,
}

impl Connection {
    fn new(client: Client, subscriber: Subscriber, news: mpsc::Receiver<Event>) -> Self {
        let (leaving, packets) = mpsc::channel(LEAVING_PACKETS_MAX);
        let (trouble, stalled) = mpsc::channel(1);
        // Publishing may wait, and receiving must not.
        let publishing = tokio::spawn(publish(client, packets, trouble));
        Self { subscriber, leaving, news, stalled, publishing }
    }

    /// The place for one more packet, if there is room.
    pub fn place(&self) -> Option<mpsc::Permit<'_, (String, Bytes)>> {
        self.leaving.try_reserve().ok()
    }

    /// The next packet. May be dropped while it waits. After an error the connection is of no use.
    pub async fn next(&mut self) -> Result<Bytes, Trouble> {
        next(&mut self.subscriber, &mut self.stalled, &mut self.news).await
    }

    /// Like `next`, or `None` when there is room for a packet.
    pub async fn next_or_room(&mut self) -> Result<Option<Bytes>, Trouble> {
        let room = async {
            // It fails when publishing has ended, and then the trouble is told.
            if self.leaving.reserve().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            bytes = next(&mut self.subscriber, &mut self.stalled, &mut self.news) => bytes.map(Some),
            () = room => Ok(None),
        }
    }

    /// A packet that has arrived already.
    pub fn arrived(&mut self) -> Option<Bytes> {
        Some(self.subscriber.next().now_or_never()??.payload)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.publishing.abort();
    }
}

async fn next(
    subscriber: &mut Subscriber,
    stalled: &mut mpsc::Receiver<Trouble>,
    news: &mut mpsc::Receiver<Event>,
) -> Result<Bytes, Trouble> {
    loop {
        tokio::select! {
            message = subscriber.next() => {
                let message = message.ok_or_else(|| Trouble::Lost("the subscription has ended".to_owned()))?;
                return Ok(message.payload);
            }
            Some(trouble) = stalled.recv() => return Err(trouble),
            event = news.recv() => match event {
                // What was dropped is missed and sent again, by the rules of the links.
                Some(Event::SlowConsumer(_)) => {
                    tracing::warn!("packets of the bus were dropped: they came faster than they were read");
                }
                Some(Event::Connected | Event::LameDuckMode | Event::Draining) => {}
                Some(event) => return Err(Trouble::Lost(event.to_string())),
                None => return Err(Trouble::Lost("the client has ended".to_owned())),
            },
        }
    }
}

async fn publish(client: Client, mut packets: mpsc::Receiver<(String, Bytes)>, trouble: mpsc::Sender<Trouble>) {
    while let Some((subject, packet)) = packets.recv().await {
        let failed = match timeout(PUBLISH_PATIENCE, client.publish(subject, packet)).await {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => Trouble::Lost(error.to_string()),
            Err(_) => Trouble::Stalled,
        };
        // There is room: this is the only trouble that is told.
        let _ = trouble.try_send(failed);
        return;
    }
}
