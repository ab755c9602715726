//! `stentor token`: makes and checks tokens with the keys of a server, without asking it.

use std::fmt::Write as _;
use std::io::Read;
use std::time::{Duration, UNIX_EPOCH};

use engine::id::{Timestamp, UserId};
use runtime::clock;
use uuid::Uuid;

use crate::identity::{self, IDENTITY_TOKEN_BYTES_MAX};
use crate::keys::SigningKeys;
use crate::options::{Options, TokenCommand};
use crate::token::{self, Claims, Signer, TOKEN_BYTES_MAX, TokenKind, VARS_BYTES_MAX, VARS_MAX, Vars};

/// Longest input that is read for a token. A longer one is none.
const INPUT_BYTES_MAX: usize = TOKEN_BYTES_MAX + IDENTITY_TOKEN_BYTES_MAX;

/// Carries the command out. Returns what is to be printed. Fails with a line for the operator, also if a token that was to be
/// checked is not valid.
pub fn run(options: &Options, command: &TokenCommand) -> Result<String, String> {
    let now = clock::wall();
    match command {
        TokenCommand::New { user, username, lifetime, vars, refresh } => {
            let vars = checked_vars(vars)?;
            let user = (UserId(*user), username.as_str());
            let lifetime = lifetime.map(|lifetime| lifetime.0);
            new(options, user, vars, lifetime, *refresh, now)
        }
        TokenCommand::Check { token } if token == "-" => check(options, &from_standard_input()?, now),
        TokenCommand::Check { token } => check(options, token.trim(), now),
    }
}

fn new(
    options: &Options,
    (user, username): (UserId, &str),
    vars: Vars,
    lifetime: Option<Duration>,
    refresh: bool,
    now: Timestamp,
) -> Result<String, String> {
    let lifetime = lifetime.unwrap_or(options.session_ttl);
    let longest = options.session_ttl.max(options.refresh_ttl);
    if lifetime > longest {
        let [asked, longest] = [lifetime, longest].map(humantime::format_duration);
        return Err(format!(
            "a token of {asked} could outlive its own logout: the server remembers logouts for {longest}, the longer of \
             session_ttl and refresh_ttl; give a shorter --lifetime, or raise --refresh-ttl here and at the server"
        ));
    }
    let keys = SigningKeys::existing(options).map_err(|error| error.to_string())?;
    let issued = seconds(now);
    let until = |life: Duration| issued.saturating_add(i64::try_from(life.as_secs()).unwrap_or(i64::MAX));
    let (token, username) = (Uuid::new_v4(), username.to_owned());
    let claims = Claims { token, user, username, vars, issued, expires: until(lifetime), sequence: None };
    let mut lines = token::signed(&keys, TokenKind::Session, &claims) + "\n";
    if refresh {
        let claims = Claims { expires: until(options.refresh_ttl), ..claims };
        lines += &(token::signed(&keys, TokenKind::Refresh, &claims) + "\n");
    }
    Ok(lines)
}

fn check(options: &Options, text: &str, now: Timestamp) -> Result<String, String> {
    let keys = SigningKeys::existing(options);
    let ours = keys.as_ref().ok().and_then(|keys| token::opened(keys, text, seconds(now)));
    if let Some((kind, claims, signer)) = ours {
        return described(kind, &claims, signer, now);
    }
    let ours = match keys {
        Ok(_) => "it is not signed with a key of this server".to_owned(),
        Err(error) => format!("this server's own tokens cannot be checked: {error}"),
    };
    let Some(provider) = &options.sign_in.provider else {
        return Err(format!("not valid: {ours}, and no identity provider is configured"));
    };
    if !identity::is_token(text) {
        return Err(format!("not valid: {ours}, and it has not the form of an identity provider's token"));
    }
    let user = provider
        .check(text, now)
        .map_err(|why| format!("not valid: {ours}, and the identity provider's token is not good: {why}"))?;
    let mut said = "valid: a token of the identity provider\n".to_owned();
    let _ = writeln!(said, "  subject    {}", shown(&user.subject));
    let _ = writeln!(said, "  custom id  {}", shown(&user.custom_id));
    let _ = writeln!(said, "  name       {}", user.name.as_deref().map_or_else(|| "none".to_owned(), shown));
    let _ = writeln!(said, "  expires    {}", moment(user.expires));
    let _ = writeln!(said, "  signed by  {}", user.key);
    Ok(said)
}

/// What is said of a token of this server. An error if it has expired.
fn described(kind: TokenKind, claims: &Claims, signer: Signer, now: Timestamp) -> Result<String, String> {
    let kind = match kind {
        TokenKind::Session => "a session token",
        TokenKind::Refresh => "a refresh token",
    };
    let mut said = String::new();
    let _ = writeln!(said, "  user       {}", claims.user.0);
    let _ = writeln!(said, "  username   {}", shown(&claims.username));
    for (key, value) in &claims.vars {
        let _ = writeln!(said, "  var        {}={}", shown(key), shown(value));
    }
    let _ = writeln!(said, "  issued     {}", moment(claims.issued));
    let _ = writeln!(said, "  expires    {}", moment(claims.expires));
    let _ = match signer {
        Signer::Present => writeln!(said, "  signed by  the present key"),
        Signer::Previous(until) => writeln!(said, "  signed by  the previous key, accepted until {}", moment(until)),
    };
    if claims.expires <= seconds(now) {
        return Err(format!("not valid: {kind} that has expired\n{}", said.trim_end()));
    }
    Ok(format!("valid, unless it was logged out: {kind}\n{said}"))
}

fn checked_vars(pairs: &[(String, String)]) -> Result<Vars, String> {
    let vars: Vars = pairs.iter().cloned().collect();
    let bytes = serde_json::to_string(&vars).map_or(usize::MAX, |json| json.len());
    if vars.len() > VARS_MAX || bytes > VARS_BYTES_MAX {
        return Err(format!("vars have at most {VARS_MAX} pairs and {VARS_BYTES_MAX} bytes as JSON"));
    }
    Ok(vars)
}

fn from_standard_input() -> Result<String, String> {
    let mut text = String::new();
    let bound = INPUT_BYTES_MAX as u64 + 1;
    let read = std::io::stdin().lock().take(bound).read_to_string(&mut text);
    read.map_err(|error| format!("standard input cannot be read: {error}"))?;
    Ok(text.trim().to_owned())
}

/// The text without characters that a terminal might obey.
fn shown(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '?' } else { character }).collect()
}

fn moment(second: i64) -> String {
    /// The last second of the year 9999, which is the last that can be written.
    const LAST: u64 = 253_402_300_799;
    let since = Duration::from_secs(u64::try_from(second).unwrap_or(0).min(LAST));
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
}

fn seconds(time: Timestamp) -> i64 {
    time.0.div_euclid(1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Command;
    use crate::options::tests::options;

    const KEYS: [&str; 4] = ["--session-key", "0123456789abcdef", "--refresh-key", "fedcba9876543210"];
    const USER: &str = "00000000-0000-0000-0000-000000000007";

    fn run(arguments: &[&str], more: &[&str]) -> Result<String, String> {
        let options = options(&[&["token"], arguments, &KEYS[..], more].concat());
        let Command::Token(command) = &options.command else { panic!("another command") };
        super::run(&options, command)
    }

    fn new(more: &[&str]) -> Result<Vec<String>, String> {
        let made = run(&["new", "--user", USER, "--username", "ann"], more)?;
        Ok(made.lines().map(str::to_owned).collect())
    }

    #[test]
    fn a_new_token_is_valid_and_described() {
        let tokens = new(&["--var", "lang=de", "--var", "a=b=c", "--lifetime", "30m", "--refresh"]).unwrap();
        assert_eq!(tokens.len(), 2);
        let said = run(&["check", &tokens[0]], &[]).unwrap();
        for part in ["valid, unless it was logged out: a session token", USER, "ann", "lang=de", "a=b=c", "present key"]
        {
            assert!(said.contains(part), "{part} is not in {said}");
        }
        assert!(run(&["check", &tokens[1]], &[]).unwrap().contains("a refresh token"));
        let keys = SigningKeys::new(
            crate::options::Secret::new(*b"0123456789abcdef"),
            crate::options::Secret::new(*b"fedcba9876543210"),
        );
        let (_, claims, _) = token::opened(&keys, &tokens[0], 0).unwrap();
        assert_eq!(claims.expires - claims.issued, 1800);
    }

    #[test]
    fn a_token_may_not_outlive_its_logout() {
        assert!(new(&["--lifetime", "25h"]).unwrap_err().contains("--refresh-ttl"));
        assert!(new(&["--lifetime", "25h", "--refresh-ttl", "25h"]).is_ok());
    }

    #[test]
    fn what_is_not_valid_says_why() {
        let check = |token: &str, more: &[&str], expected: &str| {
            let said = run(&["check", token], more).unwrap_err();
            assert!(said.starts_with("not valid: ") && said.contains(expected), "{said}");
        };
        check("nonsense", &[], "not signed with a key of this server");
        let token = new(&[]).unwrap().remove(0);
        let keys = |session: &'static str| options(&["--session-key", session, KEYS[2], KEYS[3]]);
        let other = keys("another-key-012345");
        let said = super::check(&other, &token, clock::wall()).unwrap_err();
        assert!(said.contains("not signed with a key of this server"), "{said}");
        let later = Timestamp(clock::wall().0 + 3601 * 1_000_000_000);
        let said = super::check(&keys("0123456789abcdef"), &token, later).unwrap_err();
        assert!(said.contains("a session token that has expired") && said.contains(USER), "{said}");
    }

    #[test]
    fn the_previous_key_is_named() {
        let token = new(&[]).unwrap().remove(0);
        let rotated = |until: &str| {
            options(&[
                "--session-key",
                "the-next-key-0123456",
                "--previous-session-key",
                KEYS[1],
                "--previous-session-key-until",
                until,
                KEYS[2],
                KEYS[3],
            ])
        };
        let said = super::check(&rotated("2100-01-01T00:00:00Z"), &token, clock::wall()).unwrap();
        assert!(said.contains("the previous key, accepted until 2100-01-01T00:00:00Z"), "{said}");
        assert!(super::check(&rotated("2020-01-01T00:00:00Z"), &token, clock::wall()).is_err());
    }

    #[test]
    fn no_key_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let options = options(&["token", "check", "x", "--data", data.to_str().unwrap()]);
        let said = super::check(&options, "x", clock::wall()).unwrap_err();
        assert!(said.contains("session.key") && !data.exists(), "{said}");
    }
}
