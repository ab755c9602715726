//! Passwords: hashed with Argon2id on a few plain threads, never on a shard's.
//!
//! A hash takes some 20 ms and 19 MiB. A shard that computed it would handle nothing else meanwhile. Shards put the
//! work into one bounded queue and wait for the answer without blocking anything else. If the queue is full, the call
//! fails at once: the user is told to try again, instead of waiting longer than the client does.

use std::io;
use std::thread;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};

/// Clients give up after 7 s. At 25 ms a hash, one thread works through a full queue in less than half of that.
const QUEUE_MAX: usize = 128;

/// The queue's sending side; each shard has a clone. The threads end when the last clone is dropped.
#[derive(Clone)]
pub struct Passwords {
    queue: flume::Sender<Work>,
}

type Work = Box<dyn FnOnce(&Argon2<'_>) + Send>;

/// A password could be neither hashed nor checked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PasswordFailure {
    #[error("too many sign-ins with a password at once")]
    Busy,
    #[error("cannot hash or check a password: {0}")]
    Broken(String),
}

impl Passwords {
    /// Starts the threads, at least one.
    pub fn start(threads: usize) -> io::Result<Self> {
        Self::start_with(threads, Argon2::default())
    }

    fn start_with(threads: usize, argon2: Argon2<'static>) -> io::Result<Self> {
        let (queue, work) = flume::bounded::<Work>(QUEUE_MAX);
        for number in 0..threads.max(1) {
            let (work, argon2) = (work.clone(), argon2.clone());
            let body = move || work.iter().for_each(|job| job(&argon2));
            thread::Builder::new().name(format!("password-{number}")).spawn(body)?;
        }
        Ok(Self { queue })
    }

    /// Like `start`, with the cheapest possible hashes, for tests of everything else.
    #[cfg(test)]
    pub(crate) fn start_cheap() -> Self {
        let params = argon2::Params::new(argon2::Params::MIN_M_COST, 1, 1, None).unwrap();
        let argon2 = Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        Self::start_with(1, argon2).unwrap()
    }

    /// The hash to store for this password, with its own salt, in PHC string form.
    pub async fn hash(&self, password: String) -> Result<String, PasswordFailure> {
        self.answer_of(move |argon2| hash(argon2, &password)).await
    }

    /// Whether this password made the hash `kept`. Without a hash the answer is no, after the same time.
    pub async fn check(&self, password: String, kept: Option<String>) -> Result<bool, PasswordFailure> {
        self.answer_of(move |argon2| match kept {
            Some(kept) => check(argon2, &password, &kept),
            None => hash(argon2, &password).map(|_| false),
        })
        .await
    }

    async fn answer_of<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Argon2<'_>) -> Result<T, PasswordFailure> + Send + 'static,
    ) -> Result<T, PasswordFailure> {
        let (sender, answer) = flume::bounded(1);
        let job: Work = Box::new(move |argon2| {
            // The caller may have gone meanwhile; then the hash is not computed.
            if !sender.is_disconnected() {
                let _ = sender.send(work(argon2));
            }
        });
        self.queue.try_send(job).map_err(|_| PasswordFailure::Busy)?;
        let ended = |_| PasswordFailure::Broken("its thread has ended".into());
        answer.recv_async().await.map_err(ended)?
    }
}

fn hash(argon2: &Argon2<'_>, password: &str) -> Result<String, PasswordFailure> {
    match argon2.hash_password(password.as_bytes()) {
        Ok(hash) => Ok(hash.to_string()),
        Err(error) => Err(PasswordFailure::Broken(error.to_string())),
    }
}

fn check(argon2: &Argon2<'_>, password: &str, kept: &str) -> Result<bool, PasswordFailure> {
    let kept = PasswordHash::new(kept).map_err(|error| PasswordFailure::Broken(error.to_string()))?;
    Ok(argon2.verify_password(password.as_bytes(), &kept).is_ok())
}

#[cfg(test)]
mod tests {
    use glommio::LocalExecutor;

    use super::*;

    #[test]
    fn knows_its_own() {
        LocalExecutor::default().run(async {
            let passwords = Passwords::start_cheap();
            let kept = passwords.hash("correct horse".into()).await.unwrap();
            assert!(kept.starts_with("$argon2id$"), "{kept}");
            assert_ne!(kept, passwords.hash("correct horse".into()).await.unwrap(), "the salt is new each time");
            assert_eq!(passwords.check("correct horse".into(), Some(kept.clone())).await, Ok(true));
            assert_eq!(passwords.check("wrong horse".into(), Some(kept)).await, Ok(false));
            assert_eq!(passwords.check("correct horse".into(), None).await, Ok(false));
            let broken = passwords.check("correct horse".into(), Some(String::new())).await;
            assert!(matches!(broken, Err(PasswordFailure::Broken(_))), "{broken:?}");
        });
    }

    #[test]
    fn a_full_queue_is_said_at_once() {
        let passwords = Passwords::start_cheap();
        let (release, wait) = flume::bounded::<()>(0);
        let (started, has_started) = flume::bounded::<()>(0);
        let block: Work = Box::new(move |_| {
            started.send(()).unwrap();
            let _ = wait.recv();
        });
        passwords.queue.send(block).unwrap();
        has_started.recv().unwrap();
        for _ in 0..QUEUE_MAX {
            passwords.queue.try_send(Box::new(|_| ())).ok().unwrap();
        }
        LocalExecutor::default().run(async {
            assert_eq!(passwords.hash("one more".into()).await, Err(PasswordFailure::Busy));
        });
        drop(release);
    }
}
