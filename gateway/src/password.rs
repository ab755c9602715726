//! Passwords: hashed with Argon2id on a few plain threads, never on a shard's.
//!
//! A hash takes some 20 ms and 19 MiB. A shard that computed it would handle nothing else meanwhile. Shards put the
//! work into one bounded queue and wait for the answer without blocking anything else. The sites that passwords come from
//! share the queue fairly, within a site its networks do, and within a network the accounts do (`fair_queue.rs`): many
//! guesses wait behind each other, and the sign-in of another account is hashed next. An account at which many sites guess
//! counts as one of them. If there is no place, the call
//! fails at once: the client is told to try again, instead of waiting longer than its user does.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::thread;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use engine::fair_queue::{FairQueue, Turns};
use parking_lot::{Condvar, Mutex};

use crate::client_network::{ClientNetwork, ClientSite};

/// Clients give up after 7 s. At 25 ms a hash, one thread works through so many in less than half of that.
const QUEUE_PER_THREAD_MAX: usize = 128;

/// The queue's sending side; each shard has a clone. The threads end when the last clone is dropped.
#[derive(Clone)]
pub struct Passwords {
    sender: Arc<SendingSide>,
}

/// A password as a client sends it.
#[derive(Clone)]
pub struct GivenPassword {
    pub text: String,
    /// What the client calls the account: an email, a username, or a user's id.
    pub account: String,
    pub from: ClientNetwork,
}

/// Sites whose passwords for one account wait in the lines of the sites. The passwords of further sites wait in a line of the
/// account: many sites that guess at one account take one turn together, and give way before others do.
const SITES_OF_ACCOUNT: usize = 8;

/// Pairs of an account and a network that are remembered: some 2 MiB.
const PROVEN_MAX: usize = 64 << 10;

/// Dropping a job without calling it fails the call that waits for it.
type Job = Box<dyn FnOnce(&Argon2<'_>) + Send>;

/// A job that waits, the account that it is for, and the site that it comes from.
struct Waits {
    account: String,
    site: ClientSite,
    job: Job,
}

/// Whose turn it is, seen from outside.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Origin {
    Site(ClientSite),
    /// All sites from which passwords for this account come.
    Account(String),
}

/// Ends the threads when it is dropped.
struct SendingSide(Arc<Shared>);

struct Shared {
    waiting: Mutex<Waiting>,
    /// Notified when there is work, and at the end.
    rings: Condvar,
}

struct Waiting {
    queue: Queue,
    /// Networks from which the password of an account was right.
    proven: Proven,
    /// From which sites jobs wait for each account, and how many.
    of_accounts: HashMap<String, HashMap<ClientSite, usize>>,
    is_over: bool,
}

/// By origin, site, network and account.
type Queue = FairQueue<Turns<Origin, Turns<ClientSite, Turns<ClientNetwork, Turns<String, VecDeque<Waits>>>>>>;

/// Networks from which the password of an account was right since the server began. Guesses from elsewhere do not keep the
/// account's owner out there.
#[derive(Default)]
struct Proven {
    /// Keyed at random, so that no client can choose names that are taken for others.
    hasher: RandomState,
    known: HashSet<u64>,
    /// The oldest first.
    order: VecDeque<u64>,
}

impl Proven {
    fn has(&self, account: &str, from: ClientNetwork) -> bool {
        self.known.contains(&self.hasher.hash_one((account, from)))
    }

    fn note(&mut self, account: &str, from: ClientNetwork) {
        let pair = self.hasher.hash_one((account, from));
        if !self.known.insert(pair) {
            return;
        }
        self.order.push_back(pair);
        if self.order.len() > PROVEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

impl Waiting {
    /// Puts a job in. Returns the job that finds no place.
    fn put(&mut self, from: ClientNetwork, account: String, job: Job) -> Option<Job> {
        let (site, sites) = (from.site(), self.of_accounts.entry(account.clone()).or_default());
        *sites.entry(site).or_default() += 1;
        let is_guessed_at = sites.len() > SITES_OF_ACCOUNT && !self.proven.has(&account, from);
        let origin = if is_guessed_at { Origin::Account(account.clone()) } else { Origin::Site(site) };
        let path = (origin, (site, (from, (account.clone(), ()))));
        let displaced = self.queue.put(path, Waits { account, site, job });
        displaced.map(|displaced| self.end(displaced))
    }

    fn take(&mut self) -> Option<Job> {
        let taken = self.queue.take();
        taken.map(|taken| self.end(taken))
    }

    fn end(&mut self, Waits { account, site, job }: Waits) -> Job {
        if let Entry::Occupied(mut sites) = self.of_accounts.entry(account) {
            if let Entry::Occupied(mut waiting) = sites.get_mut().entry(site) {
                *waiting.get_mut() -= 1;
                if *waiting.get() == 0 {
                    waiting.remove();
                }
            }
            if sites.get().is_empty() {
                sites.remove();
            }
        }
        debug_assert!(self.of_accounts.len() <= self.queue.len(), "an account is counted while a job waits for it");
        job
    }
}

/// A password could be neither hashed nor checked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PasswordFailure {
    #[error("too many sign-ins with a password at once")]
    Busy,
    #[error("cannot hash or check a password: {0}")]
    Broken(String),
}

impl Passwords {
    /// Starts the threads, at least one. Fails if a thread cannot be started.
    pub fn start(threads: usize) -> io::Result<Self> {
        Self::start_with(threads, Argon2::default())
    }

    fn start_with(threads: usize, argon2: Argon2<'static>) -> io::Result<Self> {
        let threads = threads.max(1);
        let queue = Queue::new(QUEUE_PER_THREAD_MAX * threads);
        let waiting =
            Mutex::new(Waiting { queue, proven: Proven::default(), of_accounts: HashMap::new(), is_over: false });
        let shared = Arc::new(Shared { waiting, rings: Condvar::new() });
        // If a thread cannot be started, dropping this ends the others.
        let sender = Arc::new(SendingSide(shared.clone()));
        for number in 0..threads {
            let (shared, argon2) = (shared.clone(), argon2.clone());
            let body = move || std::iter::from_fn(|| shared.take()).for_each(|job| job(&argon2));
            thread::Builder::new().name(format!("password-{number}")).spawn(body)?;
        }
        Ok(Self { sender })
    }

    /// Like `start`, with the cheapest possible hashes, for tests of everything else.
    #[cfg(test)]
    pub(crate) fn start_cheap() -> Self {
        let params = argon2::Params::new(argon2::Params::MIN_M_COST, 1, 1, None).unwrap();
        let argon2 = Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        Self::start_with(1, argon2).unwrap()
    }

    /// The hash to store for this password, with its own salt, in PHC string form. Fails with `Busy` if the queue has
    /// no place for it.
    pub async fn hash(&self, password: GivenPassword) -> Result<String, PasswordFailure> {
        self.answer_of(password, hash).await
    }

    /// Whether this password made the hash `kept`. Without a hash the answer is no, after the same time. Fails with
    /// `Busy` if the queue has no place for it.
    pub async fn check(&self, password: GivenPassword, kept: Option<String>) -> Result<bool, PasswordFailure> {
        let (account, from) = (password.account.clone(), password.from);
        let checking = self.answer_of(password, move |argon2, text| match kept {
            Some(kept) => check(argon2, text, &kept),
            None => hash(argon2, text).map(|_| false),
        });
        let checked = checking.await;
        if checked == Ok(true) {
            self.sender.0.waiting.lock().proven.note(&account, from);
        }
        checked
    }

    async fn answer_of<T: Send + 'static>(
        &self,
        password: GivenPassword,
        work: impl FnOnce(&Argon2<'_>, &str) -> Result<T, PasswordFailure> + Send + 'static,
    ) -> Result<T, PasswordFailure> {
        let GivenPassword { text, account, from } = password;
        let (sender, answer) = flume::bounded(1);
        let job: Job = Box::new(move |argon2| {
            // The caller may have gone meanwhile; then the hash is not computed.
            if !sender.is_disconnected() {
                let _ = sender.send(work(argon2, &text));
            }
        });
        self.sender.0.put(from, account, job);
        // The job was dropped: there was no place for it, or it gave way to another.
        answer.recv_async().await.map_err(|_| PasswordFailure::Busy)?
    }
}

impl Shared {
    fn put(&self, from: ClientNetwork, account: String, job: Job) {
        let mut waiting = self.waiting.lock();
        debug_assert!(!waiting.is_over, "the threads end when the last sender is gone");
        let displaced = waiting.put(from, account, job);
        drop(waiting);
        self.rings.notify_one();
        // Outside the lock, because dropping a job wakes a shard.
        drop(displaced);
    }

    /// Waits for the next job. Returns `None` at the end.
    fn take(&self) -> Option<Job> {
        let mut waiting = self.waiting.lock();
        loop {
            if waiting.is_over {
                return None;
            }
            if let Some(job) = waiting.take() {
                return Some(job);
            }
            self.rings.wait(&mut waiting);
        }
    }
}

impl Drop for SendingSide {
    fn drop(&mut self) {
        self.0.waiting.lock().is_over = true;
        self.0.rings.notify_all();
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
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use glommio::LocalExecutor;

    use super::*;

    fn given(from: u8, account: &str, text: &str) -> GivenPassword {
        let from = ClientNetwork::of(IpAddr::V4(Ipv4Addr::new(192, 0, 2, from)));
        GivenPassword { text: text.into(), account: account.into(), from }
    }

    #[test]
    fn knows_its_own() {
        LocalExecutor::default().run(async {
            let passwords = Passwords::start_cheap();
            let [right, wrong] = ["correct horse", "wrong horse"].map(|text| given(1, "a", text));
            let kept = passwords.hash(right.clone()).await.unwrap();
            assert!(kept.starts_with("$argon2id$"), "{kept}");
            assert_ne!(kept, passwords.hash(right.clone()).await.unwrap(), "the salt is new each time");
            assert_eq!(passwords.check(right.clone(), Some(kept.clone())).await, Ok(true));
            assert_eq!(passwords.check(wrong, Some(kept)).await, Ok(false));
            assert_eq!(passwords.check(right.clone(), None).await, Ok(false));
            let broken = passwords.check(right, Some(String::new())).await;
            assert!(matches!(broken, Err(PasswordFailure::Broken(_))), "{broken:?}");
        });
    }

    /// Keeps the one thread busy until the returned sender is dropped.
    fn occupy(passwords: &Passwords) -> flume::Sender<()> {
        let (release, wait) = flume::bounded::<()>(0);
        let (started, has_started) = flume::bounded::<()>(0);
        let block: Job = Box::new(move |_| {
            started.send(()).unwrap();
            let _ = wait.recv();
        });
        passwords.sender.0.put(ClientNetwork::UNKNOWN, String::new(), block);
        has_started.recv().unwrap();
        release
    }

    async fn let_others_run() {
        for _ in 0..4 {
            glommio::executor().yield_task_queue_now().await;
        }
    }

    #[test]
    fn a_full_queue_is_said_at_once() {
        let passwords = Passwords::start_cheap();
        let _release = occupy(&passwords);
        let from = given(1, "a", "").from;
        for _ in 0..QUEUE_PER_THREAD_MAX {
            assert!(passwords.sender.0.waiting.lock().put(from, "a".into(), Box::new(|_| ())).is_none());
        }
        LocalExecutor::default().run(async {
            assert_eq!(passwords.hash(given(1, "a", "one more")).await, Err(PasswordFailure::Busy));
        });
    }

    #[test]
    fn many_guesses_refuse_nobody_else() {
        let passwords = Passwords::start_cheap();
        let release = occupy(&passwords);
        LocalExecutor::default().run(async {
            let guess = || {
                let passwords = passwords.clone();
                glommio::spawn_local(async move { passwords.check(given(1, "a", "a guess"), None).await })
            };
            let guesses: Vec<_> = (0..2 * QUEUE_PER_THREAD_MAX).map(|_| guess()).collect();
            let_others_run().await;
            let check = |password: GivenPassword| {
                let passwords = passwords.clone();
                glommio::spawn_local(async move { passwords.check(password, None).await })
            };
            let owner = check(given(2, "a", "the owner's"));
            let other = check(given(1, "b", "another user's"));
            let_others_run().await;
            drop(release);
            assert_eq!((owner.await, other.await), (Ok(false), Ok(false)));
            let mut busy = 0;
            for guess in guesses {
                busy += usize::from(guess.await == Err(PasswordFailure::Busy));
            }
            assert_eq!(busy, QUEUE_PER_THREAD_MAX + 2);
        });
    }

    #[test]
    fn many_sites_that_guess_at_one_account_refuse_no_other_account() {
        let passwords = Passwords::start_cheap();
        let release = occupy(&passwords);
        let check = |site: u16, account: &str| {
            let from = ClientNetwork::of(Ipv4Addr::new(10, (site >> 8) as u8, site as u8, 1).into());
            let (passwords, password) = (passwords.clone(), GivenPassword { from, ..given(1, account, "a guess") });
            glommio::spawn_local(async move { passwords.check(password, None).await })
        };
        LocalExecutor::default().run(async {
            let guesses: Vec<_> = (0..3 * QUEUE_PER_THREAD_MAX as u16).map(|site| check(site, "a")).collect();
            let_others_run().await;
            let others: Vec<_> = (0..20).map(|site| check(1_000 + site, &format!("other {site}"))).collect();
            let_others_run().await;
            drop(release);
            for other in others {
                assert_eq!(other.await, Ok(false));
            }
            let mut checked = 0;
            for guess in guesses {
                checked += usize::from(guess.await == Ok(false));
            }
            assert_eq!(checked, QUEUE_PER_THREAD_MAX - 20, "they had the places that nobody else wanted");
        });
        assert!(passwords.sender.0.waiting.lock().of_accounts.is_empty());
    }

    #[test]
    fn an_owner_is_let_in_from_where_the_password_was_right_while_others_guess() {
        let passwords = Passwords::start_cheap();
        let check = |site: u16, kept: Option<String>| {
            let from = ClientNetwork::of(Ipv4Addr::new(10, (site >> 8) as u8, site as u8, 1).into());
            let (passwords, password) = (passwords.clone(), GivenPassword { from, ..given(1, "a", "the password") });
            glommio::spawn_local(async move { passwords.check(password, kept).await })
        };
        LocalExecutor::default().run(async {
            let kept = passwords.hash(given(1, "a", "the password")).await.unwrap();
            assert_eq!(check(9_000, Some(kept.clone())).await, Ok(true));
            let release = occupy(&passwords);
            let guesses: Vec<_> = (0..3 * QUEUE_PER_THREAD_MAX as u16).map(|site| check(site, None)).collect();
            let_others_run().await;
            let (known, unknown) = (check(9_000, Some(kept.clone())), check(9_001, Some(kept)));
            let_others_run().await;
            drop(release);
            assert_eq!((known.await, unknown.await), (Ok(true), Err(PasswordFailure::Busy)));
            for guess in guesses {
                assert!(matches!(guess.await, Ok(false) | Err(PasswordFailure::Busy)));
            }
        });
    }

    /// A site has 65,536 networks of IPv6, and each of them has work waiting.
    #[test]
    fn one_site_leaves_places_to_others() {
        const GUESSES: usize = 10_000;
        let passwords = Passwords::start_cheap();
        let release = occupy(&passwords);
        let address = |site: u16, subnet: u16| Ipv6Addr::new(0x2001, 0xdb8, site, subnet, 0, 0, 0, 1);
        let check = |site: u16, subnet: u16| {
            let from = ClientNetwork::of(address(site, subnet).into());
            let password = GivenPassword { from, ..given(1, "a", "a guess") };
            let passwords = passwords.clone();
            glommio::spawn_local(async move { passwords.check(password, None).await })
        };
        LocalExecutor::default().run(async {
            let guesses: Vec<_> = (0..GUESSES).map(|number| check(1, number as u16)).collect();
            let_others_run().await;
            let (other_site, other_network) = (check(2, 0), check(1, GUESSES as u16));
            let_others_run().await;
            drop(release);
            assert_eq!(other_site.await, Ok(false));
            assert_eq!(other_network.await, Err(PasswordFailure::Busy), "no network of the site has more than one");
            let mut checked = 0;
            for guess in guesses {
                checked += usize::from(guess.await == Ok(false));
            }
            assert_eq!(checked, QUEUE_PER_THREAD_MAX - 1);
        });
    }

    #[test]
    fn the_threads_end_with_the_last_clone() {
        let passwords = Passwords::start_cheap();
        let shared = Arc::downgrade(&passwords.sender.0);
        drop(passwords.clone());
        assert!(!shared.upgrade().unwrap().waiting.lock().is_over);
        drop(passwords);
        assert!(shared.upgrade().is_none_or(|shared| shared.waiting.lock().is_over));
    }
}
