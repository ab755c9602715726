//! Sessions and the tokens that opened them.

use std::time::Instant;

use tests::harness::{Closed, DEADLINE, Launch, Server, Socket, data_dir};

/// Sessions that expire together.
const SESSIONS: usize = 200;

/// Waits until a token is refused.
fn await_expiry(server: &Server, token: &str) {
    let begun = Instant::now();
    while server.http().get("/v2/account", token).status == 200 {
        assert!(begun.elapsed() < DEADLINE, "the token does not expire");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

fn launch(data: &std::path::Path) -> Launch {
    Launch::on(data).shards(2).flag("--session-ttl", "3s").without_budgets()
}

#[test]
fn sessions_end_with_their_tokens_if_the_operator_wants_it() {
    let data = data_dir();
    let server = launch(data.path()).flags(["--close-on-expiry".to_owned()]).start();
    let account = server.sign_in("ann");
    let mut sockets: Vec<Socket> = (0..SESSIONS).map(|_| Socket::connect(server.address(), &account.token)).collect();
    let expected =
        Closed::Frame { code: 1000, reason: "the token of this session has expired: sign in and connect again".into() };
    for socket in &mut sockets {
        assert_eq!(socket.expect_closed(), expected);
    }
    await_expiry(&server, &account.token);
    server.assert_works("the end of many sessions");
}

#[test]
fn sessions_outlive_their_tokens_otherwise() {
    let data = data_dir();
    let server = launch(data.path()).start();
    let account = server.sign_in("ann");
    let mut socket = Socket::connect(server.address(), &account.token);
    await_expiry(&server, &account.token);
    socket.assert_open();
}
