//! A deployment moves to the database, and later moves back to one machine. Both times clients continue where they
//! were.

use tests::harness::cassandra::{Cassandra, Keyspace};
use tests::harness::{Launch, Socket, data_dir, run_program};

#[test]
fn a_store_moves_to_the_database_and_back() {
    let (data, elsewhere) = (data_dir(), data_dir());
    let keyspace = Keyspace::on(Cassandra::shared());
    let database = keyspace.flags(&keyspace.cluster.contact_points());
    let keys =
        ["--session-key", "a session key of moves", "--refresh-key", "a refresh key of moves"].map(str::to_owned);
    let launch = |data: &tempfile::TempDir| Launch::on(data.path()).flag("--session-ttl", 3600).flags(keys.clone());
    let run = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).chain(database.clone()).collect();
        let done = run_program(&words);
        assert!(done.status.success(), "{words:?}: {done:?}");
    };

    let server = launch(&data).start();
    let reader = server.sign_in("reader");
    let mut socket = Socket::connect(server.address(), &reader.token);
    let channel = socket.join("lobby");
    for n in 0..30 {
        socket.say(&channel, &format!("{{\"n\":{n}}}"));
    }
    let page = server.http().history(&reader.token, &channel, "limit=10&forward=true").json();
    let cursor = page["next_cursor"].as_str().expect("there are more").to_owned();
    let (mut history, _) = server.http().history_after(&reader.token, &channel, Some(&cursor));
    server.stop();

    let directory = data.path().display().to_string();
    run(&["import", "--data", &directory]);
    let server = launch(&data).flags(database.clone()).start();
    let mut socket = Socket::connect(server.address(), &reader.token);
    socket.join("lobby");
    socket.say(&channel, "{\"n\":\"more\"}");
    let (longer, _) = server.http().history_after(&reader.token, &channel, Some(&cursor));
    assert_eq!((&longer[..history.len()], longer.len()), (&history[..], history.len() + 1));
    history = longer;
    assert_eq!(server.sign_in("reader").user_id, reader.user_id);
    server.stop();

    let file = data.path().join("all.export").display().to_string();
    run(&["export", &file]);
    let new = elsewhere.path().display().to_string();
    let words = ["import", &file, "--data", &new];
    let done = run_program(&words);
    assert!(done.status.success(), "{done:?}");
    let server = launch(&elsewhere).start();
    let (kept, _) = server.http().history_after(&reader.token, &channel, Some(&cursor));
    assert_eq!(kept, history);
    let mut socket = Socket::connect(server.address(), &reader.token);
    socket.join("lobby");
    socket.say(&channel, "{\"n\":\"even more\"}");
    assert_eq!(server.sign_in("reader").user_id, reader.user_id);
    server.stop();
}
