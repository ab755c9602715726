//! How a coordinator and a listening worker meet: each proves that it has the same secret, and neither sends it.
//!
//! The worker sends first: a random number that was not used before. The coordinator answers with a number of its own
//! and a proof over both numbers. Then the worker sends its proof over both. What follows is neither encrypted nor
//! signed: machines that work together must share a trusted network or a tunnel.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::team::lines::{self, LINE_BYTES_MAX, Lines};

/// The longest line from a peer that has not proved that it has the secret.
const LINE_BYTES_BEFORE: usize = 4 * 1024;

/// The secret that both sides have; empty if all workers are on one machine.
#[derive(Clone, Default)]
pub struct Secret(String);

#[derive(Serialize, Deserialize)]
struct Challenge {
    version: String,
    nonce: String,
}

#[derive(Serialize, Deserialize)]
struct Request {
    version: String,
    nonce: String,
    proof: String,
    errand: Errand,
}

/// The purpose of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Errand {
    /// Take the machine for the run with this number until the connection ends, and compare clocks.
    Take { run: u64 },
    /// Start a worker process for the run; its clock is this far behind the coordinator's.
    Work { run: u64, clock_offset_ns: i64 },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Welcome { proof: String, site: Site },
    Refused { why: String },
}

/// What a coordinator needs to know about the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Site {
    /// The worker process, or the process that listens.
    pub pid: u32,
    /// How many descriptors a process may have on that machine.
    pub descriptors: u64,
}

impl Secret {
    pub fn new(secret: Option<String>) -> Self {
        Self(secret.unwrap_or_default())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn proof(&self, side: Side, nonces: [&str; 2], errand: Errand) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_bytes()).expect("HMAC takes keys of any length");
        let about = (format!("{side:?}"), nonces, errand);
        mac.update(&serde_json::to_vec(&about).expect("plain structures always serialise"));
        mac
    }

    fn prove(&self, side: Side, nonces: [&str; 2], errand: Errand) -> String {
        STANDARD.encode(self.proof(side, nonces, errand).finalize().into_bytes())
    }

    fn is_proven(&self, proof: &str, side: Side, nonces: [&str; 2], errand: Errand) -> bool {
        // The comparison takes the same time wherever the two proofs differ.
        STANDARD.decode(proof).is_ok_and(|proof| self.proof(side, nonces, errand).verify_slice(&proof).is_ok())
    }
}

/// The side that proves. It is part of the proof, so a proof cannot be sent back to its maker.
#[derive(Clone, Copy, Debug)]
enum Side {
    Coordinator,
    Worker,
}

fn nonce() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(format!("no randomness: {error}")))?;
    Ok(STANDARD.encode(bytes))
}

fn refused(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why.into())
}

async fn heard<T: for<'a> Deserialize<'a>, R: AsyncRead + Unpin>(lines: &mut Lines<R>) -> io::Result<T> {
    let line = lines.next().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    serde_json::from_slice(line).map_err(|_| refused("it does not speak as a loadgen of this version does"))
}

fn same_version(version: &str) -> Result<(), String> {
    let ours = env!("CARGO_PKG_VERSION");
    let differ = || format!("coordinator and worker are of different versions, {ours} and {version}");
    if version == ours { Ok(()) } else { Err(differ()) }
}

const OTHER_SECRET: &str = "the secrets differ: give both sides the same --secret or LOADGEN_SECRET";

/// The coordinator's side: sends its errand, and learns about the machine.
pub async fn ask<R, W>(lines: &mut Lines<R>, writer: &mut W, secret: &Secret, errand: Errand) -> io::Result<Site>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    lines.allow(LINE_BYTES_BEFORE);
    let challenge: Challenge = heard(lines).await?;
    same_version(&challenge.version).map_err(refused)?;
    let ours = nonce()?;
    let nonces = [challenge.nonce.as_str(), ours.as_str()];
    let proof = secret.prove(Side::Coordinator, nonces, errand);
    let version = env!("CARGO_PKG_VERSION").to_owned();
    lines::write(writer, &Request { version, nonce: ours.clone(), proof, errand }).await?;
    match heard(lines).await? {
        Answer::Refused { why } => Err(refused(why)),
        Answer::Welcome { proof, site } if secret.is_proven(&proof, Side::Worker, nonces, errand) => {
            lines.allow(LINE_BYTES_MAX);
            Ok(site)
        }
        Answer::Welcome { .. } => Err(refused(OTHER_SECRET)),
    }
}

/// A request that has not been answered yet; its sender has proved that it has the secret.
pub struct Visitor {
    pub errand: Errand,
    proof: String,
}

/// The worker's side: receives the errand of a coordinator that has the secret. Other peers get the reason for the
/// refusal.
pub async fn receive<R, W>(lines: &mut Lines<R>, writer: &mut W, secret: &Secret) -> io::Result<Visitor>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    lines.allow(LINE_BYTES_BEFORE);
    let challenge = Challenge { version: env!("CARGO_PKG_VERSION").to_owned(), nonce: nonce()? };
    lines::write(writer, &challenge).await?;
    let request: Request = heard(lines).await?;
    let nonces = [challenge.nonce.as_str(), request.nonce.as_str()];
    let errand = request.errand;
    let judged = same_version(&request.version).and_then(|()| {
        let proven = secret.is_proven(&request.proof, Side::Coordinator, nonces, errand);
        if proven { Ok(()) } else { Err(OTHER_SECRET.to_owned()) }
    });
    if let Err(why) = judged {
        refuse(writer, &why).await?;
        return Err(refused(why));
    }
    lines.allow(LINE_BYTES_MAX);
    Ok(Visitor { errand, proof: secret.prove(Side::Worker, nonces, errand) })
}

impl Visitor {
    pub async fn welcome<W: AsyncWrite + Unpin>(self, writer: &mut W, site: Site) -> io::Result<()> {
        lines::write(writer, &Answer::Welcome { proof: self.proof, site }).await
    }
}

pub async fn refuse<W: AsyncWrite + Unpin>(writer: &mut W, why: &str) -> io::Result<()> {
    lines::write(writer, &Answer::Refused { why: why.to_owned() }).await
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    const SITE: Site = Site { pid: 7, descriptors: 20_000 };
    const ERRAND: Errand = Errand::Work { run: u64::MAX, clock_offset_ns: -5 };

    async fn meet(coordinator: &str, worker: &str) -> (io::Result<Site>, io::Result<Errand>) {
        let (near, far) = tokio::io::duplex(1024);
        let [coordinator, worker] = [coordinator, worker].map(|secret| Secret::new(Some(secret.to_owned())));
        let asking = async {
            let (reader, mut writer) = tokio::io::split(near);
            ask(&mut Lines::new(reader, 10, None), &mut writer, &coordinator, ERRAND).await
        };
        let receiving = async {
            let (reader, mut writer) = tokio::io::split(far);
            let visitor = receive(&mut Lines::new(reader, 10, None), &mut writer, &worker).await?;
            let errand = visitor.errand;
            visitor.welcome(&mut writer, SITE).await.map(|()| errand)
        };
        tokio::join!(asking, receiving)
    }

    #[tokio::test]
    async fn the_same_secret_opens_and_another_is_told_so() {
        for secret in ["", "s"] {
            let (site, errand) = meet(secret, secret).await;
            assert_eq!((site.ok(), errand.ok()), (Some(SITE), Some(ERRAND)), "{secret:?}");
        }
        for (coordinator, worker) in [("", "s"), ("s", ""), ("s", "t")] {
            let (site, errand) = meet(coordinator, worker).await;
            assert!(site.is_err_and(|error| error.to_string().contains("--secret")), "{coordinator:?} {worker:?}");
            assert!(errand.is_err(), "{coordinator:?} {worker:?}");
        }
    }

    #[tokio::test]
    async fn a_proof_is_good_for_one_side_one_errand_and_one_meeting() {
        let secret = Secret::new(Some("s".to_owned()));
        let proof = secret.prove(Side::Coordinator, ["a", "b"], ERRAND);
        assert!(secret.is_proven(&proof, Side::Coordinator, ["a", "b"], ERRAND));
        assert!(!secret.is_proven(&proof, Side::Worker, ["a", "b"], ERRAND));
        assert!(!secret.is_proven(&proof, Side::Coordinator, ["a", "c"], ERRAND));
        assert!(!secret.is_proven(&proof, Side::Coordinator, ["ab", ""], ERRAND));
        assert!(!secret.is_proven(&proof, Side::Coordinator, ["a", "b"], Errand::Take { run: u64::MAX }));
        assert!(!secret.is_proven("", Side::Coordinator, ["a", "b"], ERRAND));
    }

    #[test]
    fn another_version_is_refused_by_both_numbers() {
        assert_eq!(same_version(env!("CARGO_PKG_VERSION")), Ok(()));
        let refusal = same_version("9.9.9").expect_err("another version");
        assert!(refusal.contains("9.9.9") && refusal.contains(env!("CARGO_PKG_VERSION")), "{refusal}");
    }

    #[test]
    fn two_meetings_have_two_numbers() {
        let nonces: std::collections::HashSet<String> = (0..64).map(|_| nonce().expect("randomness")).collect();
        assert_eq!(nonces.len(), 64, "a proof is good for one meeting only if its number is");
    }

    #[tokio::test]
    async fn what_is_no_request_is_refused() {
        for said in ["\n", "{}\n", "GET / HTTP/1.1\r\n\r\n", "half", &"x".repeat(LINE_BYTES_BEFORE + 1)] {
            let (mut near, far) = tokio::io::duplex(16 * 1024);
            near.write_all(said.as_bytes()).await.expect("room in the pipe");
            near.shutdown().await.expect("an open pipe");
            let (reader, mut writer) = tokio::io::split(far);
            let heard = receive(&mut Lines::new(reader, 10, None), &mut writer, &Secret::default()).await;
            assert!(heard.is_err(), "{said:.20}");
        }
    }
}
