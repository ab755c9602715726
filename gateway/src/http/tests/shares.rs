//! Whose share of the store's queue a write waits in: each write of a user in the share of this user. So a flood of one user
//! refuses no write of another.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use engine::id::{ChannelId, Epoch, GroupId, MessageId, NotificationId};
use engine::message::Message;
use engine::persist::ChannelHead;
use engine::social::friend::{FriendState, Sides};
use engine::social::group::Role;
use engine::social::notification::Notification;
use parking_lot::Mutex;
use storage::account::{Account, Credential, CredentialOwner, Expiry, Profile, Revocation, RevocationPlace};
use storage::friend::{Friend, FriendPlace};
use storage::group::{Group, GroupFilter, GroupPage, GroupPlace, RosterPlace};
use storage::object::{Object, ObjectCounts, ObjectId, ObjectListing, ObjectPlace};
use storage::{Failure, PageStart, Part, Written};
use uuid::Uuid;

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

/// A store in memory that commits nothing while `gate` is locked.
#[derive(Default)]
struct Gated {
    memory: Memory,
    gate: Mutex<()>,
    /// Commits that have begun.
    begun: AtomicUsize,
}

/// Hands these calls on to the memory.
macro_rules! delegate {
    ($(fn $name:ident(&self $(, $argument:ident: $of:ty)*) -> $returns:ty;)*) => {
        $(fn $name(&self $(, $argument: $of)*) -> $returns {
            self.memory.$name($($argument),*)
        })*
    };
}

impl Store for Gated {
    fn commit(&self, writes: &[Write]) -> Result<Vec<Result<Written, Failure>>, Failure> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let _open = self.gate.lock();
        self.memory.commit(writes)
    }

    delegate! {
        fn next_epoch(&self) -> Result<Epoch, Failure>;
        fn head(&self, one: &ChannelId) -> Result<Option<ChannelHead>, Failure>;
        fn message(&self, one: &ChannelId, two: MessageId) -> Result<Option<Message>, Failure>;
        fn messages_part(&self, one: &ChannelId, two: PageStart, three: usize) -> Result<Part<Message, MessageId>, Failure>;
        fn credential(&self, one: &Credential) -> Result<Option<CredentialOwner>, Failure>;
        fn account(&self, one: UserId) -> Result<Option<Account>, Failure>;
        fn profile(&self, one: UserId) -> Result<Option<Profile>, Failure>;
        fn has_account(&self, one: UserId) -> Result<bool, Failure>;
        fn user_by_username(&self, one: &str) -> Result<Option<UserId>, Failure>;
        fn group(&self, one: GroupId) -> Result<Option<Group>, Failure>;
        fn group_page(&self, one: &GroupFilter, two: Option<&GroupPlace>, three: usize) -> Result<GroupPage, Failure>;
        fn group_role(&self, one: GroupId, two: UserId) -> Result<Option<Role>, Failure>;
        fn group_members_part(&self, one: GroupId, two: Option<Role>, three: Option<RosterPlace>, four: usize) -> Result<Part<(UserId, RosterPlace), RosterPlace>, Failure>;
        fn user_groups_part(&self, one: UserId, two: Option<Role>, three: Option<RosterPlace>, four: usize) -> Result<Part<(Group, RosterPlace), RosterPlace>, Failure>;
        fn objects(&self, one: &[ObjectId]) -> Result<Vec<Object>, Failure>;
        fn objects_part(&self, one: &ObjectListing, two: Option<&ObjectPlace>, three: usize) -> Result<Part<Object, ObjectPlace>, Failure>;
        fn object_counts(&self, one: UserId) -> Result<ObjectCounts, Failure>;
        fn sides(&self, one: UserId, two: UserId) -> Result<Sides, Failure>;
        fn friends_part(&self, one: UserId, two: Option<FriendState>, three: Option<FriendPlace>, four: usize) -> Result<Part<(Friend, FriendPlace), FriendPlace>, Failure>;
        fn edge_count(&self, one: UserId) -> Result<u32, Failure>;
        fn notifications_part(&self, one: UserId, two: Option<NotificationId>, three: usize) -> Result<Part<Notification, NotificationId>, Failure>;
        fn channels_written(&self, one: UserId, two: Option<&ChannelId>, three: usize) -> Result<Vec<ChannelId>, Failure>;
        fn account_deletions(&self, one: usize) -> Result<Vec<UserId>, Failure>;
        fn expired_revocations(&self, one: Expiry, two: Option<&RevocationPlace>, three: usize) -> Result<(Vec<Revocation>, Option<RevocationPlace>), Failure>;
        fn revocations(&self) -> Result<Vec<Revocation>, Failure>;
        fn close(&self) -> Result<(), Failure>;
    }
}

/// A request whose answer is awaited.
type Asking<'a> = Pin<Box<dyn Future<Output = Answer> + 'a>>;

type Flood = Vec<Pin<Box<dyn Future<Output = Result<(), Failure>>>>>;

fn is_ready<T>(future: &mut Pin<Box<dyn Future<Output = T> + '_>>) -> Poll<T> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// Fills the queue with writes that no user has asked for. The committer has taken one, and does not end it.
fn fill(world: &World, store: &Gated) -> Flood {
    let put = || {
        let client = world._bridge.client();
        let mut write: Pin<Box<dyn Future<Output = _>>> =
            Box::pin(async move { client.finish_departure(UserId(Uuid::new_v4())).await });
        is_ready(&mut write).is_pending().then_some(write)
    };
    let before = store.begun.load(Ordering::SeqCst);
    let mut flood = vec![put().expect("the queue is empty")];
    let begun = Instant::now();
    while store.begun.load(Ordering::SeqCst) == before {
        assert!(begun.elapsed() < DEADLINE, "the committer takes the first write");
        thread::yield_now();
    }
    flood.extend(std::iter::from_fn(put));
    flood
}

/// Whether the newest write of the flood has given way.
fn has_given_way(flood: &mut Flood) -> bool {
    let newest = flood.last_mut().expect("more writes wait than the test asks for");
    match is_ready(newest) {
        Poll::Ready(answer) => {
            assert!(matches!(answer, Err(Failure::Passing(_))), "{answer:?}");
            flood.pop();
            true
        }
        Poll::Pending => false,
    }
}

/// The queue is full of writes of the server itself. If a write of a user counted as one of those, it would be the newest of
/// them, and be refused at once. As the user's own it takes the place of another.
#[test]
fn each_write_of_a_user_waits_in_the_share_of_this_user() {
    let store = Arc::new(Gated::default());
    let world = World::on(store.clone());
    let [ada, bob, carol, dave] = ["ada", "bob", "carol", "dave"].map(|name| world.sign_in(name));
    let group = world.ask("POST /v2/group", As::User(&ada.token), r#"{"name":"known"}"#).json()["id"].clone();
    let group = group.as_str().expect("a group").to_owned();
    world.ask("POST /v2/account/link/custom", As::User(&ada.token), r#"{"id":"custom-of-ada"}"#);
    let (befriend, leave) =
        (format!("POST /v2/friend?ids={}", bob.user), format!("DELETE /v2/friend?ids={}", bob.user));
    let update = format!("PUT /v2/group/{group}");
    let object = r#"{"objects":[{"collection":"c","key":"k","value":"{}"}]}"#;
    let known_object = r#"{"objects":[{"collection":"c","key":"known","value":"{}"}]}"#;
    assert_eq!(world.ask("PUT /v2/storage", As::User(&ada.token), known_object).status, 200);
    let object_id = r#"{"object_ids":[{"collection":"c","key":"known"}]}"#;
    let asked = [
        (befriend.as_str(), As::User(&ada.token), ""),
        (leave.as_str(), As::User(&ada.token), ""),
        ("PUT /v2/account", As::User(&ada.token), r#"{"location":"x"}"#),
        ("POST /v2/group", As::User(&ada.token), r#"{"name":"new"}"#),
        (update.as_str(), As::User(&ada.token), r#"{"description":"x"}"#),
        ("POST /v2/account/link/device", As::User(&ada.token), r#"{"id":"another-device-of-ada"}"#),
        ("POST /v2/account/unlink/custom", As::User(&ada.token), r#"{"id":"custom-of-ada"}"#),
        ("DELETE /v2/notification?ids=00000000-0000-0000-0000-000000000008", As::User(&ada.token), ""),
        ("PUT /v2/storage", As::User(&ada.token), object),
        ("PUT /v2/storage/delete", As::User(&ada.token), object_id),
        ("POST /v2/session/logout", As::User(&carol.token), "{}"),
        ("DELETE /v2/account", As::User(&dave.token), ""),
        ("POST /v2/account/authenticate/device", As::Client, r#"{"id":"device-of-a-new-user"}"#),
    ];
    let gate = store.gate.lock();
    let mut flood = fill(&world, &store);
    let go_on = || world.go_on(&mut Context::from_waker(Waker::noop()));
    let mut waiting: Vec<(&str, Asking<'_>)> = Vec::new();
    for (target, who, body) in asked {
        let request = request(target, who).body(Bytes::copy_from_slice(body.as_bytes())).unwrap();
        let mut asking: Asking<'_> = Box::pin(answer(&world.services, request));
        let begun = Instant::now();
        loop {
            if let Poll::Ready(answer) = is_ready(&mut asking) {
                panic!("{target} is answered with {} while the committer stands still", answer.status());
            }
            go_on();
            if has_given_way(&mut flood) {
                break;
            }
            assert!(begun.elapsed() < DEADLINE, "{target} writes nothing");
            thread::yield_now();
        }
        waiting.push((target, asking));
    }
    drop(gate);
    for (target, mut asking) in waiting {
        let begun = Instant::now();
        let answer = loop {
            if let Poll::Ready(answer) = is_ready(&mut asking) {
                break answer;
            }
            go_on();
            assert!(begun.elapsed() < DEADLINE, "{target} is not answered");
            thread::yield_now();
        };
        assert_eq!(answer.status(), 200, "{target}");
    }
}
