//! Runs a command beside a node of Cassandra, whose address it finds in `STENTOR_TEST_CQL`, and ends as the command did. The
//! node ends with it. With `--durable` first, the node has on disk what it has acknowledged.

use std::process::{Command, ExitCode};

use tests::harness::cassandra::{Cassandra, SHARED_NODE};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    let durable = arguments.next_if(|first| first == "--durable").is_some();
    let Some(program) = arguments.next() else {
        eprintln!("with-cassandra: name a command");
        return ExitCode::FAILURE;
    };
    let cluster = if durable { Cassandra::start_durable() } else { Cassandra::start() };
    let status = Command::new(&program).args(arguments).env(SHARED_NODE, cluster.contact_points()).status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("with-cassandra: {}: {error}", program.display());
            ExitCode::FAILURE
        }
    }
}
