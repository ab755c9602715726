//! What is done with each command of the documents.

use How::{By, Not, Run};
use Stage::{Deployed, Load, Operator, Start};

/// What is done with a command.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It is run here.
    Run(Stage),
    /// The test of this name runs it, or the same with other numbers.
    By(&'static str),
    /// No test runs it, for this reason.
    Not(&'static str),
}

/// Where a command is run: `runs.rs` has a test for each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Beside a running server, by its operator.
    Operator,
    /// Against a running server, with small numbers.
    Load,
    /// It starts a server.
    Start,
    /// On the files in `deploy`.
    Deployed,
}

const CONTAINERS: &str = "needs a container runtime";
const KUBERNETES: &str = "needs Kubernetes";
const SYSTEMD: &str = "needs systemd, and changes the machine";
const RELEASE: &str = "builds for minutes; all tests start the same programs, built with fewer optimisations";
const CHECK: &str = "`./check` does it, and runs this test";
const DENY: &str = "builds for minutes; run when `Cargo.lock` changes";
const MEASURED: &str = "a record of what was measured, with a compiler that has nothing else";
const PROVIDER: &str = "needs an identity provider on the network";

const DATABASE: &str = "a_store_moves_to_the_database_and_back";
const BENCH: &str = "documented_commands_are_understood";
const CURL: &str = "the_commands_with_curl_work_one_after_the_other";

/// The page, the command as it is written there, and what is done with it.
pub const COMMANDS: &[(&str, &str, How)] = &[
    ("README.md", "cargo run --release", Not(RELEASE)),
    ("README.md", "./check", Not(CHECK)),
    (
        "README.md",
        r#"TOKEN=$(curl -sS -u defaultkey: 'http://127.0.0.1:7350/v2/account/authenticate/device?username=charles' -d '{"id":"a-device-of-charles"}' | tee /dev/stderr | sed -n 's/.*"token":"\([^"]*\)".*/\1/p')"#,
        By(CURL),
    ),
    ("README.md", r#"curl -sS -H "Authorization: Bearer $TOKEN" 'http://127.0.0.1:7350/v2/account'"#, By(CURL)),
    (
        "README.md",
        r#"curl -sS -H "Authorization: Bearer $TOKEN" 'http://127.0.0.1:7350/v2/channel/2...lobby?limit=10&forward=false'"#,
        By(CURL),
    ),
    ("README.md", "curl -sS http://127.0.0.1:7351/metrics", By(CURL)),
    (
        "README.md",
        "cargo run --release -p loadgen -- room --addr 127.0.0.1:7350 --users 100 --rate 10 --secs 5 --html report.html",
        By("the_load_test_passes"),
    ),
    ("CONTRIBUTING.md", "cargo run --release", Not(RELEASE)),
    ("CONTRIBUTING.md", "./check", Not(CHECK)),
    ("CONTRIBUTING.md", "cargo clippy --workspace --all-targets --profile checked -- -D warnings", Not(CHECK)),
    ("CONTRIBUTING.md", "cargo test --workspace --profile checked --test bad_input", Not(CHECK)),
    ("CONTRIBUTING.md", "cargo install --locked cargo-deny", Not(DENY)),
    ("CONTRIBUTING.md", "cargo deny --locked check -D warnings licenses bans sources", Not(DENY)),
    ("CONTRIBUTING.md", "cargo deny --locked check advisories", Not(DENY)),
    (
        "docs/admin.md",
        r#"curl -H "Authorization: Bearer $(cat stentor-data/admin.token)" http://127.0.0.1:7351/v1/status"#,
        Run(Operator),
    ),
    (
        "docs/benchmarks.md",
        "cargo run --release -p bench -- fanout --members 1000 --rates 10,1000 --secs 3 --repeat 3",
        By(BENCH),
    ),
    (
        "docs/benchmarks.md",
        "cargo run --release -p bench -- fanout --members 5000,15000 --rates 3 --secs 3 --repeat 3",
        By(BENCH),
    ),
    (
        "docs/benchmarks.md",
        "cargo run --release -p bench -- fanout --tls --members 1000 --rates 10,1000 --secs 2 --repeat 2",
        By(BENCH),
    ),
    ("docs/benchmarks.md", "cargo run --release -p bench -- calls", By(BENCH)),
    ("docs/benchmarks.md", "cargo run --release -p bench -- sign-ins", By(BENCH)),
    ("docs/benchmarks.md", "cargo run --release -p bench -- sign-ins --beside OTHER-STENTOR", By(BENCH)),
    ("docs/benchmarks.md", "cargo run --release -p bench -- logouts", By(BENCH)),
    ("docs/benchmarks.md", "cargo run --release -p bench -- stragglers", By(BENCH)),
    ("docs/benchmarks.md", "cargo run --release -p bench -- hostile", By(BENCH)),
    ("docs/benchmarks.md", "cargo run --release -p bench -- hostile --list", By(BENCH)),
    ("docs/benchmarks.md", "cargo run --release -p bench -- reconnects", By(BENCH)),
    ("docs/benchmarks.md", "cargo run --release -p bench -- stores", By(BENCH)),
    ("docs/benchmarks.md", "cargo run --release -p bench -- store --millions 20 --kills 20", By(BENCH)),
    ("docs/benchmarks.md", "cargo run --release -p bench -- shards", By(BENCH)),
    (
        "docs/benchmarks.md",
        "taskset -c 0 stentor --listen HOST:PORT --admin HOST:ADMIN --data DIR --shards 1",
        Run(Start),
    ),
    (
        "docs/benchmarks.md",
        "taskset -c 1 loadgen room --addr HOST:PORT --users 5000 --rate 800 --secs 10 --warmup 2 --hidden --no-persist --payload 200 --baseline [--format protobuf]",
        Run(Load),
    ),
    (
        "docs/benchmarks.md",
        "loadgen room --addr HOST:PORT --users 1000 --rate 20 --secs 15 --hidden --order publisher --json nakama.json",
        Run(Load),
    ),
    (
        "docs/benchmarks.md",
        "loadgen room --addr HOST:PORT --users 1000 --rate 20 --secs 15 --hidden --order publisher --json stentor.json",
        Run(Load),
    ),
    ("docs/benchmarks.md", "loadgen diff nakama.json stentor.json", Run(Load)),
    ("docs/decisions/0007-first-build.md", "mkdir tools", Not(MEASURED)),
    (
        "docs/decisions/0007-first-build.md",
        r#"for program in $(dpkg -L coreutils dash sed grep mawk binutils gcc git | grep -E '^(/usr)?/bin/[^/]+$'); do ln -sf "$program" tools/; done"#,
        Not(MEASURED),
    ),
    (
        "docs/decisions/0007-first-build.md",
        r#"for name in cc as ld ar sh awk; do ln -sf "$(command -v $name)" tools/; done"#,
        Not(MEASURED),
    ),
    (
        "docs/decisions/0007-first-build.md",
        r#"ln -s "$(rustc --print sysroot)"/bin/{cargo,rustc} tools/"#,
        Not(MEASURED),
    ),
    (
        "docs/decisions/0007-first-build.md",
        r#"env -i PATH="$PWD/tools" HOME="$HOME" CARGO_BUILD_JOBS=1 cargo build -p gateway --profile checked --target-dir fresh"#,
        Not(MEASURED),
    ),
    (
        "docs/event.md",
        "loadgen event --scenario rehearsal.toml --addr HOST:7350 --metrics http://HOST:7351/metrics --html rehearsal.html",
        Run(Load),
    ),
    (
        "docs/event.md",
        "loadgen event --scenario rehearsal.toml --addr HOST:7350 --expect-drain 100 --html drain.html",
        By("an_event_goes_on_after_a_drain_and_its_report_shows_how_the_closes_were_spread"),
    ),
    (
        "docs/identity.md",
        "curl -fsS https://id.example.org/realms/event/protocol/openid-connect/certs -o /etc/stentor/jwks.new",
        Not(PROVIDER),
    ),
    ("docs/identity.md", "mv /etc/stentor/jwks.new /etc/stentor/jwks.json && systemctl reload stentor", Not(SYSTEMD)),
    (
        "docs/operations.md",
        "stentor --listen tls::443,127.0.0.1:7350 --tls-cert fullchain.pem --tls-key key.pem",
        Run(Start),
    ),
    ("docs/operations.md", "stentor erase --user alice", Run(Operator)),
    ("docs/operations.md", "stentor backup /var/backups/stentor/monday", Run(Operator)),
    ("docs/operations.md", "stentor verify /var/backups/stentor/monday", Run(Operator)),
    ("docs/operations.md", "stentor restore /var/backups/stentor/monday --data /var/lib/stentor", Run(Operator)),
    (
        "docs/operations.md",
        "prometheus --config.file deploy/prometheus/prometheus.yml",
        By("every_query_of_the_dashboard_has_an_answer"),
    ),
    ("docs/operations.md", "promtool test rules deploy/prometheus/stentor.test.yml", Run(Deployed)),
    ("docs/scylla.md", "docker compose -f deploy/compose.yaml up --build", Not(CONTAINERS)),
    ("docs/scylla.md", "stentor schema --scylla db1:9042,db2:9042,db3:9042 --replication 3 --apply", By(DATABASE)),
    ("docs/scylla.md", "stentor --store scylla --scylla db1:9042,db2:9042,db3:9042", By(DATABASE)),
    ("docs/scylla.md", "stentor import --data ./stentor-data --scylla db1:9042,db2:9042,db3:9042", By(DATABASE)),
    (
        "docs/scylla.md",
        "stentor --data ./stentor-data --store scylla --scylla db1:9042,db2:9042,db3:9042",
        By(DATABASE),
    ),
    ("docs/scylla.md", "stentor export all.export --store scylla --scylla db1:9042", By(DATABASE)),
    ("docs/scylla.md", "stentor import all.export --data ./new-data", By(DATABASE)),
    (
        "deploy/Dockerfile",
        "docker build -f deploy/Dockerfile --build-arg BUILD_COMMIT=$(git rev-parse HEAD) -t stentor .",
        Not(CONTAINERS),
    ),
    (
        "deploy/Dockerfile",
        "docker run --security-opt seccomp=deploy/seccomp.json --ulimit memlock=67108864 --ulimit nofile=1048576 -p 7350:7350 stentor",
        Not(CONTAINERS),
    ),
    (
        "deploy/compose.monitoring.yaml",
        "GRAFANA_PASSWORD=... docker compose -f deploy/compose.yaml -f deploy/compose.monitoring.yaml up --build",
        Not(CONTAINERS),
    ),
    ("deploy/compose.yaml", "docker compose -f deploy/compose.yaml up --build", Not(CONTAINERS)),
    ("deploy/kubernetes.yaml", "kubectl apply -f deploy/kubernetes.yaml", Not(KUBERNETES)),
    (
        "deploy/prometheus/prometheus.yml",
        "prometheus --config.file deploy/prometheus/prometheus.yml",
        By("every_query_of_the_dashboard_has_an_answer"),
    ),
    ("deploy/prometheus/stentor.rules.yml", "promtool check rules deploy/prometheus/stentor.rules.yml", Run(Deployed)),
    ("deploy/prometheus/stentor.rules.yml", "promtool test rules deploy/prometheus/stentor.test.yml", Run(Deployed)),
    ("deploy/stentor.service", "install -m 0755 target/release/stentor /usr/local/bin/stentor", Not(SYSTEMD)),
    (
        "deploy/stentor.service",
        "install -m 0644 deploy/stentor.service /etc/systemd/system/stentor.service",
        Not(SYSTEMD),
    ),
    ("deploy/stentor.service", "systemctl daemon-reload && systemctl enable --now stentor", Not(SYSTEMD)),
];
