//! Session and refresh tokens: JSON Web Tokens signed with HMAC-SHA256 (docs/protocol.md, section 8.2).
//!
//! The two kinds differ only in their key, so neither is accepted as the other. Only HS256 is accepted. `exp` is
//! required and must lie in the future, to the second and without leeway. A library checks form and signature. This
//! file is about the claims and how they are written, the time, and the logouts. `token/key_ring.rs` has the keys, which may
//! change while the server runs.

mod key_ring;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use engine::id::{Timestamp, UserId};
use engine::limits::USERNAME_BYTES_MAX;
use serde::{Deserialize, Serialize};
use storage::account::Revocation;
use uuid::Uuid;

use self::key_ring::KeyRing;
pub use self::key_ring::Signer;
use crate::ascii_json;
use crate::jose;
use crate::keys::SigningKeys;
use crate::revocations::{Issue, Revocations};

/// Longest `vars`, as JSON before it is escaped for a token.
pub const VARS_BYTES_MAX: usize = 2048;

/// Most pairs in `vars`. Each check of a token reads all of them, and each pair takes two allocations.
pub const VARS_MAX: usize = 64;

/// The longest possible token: each of its texts has its greatest length, and every character is escaped.
pub const TOKEN_BYTES_MAX: usize =
    base64_bytes(HEADER.len()) + base64_bytes(PAYLOAD_BYTES_MAX) + base64_bytes(SIGNATURE_BYTES) + "..".len();

const PAYLOAD_BYTES_MAX: usize = PAYLOAD_BARE.len() + ascii_json::GROWTH_MAX * (USERNAME_BYTES_MAX + VARS_BYTES_MAX);

/// A payload without username and `vars`, whose numbers have the most digits possible.
const PAYLOAD_BARE: &str = concat!(
    r#"{"tid":"00000000-0000-0000-0000-000000000000","uid":"00000000-0000-0000-0000-000000000000","usn":"","vrs":,"#,
    r#""exp":-9223372036854775808,"iat":-9223372036854775808,"seq":-9223372036854775808}"#
);

/// The header of every token, with its members in this order.
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// The size of an HMAC-SHA256 signature.
const SIGNATURE_BYTES: usize = 32;

const NANOSECONDS: i64 = 1_000_000_000;

/// A client's own key-value pairs, carried in its tokens.
pub type Vars = BTreeMap<String, String>;

/// Issues and checks tokens. The whole process has one.
pub struct Tokens {
    keys: ArcSwap<KeyRings>,
    session_ttl: Duration,
    refresh_ttl: Duration,
    revocations: Revocations,
}

/// The keys of both kinds of tokens.
struct KeyRings {
    session: KeyRing,
    refresh: KeyRing,
}

/// A kind of token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenKind {
    Session,
    Refresh,
}

/// What a valid token says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claims {
    pub token: Uuid,
    pub user: UserId,
    pub username: String,
    pub vars: Vars,
    /// Seconds since the Unix epoch.
    pub issued: i64,
    pub expires: i64,
    /// The token's place among the user's sign-ins and logouts. Tokens of earlier versions of the program do not have
    /// it.
    pub sequence: Option<i64>,
}

/// A session token and the token that renews it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenPair {
    pub session: String,
    pub refresh: String,
}

/// Why a token is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenRefusal {
    /// Not a token, not of this kind, or not signed by this server.
    Invalid,
    Expired,
    LoggedOut,
}

/// The payload in its JSON form.
#[derive(Serialize, Deserialize)]
struct Payload {
    tid: Uuid,
    uid: Uuid,
    usn: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    vrs: Vars,
    exp: i64,
    iat: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seq: Option<i64>,
}

impl Tokens {
    /// `kept` are the revocations in the store.
    pub fn new(
        keys: &SigningKeys,
        session_ttl: Duration,
        refresh_ttl: Duration,
        kept: &[Revocation],
        now: Timestamp,
    ) -> Self {
        Self {
            keys: ArcSwap::from_pointee(KeyRings::new(keys)),
            session_ttl,
            refresh_ttl,
            revocations: Revocations::new(session_ttl.max(refresh_ttl), kept, now),
        }
    }

    /// From now on tokens are signed with these keys. Tokens of other keys are refused, except those of a previous key.
    pub fn set_keys(&self, keys: &SigningKeys) {
        self.keys.store(Arc::new(KeyRings::new(keys)));
    }

    /// Issues tokens to a user who has just signed in. When this returns, they are later than all of the user's
    /// logouts.
    pub fn issue(&self, user: UserId, username: &str, vars: Vars, now: Timestamp) -> TokenPair {
        let mut claims = Claims {
            token: Uuid::new_v4(),
            user,
            username: username.to_owned(),
            vars,
            issued: seconds(now),
            expires: 0,
            sequence: None,
        };
        self.revocations.note_issue();
        // Another shard may log the user out meanwhile. Each further round needs one more such logout.
        loop {
            claims.sequence = Some(self.revocations.next_sequence(user, now));
            let pair = self.sign(&claims, now);
            if !self.is_logged_out(&claims) {
                return pair;
            }
        }
    }

    /// Issues tokens that follow those of `claims`. They have the same id and time of issue, so that a logout of one
    /// applies to all.
    pub fn renew(&self, claims: &Claims, username: &str, vars: Vars, now: Timestamp) -> TokenPair {
        self.sign(&Claims { username: username.to_owned(), vars, ..claims.clone() }, now)
    }

    /// The claims of a session token, if it is valid. Otherwise says whether it is malformed, has expired or was
    /// logged out.
    pub fn check_session(&self, token: &str, now: Timestamp) -> Result<Claims, TokenRefusal> {
        self.check(TokenKind::Session, token, now)
    }

    /// The claims of a refresh token, if it is valid. Otherwise says whether it is malformed, has expired or was
    /// logged out.
    pub fn check_refresh(&self, token: &str, now: Timestamp) -> Result<Claims, TokenRefusal> {
        self.check(TokenKind::Refresh, token, now)
    }

    /// The logouts that tokens are checked against.
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// When the last token with the id of `claims` will have expired, if none is renewed from now on.
    pub fn last_expiry(&self, claims: &Claims, now: Timestamp) -> Timestamp {
        let life = self.session_ttl.max(self.refresh_ttl).as_secs() as i64;
        Timestamp(claims.expires.max(seconds(now) + life + 1).saturating_mul(NANOSECONDS))
    }

    /// Whether tokens with these claims have been logged out.
    pub fn is_logged_out(&self, claims: &Claims) -> bool {
        self.revocations.refuses(claims.token, claims.user, claims.issue())
    }

    fn sign(&self, claims: &Claims, now: Timestamp) -> TokenPair {
        let keys = self.keys.load();
        let until = |ttl: Duration| Claims { expires: seconds(now) + ttl.as_secs() as i64, ..claims.clone() };
        let pair = TokenPair {
            session: keys.session.sign(&until(self.session_ttl).payload()),
            refresh: keys.refresh.sign(&until(self.refresh_ttl).payload()),
        };
        debug_assert!(
            keys.session.open(&pair.session, seconds(now)).is_some_and(|payload| payload.tid == claims.token),
            "a token can be read back"
        );
        pair
    }

    fn check(&self, kind: TokenKind, token: &str, now: Timestamp) -> Result<Claims, TokenRefusal> {
        let payload = self.keys.load().of(kind).open(token, seconds(now)).ok_or(TokenRefusal::Invalid)?;
        if payload.exp <= seconds(now) {
            return Err(TokenRefusal::Expired);
        }
        let claims = Claims::from(payload);
        if self.is_logged_out(&claims) { Err(TokenRefusal::LoggedOut) } else { Ok(claims) }
    }
}

/// A token of this kind with these claims, as they are, signed with the present key.
pub fn signed(keys: &SigningKeys, kind: TokenKind, claims: &Claims) -> String {
    KeyRings::new(keys).of(kind).sign(&claims.payload())
}

/// What a token says that one of these keys has signed, even if it has expired: its kind, its claims, and the key. `now` is in
/// seconds.
pub fn opened(keys: &SigningKeys, token: &str, now: i64) -> Option<(TokenKind, Claims, Signer)> {
    let rings = KeyRings::new(keys);
    [TokenKind::Session, TokenKind::Refresh].into_iter().find_map(|kind| {
        let (payload, signer) = rings.of(kind).open_by(token, now)?;
        Some((kind, payload.into(), signer))
    })
}

impl KeyRings {
    fn new(keys: &SigningKeys) -> Self {
        jose::choose_cryptography();
        Self { session: KeyRing::new(&keys.session), refresh: KeyRing::new(&keys.refresh) }
    }

    fn of(&self, kind: TokenKind) -> &KeyRing {
        match kind {
            TokenKind::Session => &self.session,
            TokenKind::Refresh => &self.refresh,
        }
    }
}

impl From<Payload> for Claims {
    fn from(payload: Payload) -> Self {
        Self {
            token: payload.tid,
            user: UserId(payload.uid),
            username: payload.usn,
            vars: payload.vrs,
            issued: payload.iat,
            expires: payload.exp,
            sequence: payload.seq,
        }
    }
}

impl Claims {
    fn payload(&self) -> Payload {
        Payload {
            tid: self.token,
            uid: self.user.0,
            usn: self.username.clone(),
            vrs: self.vars.clone(),
            exp: self.expires,
            iat: self.issued,
            seq: self.sequence,
        }
    }

    /// When the first token of this chain of renewals was issued.
    pub fn issue(&self) -> Issue {
        self.sequence.map_or(Issue::Second(self.issued), Issue::Sequence)
    }
}

/// The length of so many bytes in base64 without padding.
const fn base64_bytes(bytes: usize) -> usize {
    (bytes * 4).div_ceil(3)
}

fn seconds(time: Timestamp) -> i64 {
    time.0.div_euclid(NANOSECONDS)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use base64::Engine;
    use base64::alphabet;
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use jsonwebtoken::{Algorithm, EncodingKey};
    use parking_lot::Mutex;
    use proptest::prelude::*;

    use super::*;
    use crate::client_network::ClientNetwork;
    use crate::options::Secret;
    use crate::revocations::{CutoffOutcome, Maker};
    use runtime::clock;

    pub(crate) const SESSION_TTL: Duration = Duration::from_secs(60);
    pub(crate) const REFRESH_TTL: Duration = Duration::from_secs(3600);

    pub(crate) fn keys() -> SigningKeys {
        SigningKeys::new(Secret::new(*b"session-key-of-the-tests"), Secret::new(*b"refresh-key-of-the-tests"))
    }

    pub(crate) fn tokens() -> Tokens {
        Tokens::new(&keys(), SESSION_TTL, REFRESH_TTL, &[], at(0))
    }

    pub(crate) fn at(second: i64) -> Timestamp {
        Timestamp(second * NANOSECONDS)
    }

    fn user() -> UserId {
        UserId(Uuid::from_u128(7))
    }

    fn maker() -> Maker {
        Maker { user: user(), site: ClientNetwork::UNKNOWN.site().key() }
    }

    fn encode(part: &str) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(part)
    }

    /// A token with any header and payload, signed with the session key.
    fn forge(header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", encode(header), encode(payload));
        let key = EncodingKey::from_secret(keys().session.present.bytes());
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).unwrap();
        format!("{signed}.{signature}")
    }

    #[test]
    fn says_what_was_issued() {
        let tokens = tokens();
        let vars = Vars::from([("lang".to_owned(), "dé\"".to_owned())]);
        let pair = tokens.issue(user(), "alice", vars.clone(), at(100));
        let session = tokens.check_session(&pair.session, at(101)).unwrap();
        let refresh = tokens.check_refresh(&pair.refresh, at(101)).unwrap();
        assert_eq!((session.user, session.username.as_str(), &session.vars), (user(), "alice", &vars));
        assert_eq!((session.issued, session.expires), (100, 160));
        assert_eq!((refresh.issued, refresh.expires), (100, 3700));
        assert_eq!(session.token, refresh.token);
    }

    #[test]
    fn payload_as_clients_decode_it() {
        let pair = tokens().issue(user(), "alice", Vars::new(), at(100));
        let parts: Vec<_> = pair.session.split('.').collect();
        let decode = |part: &str| String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        assert_eq!(decode(parts[0]), r#"{"alg":"HS256","typ":"JWT"}"#);
        let payload: serde_json::Value = serde_json::from_str(&decode(parts[1])).unwrap();
        assert_eq!(payload["uid"], "00000000-0000-0000-0000-000000000007");
        assert_eq!(payload["usn"], "alice");
        assert_eq!((payload["exp"].as_i64(), payload["iat"].as_i64()), (Some(160), Some(100)));
        assert!(payload.get("vrs").is_none());
    }

    /// Made with Python's `hmac` and `base64`.
    const BY_OTHER_HANDS: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.\
        eyJ0aWQiOiIwMDAwMDAwMC0wMDAwLTAwMDAtMDAwMC0wMDAwMDAwMDAwMDEiLCJ1aWQiOiIwMDAwMDAwMC0wMDAwLTAwMDAtMDAwMC0wMDAw\
        MDAwMDAwMDciLCJ1c24iOiJhbGljZSIsInZycyI6eyJsYW5nIjoiZGUifSwiZXhwIjoxNjAsImlhdCI6MTAwfQ.\
        pMAo-ynaLb_Skaj-nZqhs8lxjxlMU9afiJQVjnnsIR4";

    #[test]
    fn the_same_bytes_as_others_make() {
        let claims = Claims {
            token: Uuid::from_u128(1),
            user: user(),
            username: "alice".into(),
            vars: Vars::from([("lang".to_owned(), "de".to_owned())]),
            issued: 100,
            expires: 160,
            sequence: None,
        };
        let tokens = tokens();
        assert_eq!(tokens.renew(&claims, "alice", claims.vars.clone(), at(100)).session, BY_OTHER_HANDS);
        assert_eq!(tokens.check_session(BY_OTHER_HANDS, at(101)), Ok(claims));
    }

    #[test]
    fn expires_to_the_second() {
        let tokens = tokens();
        let pair = tokens.issue(user(), "alice", Vars::new(), at(100));
        assert!(tokens.check_session(&pair.session, Timestamp(160 * NANOSECONDS - 1)).is_ok());
        assert_eq!(tokens.check_session(&pair.session, at(160)), Err(TokenRefusal::Expired));
    }

    #[test]
    fn refuses_all_that_is_not_ours() {
        let tokens = tokens();
        let pair = tokens.issue(user(), "alice", Vars::new(), at(100));
        let check = |token: &str| {
            assert_eq!(tokens.check_session(token, at(101)), Err(TokenRefusal::Invalid), "{token}");
        };
        check("");
        check(".");
        check("..");
        check("a.b.c");
        check(&pair.refresh);
        check(&format!("{}x", pair.session));
        check(&format!("{}=", pair.session));
        check(&format!("{}.x", pair.session));
        check(pair.session.rsplit_once('.').unwrap().0);
        check(&format!("{}.", pair.session.rsplit_once('.').unwrap().0));
        let good = r#"{"tid":"00000000-0000-0000-0000-000000000001","uid":"00000000-0000-0000-0000-000000000007","usn":"a","exp":160,"iat":100}"#;
        assert!(tokens.check_session(&forge(r#"{"typ":"JWT","alg":"HS256"}"#, good), at(101)).is_ok());
        check(&format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode(good)));
        check(&forge(r#"{"alg":"none"}"#, good));
        check(&forge(r#"{"alg":"HS512"}"#, good));
        check(&forge(r#"{"typ":"JWT"}"#, good));
        check(&forge("nonsense", good));
        for critical in [r#"["exp"]"#, r#"["b64"]"#, "[]", "null", r#""exp""#, "{}"] {
            check(&forge(&format!(r#"{{"alg":"HS256","crit":{critical}}}"#), good));
        }
        check(&forge(r#"{"alg":"HS256","\u0063rit":null}"#, good));
        let header = r#"{"alg":"HS256","typ":"JWT"}"#;
        check(&forge(header, &good.replace(r#""exp":160,"#, "")));
        check(&forge(header, &good.replace("160", r#""160""#)));
        check(&forge(header, &good.replace("160", "-160")));
        check(&forge(header, &good.replace("160", "1e999")));
        check(&forge(header, &good.replace(r#""exp":160,"#, r#""exp":160,"exp":9999,"#)));
        check(&forge(header, &good.replace("00000000-0000-0000-0000-000000000007", "alice")));
        check(&forge(header, "nonsense"));
        check(&forge(header, ""));
    }

    #[test]
    fn a_logout_reaches_tokens_renewed_before_and_after() {
        let tokens = tokens();
        let pair = tokens.issue(user(), "alice", Vars::new(), at(100));
        let claims = tokens.check_refresh(&pair.refresh, at(101)).unwrap();
        let renewed = tokens.renew(&claims, "alicia", Vars::new(), at(120));
        let again = tokens.check_session(&renewed.session, at(121)).unwrap();
        assert_eq!((again.token, again.issued, again.expires), (claims.token, 100, 180));
        assert_eq!(again.username, "alicia");
        let expires = tokens.last_expiry(&claims, at(130));
        assert!(expires >= at(130 + 3600));
        tokens.revocations().add_token(claims.token, expires, maker(), at(130));
        for token in [&pair.session, &renewed.session] {
            assert_eq!(tokens.check_session(token, at(131)), Err(TokenRefusal::LoggedOut));
        }
        assert_eq!(tokens.check_refresh(&renewed.refresh, at(131)), Err(TokenRefusal::LoggedOut));
    }

    #[test]
    fn logouts_of_all_tokens_within_one_second() {
        let tokens = tokens();
        let now = Timestamp(100 * NANOSECONDS + 500);
        let mut pair = tokens.issue(user(), "alice", Vars::new(), now);
        for _ in 0..1000 {
            let before = tokens.check_session(&pair.session, now).unwrap();
            assert_eq!(before.issued, 100, "never ahead of the clock");
            let cutoff = tokens.revocations().next_cutoff(user(), Some(before.issue()), now);
            assert_eq!(tokens.revocations().cut(maker(), cutoff, now), CutoffOutcome::InForce);
            assert_eq!(tokens.check_session(&pair.session, now), Err(TokenRefusal::LoggedOut));
            assert_eq!(tokens.check_refresh(&pair.refresh, now), Err(TokenRefusal::LoggedOut));
            pair = tokens.issue(user(), "alice", Vars::new(), now);
        }
        assert!(tokens.check_refresh(&pair.refresh, now).is_ok());
    }

    /// One step in the life of a user, on some shard.
    #[derive(Clone, Debug)]
    enum Step {
        SignIn,
        /// Renews a token that was handed out before.
        Renew(prop::sample::Index),
        /// The logout is written to the store.
        BeginLogout,
        /// The store answers the logout, in any order. The client gets its answer if the logout is in force.
        EndLogout(prop::sample::Index),
        Pass(i64),
        Restart,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => Just(Step::SignIn),
            1 => any::<prop::sample::Index>().prop_map(Step::Renew),
            3 => Just(Step::BeginLogout),
            3 => any::<prop::sample::Index>().prop_map(Step::EndLogout),
            2 => prop_oneof![0..2_000i64, 0..3 * NANOSECONDS].prop_map(Step::Pass),
            1 => Just(Step::Restart),
        ];
        prop::collection::vec(step, 0..40)
    }

    fn check_logouts(steps: Vec<Step>) {
        let mut now = Timestamp(100 * NANOSECONDS);
        let mut tokens = tokens();
        let (mut store, mut under_way) = (Vec::new(), Vec::<Timestamp>::new());
        // Refresh tokens, because they live longest, and whether a logout that was answered came after each.
        let mut handed_out: Vec<(String, bool)> = Vec::new();
        for step in steps {
            match step {
                Step::SignIn => {
                    let pair = tokens.issue(user(), "alice", Vars::new(), now);
                    let claims = tokens.check_session(&pair.session, now).expect("works at once");
                    assert_eq!(claims.issued, seconds(now));
                    handed_out.push((pair.refresh, false));
                }
                Step::Renew(place) if !handed_out.is_empty() => {
                    let (token, logged_out) = handed_out[place.index(handed_out.len())].clone();
                    if let Ok(claims) = tokens.check_refresh(&token, now) {
                        let pair = tokens.renew(&claims, "alice", Vars::new(), now);
                        handed_out.push((pair.refresh, logged_out));
                    }
                }
                Step::BeginLogout => {
                    let cutoff = tokens.revocations().next_cutoff(user(), None, now);
                    store.push(Revocation::User { id: user(), issued_before: cutoff });
                    under_way.push(cutoff);
                }
                Step::EndLogout(place) if !under_way.is_empty() => {
                    let cutoff = under_way.remove(place.index(under_way.len()));
                    match tokens.revocations().cut(maker(), cutoff, now) {
                        CutoffOutcome::InForce => handed_out.iter_mut().for_each(|(_, logged_out)| *logged_out = true),
                        CutoffOutcome::Overtaken => {}
                        // Some of them are refused, but no client was told so.
                        CutoffOutcome::Late => handed_out.retain(|(_, logged_out)| *logged_out),
                    }
                }
                Step::Pass(nanoseconds) => now.0 += nanoseconds,
                Step::Restart => {
                    tokens = Tokens::new(&keys(), SESSION_TTL, REFRESH_TTL, &store, now);
                    // A logout that was not answered may be in force.
                    if !under_way.is_empty() {
                        handed_out.retain(|(_, logged_out)| *logged_out);
                    }
                    under_way.clear();
                }
                Step::Renew(_) | Step::EndLogout(_) => {}
            }
            for (token, logged_out) in &handed_out {
                assert_eq!(tokens.check_refresh(token, now).is_err(), *logged_out);
            }
        }
    }

    /// Shards sign a user in while other shards log the same user out, on the system's clock.
    #[test]
    fn shards_that_issue_and_cut_at_the_same_moment() {
        const ROUNDS: usize = 500;
        let tokens = Tokens::new(&keys(), SESSION_TTL, REFRESH_TTL, &[], clock::wall());
        let (begun, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let handed_out = Mutex::new(Vec::new());
        let sign_in = || {
            let before = begun.load(Ordering::SeqCst);
            let disturbed = ended.load(Ordering::SeqCst) != before;
            let session = tokens.issue(user(), "alice", Vars::new(), clock::wall()).session;
            let good = tokens.check_session(&session, clock::wall()).is_ok();
            assert!(good || disturbed || begun.load(Ordering::SeqCst) != before, "works at once");
            handed_out.lock().push(session);
        };
        let log_out = || {
            begun.fetch_add(1, Ordering::SeqCst);
            let cutoff = tokens.revocations().next_cutoff(user(), None, clock::wall());
            let before = std::mem::take(&mut *handed_out.lock());
            if tokens.revocations().cut(maker(), cutoff, clock::wall()) == CutoffOutcome::InForce {
                for token in before {
                    assert_eq!(tokens.check_session(&token, clock::wall()), Err(TokenRefusal::LoggedOut));
                }
            }
            ended.fetch_add(1, Ordering::SeqCst);
        };
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..ROUNDS).for_each(|_| sign_in()));
                scope.spawn(|| (0..ROUNDS).for_each(|_| log_out()));
            }
        });
        assert_eq!(ended.into_inner(), 2 * ROUNDS);
    }

    /// Reads a token as the `Session` class of the official JavaScript client (2.8.0) does. The payload is the text
    /// between two dots. Every character outside the standard base64 alphabet is dropped. Each byte is a character.
    fn read_by_the_javascript_client(token: &str) -> serde_json::Value {
        let parts: Vec<_> = token.split('.').collect();
        assert_eq!(parts.len(), 3, "{token}");
        let kept = parts[1].replace(|letter: char| !letter.is_ascii_alphanumeric() && !"+/".contains(letter), "");
        // `atob` needs no padding, and ignores bits that are left over.
        let forgiving = GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let bytes = GeneralPurpose::new(&alphabet::STANDARD, forgiving).decode(kept).unwrap();
        let latin_1: String = bytes.into_iter().map(char::from).collect();
        serde_json::from_str(&latin_1).unwrap()
    }

    fn check_javascript_client(username: &str, vars: &Vars) {
        let tokens = tokens();
        let pair = tokens.issue(user(), username, vars.clone(), at(100));
        let claims = tokens.check_refresh(&pair.refresh, at(101)).unwrap();
        let renewed = tokens.renew(&claims, &claims.username, claims.vars.clone(), at(130));
        for token in [&pair.session, &pair.refresh, &renewed.session, &renewed.refresh] {
            let read = read_by_the_javascript_client(token);
            assert_eq!(read["usn"], username);
            assert_eq!(read["uid"], user().0.to_string());
            assert_eq!(read.get("vrs").is_some(), !vars.is_empty());
            for (key, value) in vars {
                assert_eq!(read["vrs"][key], *value, "{key:?} of {vars:?}");
            }
            assert!(token.len() <= TOKEN_BYTES_MAX);
        }
        let session = tokens.check_session(&renewed.session, at(131)).unwrap();
        assert_eq!((session.username.as_str(), &session.vars), (username, vars));
    }

    #[test]
    fn the_javascript_client_reads_names_and_vars_of_any_script() {
        let texts = ["Zoë", "鶏皮もも", "who?", "a>b", "~x", "🎉 party", "\"quoted\"", "\u{7f}", "ÿ\u{ffff}"];
        for text in texts {
            check_javascript_client(text, &Vars::new());
            // At each position in a group of three bytes.
            for padding in ["", "a", "aa"] {
                let padded = format!("{padding}{text}");
                check_javascript_client(&padded, &Vars::from([(padded.clone(), text.to_owned())]));
            }
        }
    }

    #[test]
    fn the_longest_token_is_known() {
        let vars = Vars::from([("k".to_owned(), "?".repeat(VARS_BYTES_MAX - r#"{"k":""}"#.len()))]);
        assert_eq!(serde_json::to_string(&vars).unwrap().len(), VARS_BYTES_MAX);
        let pair = tokens().issue(user(), &"?".repeat(USERNAME_BYTES_MAX), vars, at(i64::from(i32::MAX)));
        let spare = TOKEN_BYTES_MAX - pair.session.len();
        assert!(spare < 128, "{spare} bytes more than any token has");
    }

    proptest! {
        #[test]
        fn an_answered_logout_covers_what_was_handed_out_before_and_nothing_after(steps in steps()) {
            check_logouts(steps);
        }

        #[test]
        fn the_javascript_client_reads_what_was_meant(
            username in "[^\\x00-\\x1f\\x7f]{1,32}",
            vars in prop::collection::btree_map(any::<String>(), any::<String>(), 0..4),
        ) {
            check_javascript_client(&username, &vars);
        }

        #[test]
        fn no_text_panics(text in ".*") {
            assert_eq!(tokens().check_session(&text, at(0)), Err(TokenRefusal::Invalid));
        }

        #[test]
        fn a_changed_byte_is_refused(place: proptest::sample::Index, byte in b' '..=b'~') {
            let tokens = tokens();
            let session = tokens.issue(user(), "alice", Vars::new(), at(100)).session;
            let mut changed = session.clone().into_bytes();
            changed[place.index(session.len())] = byte;
            let changed = String::from_utf8(changed).unwrap();
            assert!(changed == session || tokens.check_session(&changed, at(101)).is_err());
        }
    }
}
