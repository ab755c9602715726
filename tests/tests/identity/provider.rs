//! An identity provider whose tokens Node signs (`clients/provider.mjs`).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tests::harness::Launch;

pub const ISSUER: &str = "https://id.example";
pub const AUDIENCE: &str = "chat";

/// A provider with its keys in a directory.
pub struct Provider {
    directory: PathBuf,
    keys: Vec<[&'static str; 2]>,
}

impl Provider {
    /// A provider with these keys: an id and an algorithm each. The last one signs.
    pub fn new(directory: &Path, keys: &[[&'static str; 2]]) -> Self {
        std::fs::create_dir_all(directory).expect("our own directory");
        let provider = Self { directory: directory.to_owned(), keys: keys.to_vec() };
        provider.sign(&[]);
        provider
    }

    /// The set of public keys.
    pub fn set(&self) -> PathBuf {
        self.directory.join("jwks.json")
    }

    /// The public key with this id, as PEM.
    pub fn pem(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}.pem"))
    }

    /// A token for each of these claims.
    pub fn sign(&self, claims: &[Value]) -> Vec<String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/provider.mjs");
        let (keys, claims) = (json!(self.keys).to_string(), json!(claims).to_string());
        let output = Command::new("node").arg(script).arg(&self.directory).args([keys, claims]).output();
        let output = output.expect("node starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("tokens").lines().map(str::to_owned).collect()
    }

    /// A good token of this user.
    pub fn token(&self, subject: &str, name: &str) -> String {
        self.sign(&[claims(subject, name)]).remove(0)
    }
}

/// Good claims of this user.
pub fn claims(subject: &str, name: &str) -> Value {
    let now = now();
    json!({"iss": ISSUER, "sub": subject, "aud": AUDIENCE, "exp": now + 600, "iat": now, "preferred_username": name})
}

/// Claims with another value for one of them.
pub fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

/// Seconds since the Unix epoch.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs()
}

/// Names the provider to a server.
pub fn trusting(launch: Launch, keys: &Path) -> Launch {
    launch
        .flag("--identity-issuer", ISSUER)
        .flag("--identity-audience", AUDIENCE)
        .flag("--identity-keys", keys.display())
}
