//! Sign-ins with wrong passwords, so many that the queue for hashes is full all the time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::stage::{ATTACKER, BYSTANDER, Stage, sign_in};

const GUESSERS: usize = 200;
/// Guesses of each guesser: more than the queue has places, all together.
const GUESSES: usize = 2;

fn sign_in_email(name: &str, password: &str) -> String {
    let body = format!("{{\"email\":\"{name}@example.org\",\"password\":\"{password}\"}}");
    sign_in("email", &format!("Content-Length: {}", body.len()), &body)
}

/// Guesses passwords of this account on many connections at once. Returns how many guesses were refused as too many.
fn guess(stage: &Stage, name: impl Fn(usize) -> String + Sync) -> usize {
    guess_by(stage, |guesser| sign_in_email(&name(guesser), "wrong password"))
}

/// Sends these guesses on many connections at once. Returns how many were refused as too many.
fn guess_by(stage: &Stage, request: impl Fn(usize) -> String + Sync) -> usize {
    let refused = AtomicUsize::new(0);
    thread::scope(|scope| {
        for guesser in 0..GUESSERS {
            let (refused, request) = (&refused, &request);
            scope.spawn(move || {
                for _ in 0..GUESSES {
                    let (head, body) = stage.ask(ATTACKER, request(guesser).as_bytes());
                    if head.starts_with("HTTP/1.1 503 ") {
                        assert!(head.to_lowercase().contains("\r\nretry-after: "), "{head}{body}");
                        refused.fetch_add(1, Ordering::Relaxed);
                    } else {
                        let answered = head.starts_with("HTTP/1.1 401 ") || head.starts_with("HTTP/1.1 200 ");
                        assert!(answered, "{head}{body}");
                    }
                }
            });
        }
    });
    refused.into_inner()
}

/// A stage with an account `owner`.
fn with_owner() -> Stage {
    let stage = Stage::launch();
    let (head, body) = stage.ask(BYSTANDER, sign_in_email("owner", "right password").as_bytes());
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}{body}");
    stage
}

#[test]
fn wrong_guesses_refuse_no_client_at_another_address() {
    let stage = with_owner();
    let refused = stage.beside(BYSTANDER, &sign_in_email("bystander", "right password"), || {
        guess(&stage, |guesser| format!("guessed-{guesser}"))
    });
    assert!(refused > 0, "the queue was full");
    assert!(stage.metric("stentor_http_requests_refused_total{kind=\"passwords_full\"}") >= refused as u64);
    stage.server.assert_works("wrong guesses");
}

#[test]
fn wrong_guesses_do_not_lock_the_owner_out() {
    let stage = with_owner();
    let refused =
        stage.beside(BYSTANDER, &sign_in_email("owner", "right password"), || guess(&stage, |_| "owner".into()));
    assert!(refused > 0, "the queue was full");
}

/// All clients come through one address, as behind a proxy: guesses at one account wait behind each other.
#[test]
fn wrong_guesses_at_one_account_refuse_no_other_account_at_the_same_address() {
    let stage = with_owner();
    let refused =
        stage.beside(ATTACKER, &sign_in_email("bystander", "right password"), || guess(&stage, |_| "owner".into()));
    assert!(refused > 0, "the queue was full");
}

/// The stage trusts a proxy, and the attacker is another one. If the headers counted, the attacker would be two hundred networks with a guess each, and newcomers would find no place.
#[test]
fn made_up_addresses_are_no_networks() {
    let stage = with_owner();
    let refused = stage.beside(BYSTANDER, &sign_in_email("owner", "right password"), || {
        guess_by(&stage, |guesser| {
            let made_up = format!("X-Forwarded-For: 192.0.2.{guesser}\r\nForwarded: for=192.0.2.{guesser}\r\nHost: ");
            sign_in_email(&format!("guessed-{guesser}"), "wrong password").replacen("Host: ", &made_up, 1)
        })
    });
    assert!(refused > 0, "the queue was full");
}
