//! The options as they come out of flags, environment and file.

use clap::CommandFactory;
use engine::limits::{MEMBERSHIPS_PER_USER_MAX, SESSIONS_PER_USER_MAX, WORK_PER_SESSION_MAX, WORK_PER_USER_MAX};
use std::path::Path;

use super::*;

/// Parses these arguments, behind the program's name. Tests of other files use it too.
pub fn parse(arguments: &[&str]) -> Result<Options, OptionsError> {
    Options::from_arguments(std::iter::once("stentor").chain(arguments.iter().copied()).map(OsString::from))
}

/// The options that these arguments give. Panics if they are wrong.
pub fn options(arguments: &[&str]) -> Options {
    parse(arguments).unwrap()
}

fn with_file(text: &str, arguments: &[&str]) -> Result<Options, OptionsError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("stentor.toml");
    std::fs::write(&path, text).unwrap();
    parse(&[&["--config", path.to_str().unwrap()], arguments].concat())
}

/// Checks that every part of `expected` is in the error.
fn check_error(result: Result<Options, OptionsError>, expected: &[&str]) {
    let error = result.unwrap_err().to_string();
    for part in expected {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
}

fn listen(options: &Options) -> Vec<String> {
    options.listen.iter().map(ToString::to_string).collect()
}

#[test]
fn grpc_is_at_the_port_below_unless_its_address_is_given() {
    let of = |flags: &[&str]| parse(flags).unwrap().grpc.map(|grpc| (grpc.address.to_string(), grpc.is_asked_for));
    let tls = ["--tls-cert", "a", "--tls-key", "b"];
    let with_tls = |flags: &[&'static str]| of(&[flags, &tls[..]].concat());
    let at = |address: &str, is_asked_for| Some((address.to_owned(), is_asked_for));
    assert_eq!(of(&[]), at("localhost:7349", false));
    assert_eq!(of(&["--listen", "unix:/a,127.0.0.1:8000"]), at("127.0.0.1:7999", false));
    assert_eq!(of(&["--listen", ":0"]), at(":0", false), "the kernel chooses both");
    assert_eq!(with_tls(&["--listen", "tls::443"]), at("tls::442", false));
    assert_eq!(with_tls(&["--grpc", "tls::7349"]), at("tls::7349", true));
    assert_eq!(of(&["--grpc", "unix:/b"]), at("unix:/b", true));
    assert_eq!(with_file("grpc = ':1'", &[]).unwrap().grpc.map(|grpc| grpc.address.to_string()), Some(":1".into()));
    for flags in [&["--grpc", "off"][..], &["--listen", "unix:/a"], &["--listen", "127.0.0.1:1"]] {
        assert_eq!(of(flags), None, "{flags:?}");
    }
    check_error(parse(&["--grpc", "7349"]), &["--grpc", "such as 127.0.0.1:7350", "or off"]);
    check_error(parse(&["--grpc", "tls::7349"]), &["tls::7349", "tls_cert"]);
}

#[test]
fn several_addresses() {
    let flags = ["--listen", "127.0.0.1:1,tls:localhost:2", "--tls-cert", "a", "--tls-key", "b"];
    let options = parse(&flags).unwrap();
    assert_eq!(listen(&options), ["127.0.0.1:1", "tls:localhost:2"]);
    assert_eq!(options.tls, Some(TlsFiles { certificate: "a".into(), key: "b".into() }));
    let repeated = parse(&["--listen", ":1", "--listen", "unix:/a"]).unwrap();
    assert_eq!(listen(&repeated), [":1", "unix:/a"]);
    let array = with_file("listen = ['[::1]:1', 'unix:b']", &[]).unwrap();
    assert_eq!(listen(&array), ["[::1]:1", "unix:b"]);
}

#[test]
fn defaults() {
    let options = parse(&[]).unwrap();
    assert_eq!(listen(&options), ["localhost:7350"]);
    assert_eq!(options.admin.map(|admin| admin.to_string()).as_deref(), Some("127.0.0.1:7351"));
    assert_eq!(options.data, Path::new("./stentor-data"));
    assert_eq!((options.store, options.disk_reserve), (StoreKind::Embedded, 256 << 20));
    assert_eq!(options.room_members_max, 1000);
    assert_eq!(options.password_threads, 1);
    assert_eq!(options.server_key, "defaultkey");
    assert_eq!(options.session_ttl, Duration::from_hours(1));
    assert_eq!(options.refresh_ttl, Duration::from_hours(24));
    let limits = options.client_limits;
    assert_eq!((limits.sends_per_second, limits.sessions_per_user_max), (None, Some(SESSIONS_PER_USER_MAX)));
    let work = (limits.work_per_session, limits.work_per_user);
    assert_eq!(work, (Some(WORK_PER_SESSION_MAX), Some(WORK_PER_USER_MAX)));
    assert_eq!((options.session_key, options.refresh_key), (None, None));
}

#[test]
fn a_flag_wins_over_the_file() {
    let file = "listen = '0.0.0.0:1'\nstore = 'memory'\nshards = 3\nsends_per_second = 7\nsessions_per_user = 0\nwork_per_session = 0\nwork_per_user = 7\nsession_ttl = 90\nrefresh_ttl = '2m'\n";
    let options = with_file(file, &["--listen", "[::1]:2", "--sends-per-second", "5", "--session-ttl", "1h"]).unwrap();
    assert_eq!(listen(&options), ["[::1]:2"]);
    assert_eq!(options.store, StoreKind::Memory);
    assert_eq!(options.shards.get(), 3);
    let limits = options.client_limits;
    assert_eq!(limits.sends_per_second, NonZeroU32::new(5));
    assert_eq!(limits.sessions_per_user_max, None, "0 is no limit");
    assert_eq!(limits.memberships_per_user_max, Some(MEMBERSHIPS_PER_USER_MAX));
    assert_eq!((limits.work_per_session, limits.work_per_user), (None, NonZeroU32::new(7)));
    assert_eq!(options.session_ttl, Duration::from_secs(3600));
    assert_eq!(options.refresh_ttl, Duration::from_secs(120));
}

#[test]
fn who_is_let_in() {
    let options = parse(&[]).unwrap();
    assert_eq!((options.process_rates, options.allowed_origins), Default::default());
    let flags = ["--openings-per-second", "1", "--sign-ins-per-second", "2", "--accounts-per-second", "0"];
    let rates = parse(&flags).unwrap().process_rates;
    assert_eq!([rates.openings, rates.sign_ins], [NonZeroU32::new(1), NonZeroU32::new(2)]);
    assert_eq!([rates.accounts, rates.joins], [None, None], "0 is no limit");
    let origins = ["https://a.example", "https://*.b.example"].map(|origin| origin.parse().unwrap());
    let expected = AllowedOrigins::new(origins.to_vec());
    let file = with_file("allowed_origin = ['https://a.example', 'https://*.b.example']", &[]).unwrap();
    assert_eq!(file.allowed_origins, expected);
    let flag = parse(&["--allowed-origin", "https://a.example,https://*.b.example"]).unwrap();
    assert_eq!(flag.allowed_origins, expected);
    check_error(parse(&["--joins-per-second", "many"]), &["joins-per-second", "whole number"]);
    check_error(parse(&["--allowed-origin", "https://*.*.b.example"]), &["--allowed-origin", "one label"]);
    check_error(with_file("allowed_origin = ['https://a.example/chat']", &[]), &["allowed_origin", "no path"]);
    let many: Vec<String> = (0..=ORIGINS_MAX).map(|number| format!("https://a{number}.example")).collect();
    check_error(parse(&["--allowed-origin", &many.join(",")]), &["allowed_origin has 65", "64"]);
}

#[test]
fn commands() {
    let command = |arguments: &[&str]| parse(arguments).unwrap().command;
    assert_eq!(command(&[]), Command::Serve);
    assert_eq!(command(&["schema"]), Command::Schema { apply: false });
    assert_eq!(command(&["schema", "--apply"]), Command::Schema { apply: true });
    assert_eq!(command(&["healthcheck"]), Command::HealthCheck);
    assert_eq!(command(&["import", "--data", "x"]), Command::Import { file: None });
    assert_eq!(command(&["import", "all.export"]), Command::Import { file: Some("all.export".into()) });
    assert_eq!(command(&["export", "all.export", "--store", "scylla"]), Command::Export { file: "all.export".into() });
    assert_eq!(command(&["serve", "--shards", "1"]), Command::Serve);
    let check = Command::Token(TokenCommand::Check { token: "-".into() });
    assert_eq!(command(&["token", "check", "-"]), check);
    check_error(parse(&["token", "new", "--username", "ann"]), &["--user"]);
    check_error(parse(&["token", "new", "--user", "ann", "--username", "ann"]), &["--user", "ann"]);
    assert_eq!(command(&["config", "check"]), Command::Config(ConfigCommand::Check { strict: false }));
    assert_eq!(command(&["config", "--data", "x", "print"]), Command::Config(ConfigCommand::Print));
    check_error(parse(&["export"]), &["stentor export <FILE>"]);
    check_error(parse(&["schema", "all.export"]), &["all.export", "stentor schema"]);
    check_error(parse(&["export", "all.export", "--apply"]), &["--apply"]);
    check_error(parse(&["--apply"]), &["--apply"]);
    check_error(parse(&["sing"]), &["sing"]);
}

#[test]
fn a_previous_key_has_an_end() {
    let file = "session_key = 'the-present-key-0123'\nprevious_session_key = 'the-previous-key-0123'\n";
    let until = "previous_session_key_until = '2026-12-31T18:00:00Z'\n";
    let options = with_file(&format!("{file}{until}"), &[]).unwrap();
    let previous = options.previous_session_key.unwrap();
    assert_eq!((previous.forms.len(), previous.until), (1, 1_798_740_000));
    assert_eq!(previous.forms[0].bytes(), b"the-previous-key-0123");
    check_error(with_file(file, &[]), &["previous_session_key has no end", "previous_session_key_until"]);
    check_error(with_file(until, &[]), &["previous_session_key is not"]);
    let same = file.replace("previous-key-0123", "present-key-0123");
    check_error(with_file(&format!("{same}{until}"), &[]), &["previous_session_key is the present key"]);
    // A key of the data directory is a number in digits, and an operator's own may be the digits.
    let digits = "0f".repeat(32);
    let flags = ["--previous-refresh-key", &digits, "--previous-refresh-key-until", "2026-12-31T18:00:00Z"];
    let forms = parse(&flags).unwrap().previous_refresh_key.unwrap().forms;
    assert_eq!((forms[0].bytes(), forms[1].bytes()), (digits.as_bytes(), &[0x0f; 32][..]));
}

#[test]
fn options_may_stand_before_and_behind_the_command() {
    let of = |arguments: &[&str]| parse(arguments).unwrap().data;
    assert_eq!(of(&["--data", "x", "export", "all.export"]), Path::new("x"));
    assert_eq!(of(&["export", "--data", "x", "all.export"]), Path::new("x"));
    assert_eq!(of(&["export", "all.export", "--data", "x"]), Path::new("x"));
    assert_eq!(of(&["export", "all.export"]), Path::new("./stentor-data"));
}

#[test]
fn a_default_that_is_given_changes_nothing() {
    let plain = parse(&["--shards", "1"]).unwrap();
    let configuration = plain.configuration.clone();
    let mut given = vec!["--shards=1".to_owned()];
    for key in keys() {
        given.extend(key.default().iter().map(|value| format!("{}={value}", key.flag())));
    }
    assert!(given.len() > 15, "{given:?}");
    let given = parse(&given.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    assert_eq!(Options { configuration, ..given }, plain);
}

#[test]
fn password_threads() {
    let of = |options: Options| options.password_threads;
    assert_eq!(of(with_file("password_threads = 64", &[]).unwrap()), 64);
    assert_eq!(of(with_file("password_threads = 7", &["--password-threads", "2"]).unwrap()), 2);
    for wrong in ["0", "65"] {
        check_error(parse(&["--password-threads", wrong]), &["--password-threads", wrong, "1 to 64"]);
    }
}

#[test]
fn room_members() {
    let of = |options: Options| options.room_members_max;
    assert_eq!(of(parse(&["--room-members-max", "1"]).unwrap()), 1);
    assert_eq!(of(with_file("room_members_max = 100000", &[]).unwrap()), 100_000);
    assert_eq!(of(with_file("room_members_max = 7", &["--room-members-max", "8"]).unwrap()), 8);
    for wrong in ["0", "100001"] {
        check_error(parse(&["--room-members-max", wrong]), &["--room-members-max", wrong, "1 to 100000"]);
    }
    check_error(parse(&["--room-members-max", "many"]), &["--room-members-max", "many"]);
}

#[test]
fn keep_alive() {
    let of = |options: Result<Options, OptionsError>| options.unwrap().keep_alive;
    assert_eq!(of(parse(&[])), Duration::from_secs(180));
    assert_eq!(of(parse(&["--keep-alive", "10m"])), Duration::from_secs(600));
    assert_eq!(of(with_file("keep_alive = 5", &[])), Duration::from_secs(5));
    assert_eq!(of(with_file("keep_alive = '1h'", &["--keep-alive", "620s"])), Duration::from_secs(620));
    check_error(parse(&["--keep-alive", "25h"]), &["--keep-alive", "24h"]);
    check_error(parse(&["--keep-alive", "0"]), &["--keep-alive", "1s"]);
}

#[test]
fn the_admin_address_may_be_off() {
    let check = |options: Result<Options, OptionsError>, expected: Option<&str>| {
        assert_eq!(options.unwrap().admin, expected.map(|address| address.parse().unwrap()));
    };
    check(parse(&["--admin", "off"]), None);
    check(parse(&["--admin", "[::1]:0"]), Some("[::1]:0"));
    check(with_file("admin = 'off'", &[]), None);
    check(with_file("admin = 'off'", &["--admin", "127.0.0.1:1"]), Some("127.0.0.1:1"));
    check_error(parse(&["--admin", "7351"]), &["--admin", "7351", "off"]);
    check_error(with_file("admin = 'on'", &[]), &["admin", "on", "off", "stentor.toml"]);
}

#[test]
fn names_of_the_admin_address() {
    let check = |options: Result<Options, OptionsError>, expected: &[&str]| {
        assert_eq!(options.unwrap().admin_hosts, expected);
    };
    check(parse(&[]), &[]);
    check(parse(&["--admin-host", "a.example,b"]), &["a.example", "b"]);
    check(with_file("admin_host = ['a.example', 'b']", &[]), &["a.example", "b"]);
    check(with_file("admin_host = ['a.example']", &["--admin-host", "c"]), &["c"]);
    for wrong in ["a:7351", "a,", "", "a b", "http://a", "[::1]", "a/b"] {
        check_error(parse(&["--admin-host", wrong]), &["admin_host", "such as"]);
    }
}

#[test]
fn proxies_that_are_trusted() {
    let of = |options: Result<Options, OptionsError>| options.unwrap().trusted_proxies;
    let trusted = |networks: &[&str]| TrustedProxies::new(networks.iter().map(|network| network.parse().unwrap()));
    assert_eq!(of(parse(&[])), TrustedProxies::default());
    assert_eq!(of(parse(&["--trusted-proxies", "10.0.0.0/8,::1"])), trusted(&["10.0.0.0/8", "::1"]));
    let file = "trusted_proxies = ['192.0.2.1']\nproxy_protocol = true";
    assert_eq!(of(with_file(file, &[])), trusted(&["192.0.2.1"]).introducing_clients());
    assert_eq!(of(with_file(file, &["--proxy-protocol=false"])), trusted(&["192.0.2.1"]));
    let flags = ["--proxy-protocol", "--trusted-proxies", "::1"];
    assert_eq!(of(parse(&flags)), trusted(&["::1"]).introducing_clients());
    for wrong in ["10.0.0.1/8", "10.0.0.0/33", "proxy.example.org", "::1,", "10.0.0.1 10.0.0.2", ""] {
        check_error(parse(&["--trusted-proxies", wrong]), &["trusted_proxies", "write"]);
    }
    let many = ["10.0.0.1"; NETWORKS_MAX + 1].join(",");
    check_error(parse(&["--trusted-proxies", &many]), &["trusted_proxies", "257", "256"]);
    check_error(parse(&["--proxy-protocol"]), &["proxy_protocol", "trusted_proxies"]);
    check_error(parse(&["--proxy-protocol=maybe", "--trusted-proxies", "::1"]), &["--proxy-protocol", "maybe"]);
}

#[test]
fn mistakes_are_named() {
    check_error(with_file("listn = '0.0.0.0:1'", &[]), &["listn", "listen", "stentor.toml"]);
    check_error(with_file("listen = 'nowhere'", &[]), &["listen", "stentor.toml"]);
    check_error(with_file("session_ttl = 'soon'", &[]), &["session_ttl", "90s"]);
    check_error(with_file("session_ttl = true", &[]), &["session_ttl", "90s"]);
    check_error(with_file("shards = 0", &[]), &["shards"]);
    check_error(with_file("sends_per_second = -1", &[]), &["sends_per_second"]);
    check_error(with_file("listen = ", &[]), &["stentor.toml"]);
    check_error(parse(&["--config", "/nonexistent/x.toml"]), &["/nonexistent/x.toml"]);
    check_error(parse(&["--listen", "7350"]), &["--listen", "'7350'", "such as 127.0.0.1:7350"]);
    check_error(parse(&["--listen", "local host:7350"]), &["--listen", "such as 127.0.0.1:7350"]);
    check_error(parse(&["--listen", "tls::443"]), &["tls::443", "tls_cert", "tls_key"]);
    check_error(parse(&["--tls-cert", "a", "--tls-key", "b"]), &["tls_cert", "write tls:"]);
    check_error(parse(&["--tls-cert", "a", "--listen", "tls::1"]), &["tls::1", "tls_key"]);
    check_error(parse(&["--store", "paper"]), &["paper", "embedded", "memory"]);
    check_error(parse(&["--shards", "257"]), &["--shards", "256"]);
    check_error(parse(&["--server-key", "a:b"]), &["server_key", "colon"]);
    check_error(parse(&["--session-key", "short"]), &["session_key", "16"]);
    check_error(parse(&["--session-key-file", "/nonexistent/key"]), &["session_key_file", "/nonexistent/key"]);
    let same = ["--session-key", "0123456789abcdef", "--refresh-key", "0123456789abcdef"];
    check_error(parse(&same), &["session_key", "refresh_key", "different"]);
    let both = ["--session-key", "0123456789abcdef", "--session-key-file", "/nonexistent/key"];
    check_error(parse(&both), &["session_key_file", "both"]);
    check_error(parse(&["--frobnicate"]), &["--frobnicate"]);
}

#[test]
fn keys_come_from_the_first_layer_that_names_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    std::fs::write(&path, "key-of-the-file-0123456789\n").unwrap();
    let file = format!("session_key_file = '{}'", path.display());
    let key = |options: Options| options.session_key.unwrap();
    assert_eq!(key(with_file(&file, &[]).unwrap()).bytes(), b"key-of-the-file-0123456789");
    let flag = ["--session-key", "key-of-the-flag-0123456789"];
    assert_eq!(key(with_file(&file, &flag).unwrap()).bytes(), b"key-of-the-flag-0123456789");
}

/// The environment belongs to a whole process, so these cases run in a process of their own.
#[test]
fn the_environment_lies_between_flags_and_file() {
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "options::tests::in_an_environment"])
        .env("STENTOR_LISTEN", "127.0.0.2:2")
        .env("STENTOR_SHARDS", "2")
        .env("STENTOR_ROOM_MEMBERS_MAX", "2222")
        .env("STENTOR_SESSION_KEY", "key-of-the-environment")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "run by the test above, in its environment"]
fn in_an_environment() {
    let file = "listen = '127.0.0.3:3'\nshards = 3\nroom_members_max = 3\nstore = 'memory'\nsession_key = 'key-of-the-file-0123456789'";
    let options = with_file(file, &["--listen", "127.0.0.1:1"]).unwrap();
    assert_eq!(listen(&options), ["127.0.0.1:1"]);
    assert_eq!(options.shards.get(), 2);
    assert_eq!(options.room_members_max, 2222);
    assert_eq!(options.store, StoreKind::Memory);
    assert_eq!(options.session_key.unwrap().bytes(), b"key-of-the-environment");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    std::fs::write(&path, "key-of-the-flags-file").unwrap();
    let options = parse(&["--session-key-file", path.to_str().unwrap()]).unwrap();
    assert_eq!(options.session_key.unwrap().bytes(), b"key-of-the-flags-file");
}

#[test]
fn files_with_secrets_are_known() {
    let directory = tempfile::tempdir().unwrap();
    let (path, config) = (directory.path().join("key"), directory.path().join("stentor.toml"));
    std::fs::write(&path, "key-of-the-file-0123456789").unwrap();
    let check = |file: &str, arguments: &[&str], expected: &[&str]| {
        std::fs::write(&config, file).unwrap();
        let given = ["--data", "data", "--config", config.to_str().unwrap()];
        let files = parse(&[&given, arguments].concat()).unwrap().secret_files();
        let names: Vec<_> = files.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, expected, "{file} {arguments:?}");
    };
    let by_path = format!("session_key_file = '{}'", path.display());
    check("", &[], &["session.key", "refresh.key", "admin.token"]);
    check("store = 'memory'", &[], &[]);
    check(&by_path, &[], &["key", "refresh.key", "admin.token"]);
    check("", &["--refresh-key-file", path.to_str().unwrap()], &["key", "session.key", "admin.token"]);
    check("session_key = 'key-in-the-text-0123456789'", &[], &["stentor.toml", "refresh.key", "admin.token"]);
    check(&by_path, &["--session-key", "key-of-the-flag-0123456789"], &["refresh.key", "admin.token"]);
}

#[test]
fn secrets_do_not_show() {
    let options = parse(&["--session-key", "key-of-the-flag-0123456789"]).unwrap();
    assert!(!format!("{options:?}").contains("key-of-the-flag"));
}

#[test]
fn help_names_every_option_and_its_variable() {
    let help = CommandLine::command().render_long_help().to_string();
    let names = ["listen", "admin", "admin-host", "data", "store", "shards", "keep-alive", "server-key", "session-ttl"];
    let others = ["refresh-key-file", "config", "room-members-max", "sends-per-second", "trusted-proxies"];
    for name in names.into_iter().chain(others).chain(["work-per-session", "work-per-user"]) {
        assert!(help.contains(&format!("--{name} ")), "{name} is not in: {help}");
        let variable = format!("STENTOR_{}", name.to_uppercase().replace('-', "_"));
        assert!(help.contains(&variable), "{variable} is not in: {help}");
    }
}

#[test]
fn an_address_is_taken_once() {
    let refused = |arguments: &[&str]| check_error(parse(arguments), &["take the same port", "a port of its own"]);
    refused(&["--listen", "127.0.0.1:9000", "--admin", "127.0.0.1:9000"]);
    refused(&["--listen", "127.0.0.1:9000,127.0.0.1:9000"]);
    refused(&["--listen", "localhost:9000,[::1]:9000"]);
    refused(&["--listen", ":9000", "--admin", "127.0.0.1:9000"]);
    refused(&["--listen", "0.0.0.0:9000", "--admin", "127.0.0.1:9000"]);
    let listen = |addresses: &str| options(&["--listen", addresses, "--admin", "127.0.0.1:9001"]).listen.len();
    assert_eq!(listen("127.0.0.1:0,127.0.0.1:0"), 2, "the system chooses two ports");
    assert_eq!(listen("127.0.0.1:9000,[::1]:9000"), 2);
    assert_eq!(listen("0.0.0.0:9000,[::1]:9001"), 2);
}
