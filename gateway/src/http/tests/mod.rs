//! Tests the resources as clients see them: requests in, answers out, over a real store in memory and without sockets.

mod account_deletions;
mod accounts;
mod budgets;
mod connections;
mod friends;
mod groups;
mod history;
mod links;
mod members;
mod notifications;
mod objects;
mod owner;
mod presence;
mod refusals;
mod sessions;
mod shares;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use engine::id::{ChannelId, Timestamp, UserId, parse_uuid};
use engine::limits::Rules;
use engine::parcel::Broadcast;
use engine::query::{ChannelChange, ChannelQuery, QueryAnswer};
use engine::session::shared_budgets::SharedBudgets;
use engine::shard::Input;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{HeaderMap, Request};
use serde_json::{Value, json};
use storage::bridge::Bridge;
use storage::memory::Memory;
use storage::{Store, Write};

use super::answer::{Answer, refused};
use super::chunks::ChunkFraming;
use super::receiving::{Reading, receive};
use super::resource_request::ResourceRequest;
use super::services::Services;
use crate::client_network::ClientNetwork;
use crate::password::Passwords;
use crate::token::Tokens;
use crate::token::tests::{REFRESH_TTL, SESSION_TTL, keys};

/// The time at which the tests' clock begins.
const START: i64 = 1_000_000;

/// A server without sockets.
pub struct World {
    pub services: Rc<Services>,
    pub store: Arc<dyn Store>,
    now: Rc<Cell<Timestamp>>,
    owner: RefCell<Owner>,
    /// The users that are visible to followers.
    online: RefCell<HashSet<UserId>>,
    /// The broadcasts to sessions since `told` was last called.
    told: RefCell<Vec<Broadcast>>,
    /// The task that works on account deletions.
    departing: RefCell<Option<Pin<Box<dyn Future<Output = ()>>>>>,
    /// The bridge ends its threads when the test ends.
    _bridge: Bridge,
}

/// Answers queries about channels.
type Owner = Box<dyn FnMut(&ChannelId, ChannelQuery) -> QueryAnswer>;

/// The user or program that a request claims to be from.
#[derive(Clone, Copy)]
pub enum As<'a> {
    Nobody,
    Client,
    User(&'a str),
    Header(&'a str),
}

/// The answer to a request.
pub struct Heard {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

/// A user who has signed in.
pub struct Session {
    pub user: UserId,
    pub token: String,
    pub refresh_token: String,
}

impl World {
    pub fn new() -> Self {
        Self::on(Arc::new(Memory::new()))
    }

    pub fn on(store: Arc<dyn Store>) -> Self {
        Self::under(SharedBudgets::new(&Rules { work_per_user: None, ..Rules::default() }), store)
    }

    /// A server whose users have these budgets.
    pub fn under(budgets: SharedBudgets, store: Arc<dyn Store>) -> Self {
        let (bridge, _) = Bridge::start(store.clone(), 0).unwrap();
        let now = Rc::new(Cell::new(Timestamp(START * 1_000_000_000 + 575_385_013)));
        let kept = store.revocations().unwrap_or_default();
        let tokens = Tokens::new(&keys(), SESSION_TTL, REFRESH_TTL, &kept, now.get());
        let clock = now.clone();
        let services = Services::new(
            "defaultkey",
            &keys(),
            Arc::new(tokens),
            Passwords::start_cheap(),
            bridge.client(),
            move || clock.get(),
        );
        let services = Rc::new(services.sharing_budgets(budgets));
        Self {
            departing: RefCell::new(Some(Box::pin(super::run_account_deletions(services.clone())))),
            services,
            owner: RefCell::new(owner::of_empty_channels(store.clone(), now.clone())),
            store,
            now,
            online: RefCell::default(),
            told: RefCell::default(),
            _bridge: bridge,
        }
    }

    /// Makes `owner` answer queries from now on. Until then no channel has members, and every change succeeds.
    pub fn own(&self, owner: impl FnMut(&ChannelId, ChannelQuery) -> QueryAnswer + 'static) {
        *self.owner.borrow_mut() = Box::new(owner);
    }

    /// Does what a shard does besides running handlers.
    pub fn go_on(&self, context: &mut Context<'_>) {
        let departing = &mut *self.departing.borrow_mut();
        if let Some(future) = departing
            && future.as_mut().poll(context).is_ready()
        {
            *departing = None;
        }
        self.answer_queries();
    }

    fn answer_queries(&self) {
        while let Some(asked) = self.services.channel_queries().take() {
            let (number, answer) = match asked {
                Input::ChannelQuery { number, channel, query } => (number, (self.owner.borrow_mut())(&channel, query)),
                Input::Online { number, query } => {
                    let online = query.users.iter().map(|user| self.online.borrow().contains(user));
                    (number, QueryAnswer::Online(online.collect()))
                }
                Input::Broadcast(broadcast) => {
                    self.told.borrow_mut().push(broadcast);
                    continue;
                }
                other => panic!("{other:?} is not of HTTP handlers"),
            };
            self.services.channel_queries().found(number, answer);
        }
    }

    /// Makes this user visible to followers.
    pub fn show(&self, user: UserId) {
        self.online.borrow_mut().insert(user);
    }

    /// The broadcasts to sessions since the last call.
    pub fn told(&self) -> Vec<Broadcast> {
        self.told.take()
    }

    /// The notices among these broadcasts: the user and the code of each.
    pub fn told_notices(&self) -> Vec<(UserId, i32)> {
        let notices = self.told().into_iter().flat_map(|broadcast| match broadcast {
            Broadcast::Notices(notices) => notices,
            other => panic!("{other:?} is no notices"),
        });
        notices.map(|notice| (notice.user, notice.notification.code as i32)).collect()
    }

    pub fn pass(&self, seconds: i64) {
        self.now.set(Timestamp(self.now.get().0 + seconds * 1_000_000_000));
    }

    /// Sends one request; `target` is `METHOD /path`.
    pub fn ask(&self, target: &str, who: As<'_>, body: impl Into<Bytes>) -> Heard {
        self.send(request(target, who).body(body.into()).unwrap())
    }

    pub fn send(&self, request: Request<Bytes>) -> Heard {
        self.send_from(ClientNetwork::UNKNOWN, request)
    }

    /// Sends a request from a client in this network.
    pub fn send_from(&self, from: ClientNetwork, request: Request<Bytes>) -> Heard {
        let mut answer = pin!(answer_from(&self.services, from, request));
        let (head, body) = block_on(poll_fn(|context| {
            let polled = answer.as_mut().poll(context);
            self.go_on(context);
            polled
        }))
        .into_parts();
        let body = block_on(body.collect()).unwrap().to_bytes();
        Heard { status: head.status.as_u16(), headers: head.headers, text: String::from_utf8(body.into()).unwrap() }
    }

    /// Signs in a user with this name. Creates the user the first time.
    pub fn sign_in(&self, username: &str) -> Session {
        let target = format!("POST /v2/account/authenticate/device?username={username}");
        let heard = self.ask(&target, As::Client, json!({ "id": format!("device-of-{username}") }).to_string());
        assert_eq!(heard.status, 200, "{}", heard.text);
        Session::of(&heard)
    }

    pub fn keep(&self, writes: &[Write]) {
        for written in self.store.commit(writes).unwrap() {
            written.unwrap();
        }
    }
}

/// The answer to a request whose body is there as soon as its head.
pub async fn answer(services: &Services, request: Request<Bytes>) -> Answer {
    answer_from(services, ClientNetwork::UNKNOWN, request).await
}

/// The same to a client in this network.
pub async fn answer_from(services: &Services, from: ClientNetwork, request: Request<Bytes>) -> Answer {
    let (head, body) = request.into_parts();
    match receive(services, from, &head, Full::new(body), ChunkFraming::default, Reading::AsResource).await.0 {
        Ok(received) => super::respond(services, ResourceRequest::new(head, received, from)).await,
        Err(refusal) => refused(&refusal),
    }
}

impl Session {
    pub fn of(heard: &Heard) -> Self {
        let answer = heard.json();
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        let user = UserId(parse_uuid(claims(&text("token"))["uid"].as_str().unwrap()).unwrap());
        Self { user, token: text("token"), refresh_token: text("refresh_token") }
    }
}

impl Heard {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Checks that this is a complete refusal with this status and code.
    pub fn expect_refusal(&self, status: u16, code: i64, context: &str) {
        assert_eq!(self.status, status, "{context}: {}", self.text);
        let body = self.json();
        let members: Vec<_> = body.as_object().unwrap().keys().collect();
        assert_eq!(members, ["code", "message"], "{context}");
        assert_eq!(body["code"], code, "{context}: {}", self.text);
        let message = body["message"].as_str().unwrap();
        assert!(!message.is_empty(), "{context}");
        assert_eq!(self.header("content-type"), "application/json", "{context}");
        assert_eq!(self.header("www-authenticate"), if status == 401 { message } else { "" }, "{context}");
    }
}

pub fn request(target: &str, who: As<'_>) -> hyper::http::request::Builder {
    let (method, path) = target.split_once(' ').unwrap();
    let builder = Request::builder().method(method).uri(path).header("Host", "localhost");
    match who {
        As::Nobody => builder,
        As::Client => builder.header("Authorization", format!("Basic {}", BASE64_STANDARD.encode("defaultkey:"))),
        As::User(token) => builder.header("Authorization", format!("Bearer {token}")),
        As::Header(header) => builder.header("Authorization", header),
    }
}

/// A token's payload, decoded as clients do.
pub fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// Runs a future on this thread. The thread sleeps while it waits.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
