//! What a path names, among the resources of this server and the features of the protocol that it lacks
//! (docs/protocol.md, section 1.1).

use engine::counters::HTTP_ROUTES;
use storage::account::CredentialKind;

use super::members::MemberAct;
use crate::percent::{self, UrlPart};

/// What of the protocol's REST API this server does not have, as the beginning of a path below `/v2/`. What is below such
/// a path is lacking, too.
const LACKING: [&str; 21] = [
    "account/link/apple",
    "account/link/facebook",
    "account/link/facebookinstantgame",
    "account/link/gamecenter",
    "account/link/google",
    "account/link/steam",
    "account/unlink/apple",
    "account/unlink/facebook",
    "account/unlink/facebookinstantgame",
    "account/unlink/gamecenter",
    "account/unlink/google",
    "account/unlink/steam",
    "friend/facebook",
    "friend/friends",
    "friend/steam",
    "iap",
    "leaderboard",
    "match",
    "matchmaker",
    "party",
    "tournament",
];

/// What a client that deletes storage objects names in place of a collection.
pub const DELETION: &str = "delete";

/// One more than the segments of the longest path that names something. What follows is not taken apart, so that a path
/// of slashes costs no more than another.
const SEGMENTS_MAX: usize = 5;

/// What a path names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Route {
    Welcome,
    Health,
    /// Whether the process works.
    Alive,
    /// Whether the process should get new clients.
    Ready,
    Socket,
    Authenticate(CredentialKind),
    /// Signing in with a kind of credential that the server does not have.
    LackingSignIn,
    Refresh,
    Logout,
    Account,
    Link(CredentialKind),
    Unlink(CredentialKind),
    Users,
    Groups,
    /// With the group's decoded id, or `None` if it cannot be decoded.
    Group(Option<String>),
    Members(Option<String>),
    MemberAct(Option<String>, MemberAct),
    /// With the user's decoded id, or `None` if it cannot be decoded.
    Memberships(Option<String>),
    Friends,
    Block,
    Notifications,
    /// Storage objects, to be read or written.
    Objects,
    /// A collection of storage objects, by its decoded name, or `None` if it cannot be decoded. A client that deletes
    /// objects names it `delete`.
    Collection(Option<String>),
    /// The same, and the decoded id of a user whose objects are meant.
    CollectionOf(Option<String>, Option<String>),
    /// With the channel's id, if the path has it: decoded, or an inner `None` if it cannot be decoded.
    History(Option<Option<String>>),
    /// With the channel's decoded id, or `None` if it cannot be decoded.
    Presence(Option<String>),
    /// Functions of the server, which it does not have.
    Functions,
    /// What a client's program tells the server for its operator's statistics.
    Event,
    /// A feature of the protocol that this server does not have, as the beginning of its path below `/v2/`.
    Lacking(&'static str),
    Unknown,
}

impl Route {
    /// A path is split before it is decoded, so that a channel's id may contain a slash. A path that is not found is
    /// tried once more with its slashes decoded first, as Nakama decodes all paths.
    pub fn of(path: &str) -> Self {
        if path.is_empty() || path == "/" {
            return Self::Welcome;
        }
        let Some(path) = path.strip_prefix('/') else { return Self::Unknown };
        match Self::of_segments(path) {
            Self::Unknown | Self::Lacking(_) if path.contains("%2F") || path.contains("%2f") => {
                Self::of_segments(&path.replace("%2F", "/").replace("%2f", "/"))
            }
            route => route,
        }
    }

    /// The place among `HTTP_ROUTES` under which its requests are counted.
    pub fn counted(&self) -> usize {
        match self {
            Self::Health | Self::Alive | Self::Ready => 0,
            Self::Authenticate(_) => 1,
            Self::Refresh | Self::Logout => 2,
            Self::Account | Self::Link(_) | Self::Unlink(_) => 3,
            Self::Users => 4,
            Self::Groups | Self::Group(_) | Self::Members(_) | Self::MemberAct(..) | Self::Memberships(_) => 5,
            Self::Friends | Self::Block => 6,
            Self::Notifications => 7,
            Self::History(_) => 8,
            Self::Presence(_) => 9,
            Self::Event => 10,
            Self::Objects | Self::Collection(_) | Self::CollectionOf(..) => 11,
            Self::Welcome | Self::Socket | Self::LackingSignIn | Self::Functions | Self::Lacking(_) | Self::Unknown => {
                12
            }
        }
    }

    fn of_segments(path: &str) -> Self {
        let decoded: Vec<Option<String>> =
            path.splitn(SEGMENTS_MAX, '/').map(|segment| percent::decode(segment, UrlPart::Path)).collect();
        let names: Vec<&str> = decoded.iter().map(|segment| segment.as_deref().unwrap_or(NO_NAME)).collect();
        let id = |place: usize| decoded[place].clone();
        let route = match names.as_slice() {
            ["healthcheck"] => Some(Self::Health),
            ["healthz"] => Some(Self::Alive),
            ["readyz"] => Some(Self::Ready),
            ["ws"] => Some(Self::Socket),
            ["v2", "account", "session", "refresh"] => Some(Self::Refresh),
            ["v2", "session", "logout"] => Some(Self::Logout),
            ["v2", "account"] => Some(Self::Account),
            ["v2", "user"] => Some(Self::Users),
            ["v2", "group"] => Some(Self::Groups),
            ["v2", "friend"] => Some(Self::Friends),
            ["v2", "friend", "block"] => Some(Self::Block),
            ["v2", "rpc", ..] => Some(Self::Functions),
            ["v2", "event"] => Some(Self::Event),
            ["v2", "notification"] => Some(Self::Notifications),
            ["v2", "storage"] => Some(Self::Objects),
            ["v2", "storage", _] => Some(Self::Collection(id(2))),
            ["v2", "storage", _, _] => Some(Self::CollectionOf(id(2), id(3))),
            ["v2", "channel"] => Some(Self::History(None)),
            ["v2", "channel", _] => Some(Self::History(Some(id(2)))),
            ["v2", "channel", _, "presence"] => Some(Self::Presence(id(2))),
            ["v2", "group", _] => Some(Self::Group(id(2))),
            ["v2", "group", _, "user"] => Some(Self::Members(id(2))),
            ["v2", "group", _, act] => MemberAct::named(act).map(|act| Self::MemberAct(id(2), act)),
            ["v2", "user", _, "group"] => Some(Self::Memberships(id(2))),
            ["v2", "account", "authenticate", kind] => {
                Some(credential_kind(kind).map_or(Self::LackingSignIn, Self::Authenticate))
            }
            ["v2", "account", "authenticate", ..] => Some(Self::LackingSignIn),
            ["v2", "account", "link", kind] => credential_kind(kind).map(Self::Link),
            ["v2", "account", "unlink", kind] => credential_kind(kind).map(Self::Unlink),
            _ => None,
        };
        let lacking = || match names.as_slice() {
            ["v2", below @ ..] => LACKING.into_iter().find(|feature| begins_with(below, feature)),
            _ => None,
        };
        route.or_else(|| lacking().map(Self::Lacking)).unwrap_or(Self::Unknown)
    }
}

/// Whether these segments begin with those of the path.
fn begins_with(segments: &[&str], path: &str) -> bool {
    let mut segments = segments.iter();
    path.split('/').all(|expected| segments.next() == Some(&expected))
}

const _: () = assert!(HTTP_ROUTES.len() == 13);

/// Stands for a segment that cannot be decoded. No name contains a slash.
const NO_NAME: &str = "/";

fn credential_kind(name: &str) -> Option<CredentialKind> {
    match name {
        "device" => Some(CredentialKind::Device),
        "custom" => Some(CredentialKind::Custom),
        "email" => Some(CredentialKind::Email),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_decoded_once() {
        for (path, route) in [
            ("/%77s", Route::Socket),
            ("/health%63heck", Route::Health),
            ("/v2%2Faccount", Route::Account),
            ("/v2/account%2fauthenticate%2Fdevice", Route::Authenticate(CredentialKind::Device)),
            ("/v2/%61ccount/session/refresh", Route::Refresh),
            ("/v2/%2561ccount", Route::Unknown),
            ("/v2/account%2525", Route::Unknown),
            ("/v2/account/%zz", Route::Unknown),
            ("/%zz", Route::Unknown),
            ("/v2", Route::Unknown),
            ("/v2/", Route::Unknown),
            ("/v2/account/", Route::Unknown),
            ("//v2/account", Route::Unknown),
            ("/v2/account/authenticate/device/x/y/z", Route::LackingSignIn),
            ("/v2/channel/2...a/presence/x/y", Route::Unknown),
            ("/v2/account/link/apple", Route::Lacking("account/link/apple")),
            ("/v2%2Faccount/link%2Fapple", Route::Lacking("account/link/apple")),
            ("/v2/account/link/facebookinstantgame/x", Route::Lacking("account/link/facebookinstantgame")),
            ("/v2/account/link/appl", Route::Unknown),
            ("/v2/account/link", Route::Unknown),
            ("/v2/friend/friends", Route::Lacking("friend/friends")),
            ("/v2/friend/x", Route::Unknown),
            ("/v2/group/x/y", Route::Unknown),
            ("/v2/matchmaker/stats", Route::Lacking("matchmaker")),
            ("/v2/leaderboard/x/owner/y", Route::Lacking("leaderboard")),
            ("/v2/leaderboards", Route::Unknown),
            ("/v2/rpc/say", Route::Functions),
            ("/v2/event", Route::Event),
            ("/v2/event/x", Route::Unknown),
            ("/v2/storage", Route::Objects),
            ("/v2/storage/", Route::Collection(Some(String::new()))),
            ("/v2/storage/a%2Fb%20c", Route::Collection(Some("a/b c".into()))),
            ("/v2/storage/%ff/x", Route::CollectionOf(None, Some("x".into()))),
            ("/v2/storage/a/b/c", Route::Unknown),
            ("*", Route::Unknown),
            ("", Route::Welcome),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }

    #[test]
    fn requests_are_counted_under_what_they_ask_for() {
        for (path, name) in [
            ("/healthz", "health"),
            ("/v2/account/authenticate/email", "authenticate"),
            ("/v2/session/logout", "session"),
            ("/v2/account/link/email", "account"),
            ("/v2/user", "user"),
            ("/v2/user/x/group", "group"),
            ("/v2/friend/block", "friend"),
            ("/v2/notification", "notification"),
            ("/v2/channel/2...a", "history"),
            ("/v2/channel/2...a/presence", "presence"),
            ("/v2/storage", "storage"),
            ("/v2/storage/delete", "storage"),
            ("/v2/storage/saves/x", "storage"),
            ("/v2/event", "event"),
            ("/v2/account/authenticate/steam", "other"),
            ("/x", "other"),
        ] {
            assert_eq!(HTTP_ROUTES[Route::of(path).counted()], name, "{path}");
        }
    }

    #[test]
    fn channel_ids_in_paths() {
        let id = |path: &str| match Route::of(path) {
            Route::History(id) => id,
            other => panic!("{path} is {other:?}"),
        };
        assert_eq!(id("/v2/channel"), None);
        assert_eq!(id("/v2/channel/"), Some(Some("".into())));
        assert_eq!(id("/v2/channel/2...a%2Fb+c%20d"), Some(Some("2...a/b+c d".into())));
        assert_eq!(id("/v2/channel/2...%ff"), Some(None));
        assert_eq!(Route::of("/v2/channel/2...a/b"), Route::Unknown);
        assert_eq!(Route::of("/v2/channel/2...a%2Fb/presence"), Route::Presence(Some("2...a/b".into())));
        assert_eq!(Route::of("/v2/channel/2...%ff/presence"), Route::Presence(None));
        assert_eq!(id("/v2/channel/presence"), Some(Some("presence".into())));
        assert_eq!(Route::of("/v2/channel/2...a/presence/b"), Route::Unknown);
    }
}
