//! `stentor export` and `stentor import` as an operator uses them: clients continue where they were, on another store.

use std::path::Path;
use std::process::Output;

use serde_json::Value;
use tests::harness::{Account, Launch, Server, Socket, data_dir, run_program};

const KEYS: [(&str, &str); 2] =
    [("--session-key", "a session key of moves"), ("--refresh-key", "a refresh key of moves")];
const MESSAGES: usize = 30;

fn launch(data: &Path) -> Launch {
    let launch = Launch::on(data).flag("--session-ttl", 3600);
    KEYS.iter().fold(launch, |launch, (name, key)| launch.flag(name, key))
}

fn program(command: &str, file: &Path, data: &Path) -> Output {
    let words = [command, &file.display().to_string(), "--data", &data.display().to_string()].map(str::to_owned);
    run_program(&words)
}

/// The first ten messages, and the cursor after them.
fn first_page(server: &Server, reader: &Account, channel: &str) -> (Value, String) {
    let page = server.http().history(&reader.token, channel, "limit=10&forward=true").json();
    let cursor = page["next_cursor"].as_str().expect("there are more").to_owned();
    (page["messages"].clone(), cursor)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_store_goes_to_a_file_and_from_there_to_another_directory() {
    let (old, new, files) = (data_dir(), data_dir(), data_dir());
    let server = launch(old.path()).start();
    let reader = server.sign_in("reader");
    let mut socket = Socket::connect(server.address(), &reader.token);
    let channel = socket.join("lobby");
    for n in 0..MESSAGES {
        socket.say(&channel, &format!("{{\"n\":{n}}}"));
    }
    let (page, cursor) = first_page(&server, &reader, &channel);
    let (history, _) = server.http().history_after(&reader.token, &channel, Some(&cursor));
    assert_eq!(history.len(), MESSAGES - 10);
    let file = files.path().join("all.export");
    let busy = program("export", &file, old.path());
    assert!(!busy.status.success() && said(&busy).contains("another process"), "{busy:?}");
    server.stop();

    let exported = program("export", &file, old.path());
    assert!(exported.status.success() && said(&exported).contains("moved and counted"), "{exported:?}");
    let progress = String::from_utf8_lossy(&exported.stderr);
    assert!(progress.lines().any(|line| line.ends_with(" rows")), "without a terminal there are lines: {progress:?}");
    let whole = std::fs::read(&file).expect("the export");
    std::fs::write(&file, &whole[..whole.len() / 2]).expect("our own file");
    let refused = program("import", &file, new.path());
    let says = said(&refused);
    assert!(!refused.status.success() && says.contains("all.export") && says.contains("too early"), "{says}");
    std::fs::write(&file, whole).expect("our own file");
    let imported = program("import", &file, new.path());
    assert!(imported.status.success() && said(&imported).contains("moved and counted"), "{imported:?}");

    let server = launch(new.path()).start();
    assert_eq!(
        first_page(&server, &reader, &channel),
        (page, cursor.clone()),
        "ids, order and cursors are as they were"
    );
    let mut socket = Socket::connect(server.address(), &reader.token);
    socket.join("lobby");
    socket.say(&channel, "{\"n\":\"more\"}");
    let (more, _) = server.http().history_after(&reader.token, &channel, Some(&cursor));
    assert_eq!((&more[..history.len()], more.len()), (&history[..], history.len() + 1));
    assert_eq!(server.sign_in("reader").user_id, reader.user_id);
    server.stop();
}
