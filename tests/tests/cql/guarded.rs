//! A database that requires a login, over encrypted connections.

use std::sync::Arc;

use tests::harness::cassandra::{Cassandra, Consistency, Cql, CqlError};

use crate::stage::{Stage, await_health};

#[test]
fn a_server_says_who_it_is_and_is_not_overheard() {
    let (cluster, certificate) = Cassandra::start_guarded();
    let node = &cluster.nodes()[0];
    let mut superuser = node.cql();
    let mut say = |statement: &str| superuser.query(statement, Consistency::One).expect(statement);
    say("CREATE ROLE stentor WITH LOGIN = true AND PASSWORD = 'sesame' AND SUPERUSER = true");
    assert!(matches!(Cql::connect_as(node.address(), "stentor", "wrong"), Err(CqlError::Refused { .. })));

    let (address, cluster) = (node.address(), Arc::new(cluster));
    let login = ["--scylla-user", "stentor", "--scylla-password", "sesame", "--scylla-ca"].map(str::to_owned);
    let login: Vec<String> = login.into_iter().chain([certificate.display().to_string()]).collect();
    let stage = Stage::with(cluster, &login);
    let server = stage.launch(&address.to_string()).flags(login).start();
    await_health(&server, 200);
    server.assert_works("saying who it is");
    let clients = say("SELECT username, ssl_enabled FROM system_views.clients");
    let encrypted = clients.texts("username").into_iter().zip(clients.column("ssl_enabled"));
    let encrypted: Vec<bool> =
        encrypted.filter(|(user, _)| user == "stentor").map(|(_, on)| on == Some(&[1])).collect();
    assert!(!encrypted.is_empty() && encrypted.iter().all(|&on| on), "{encrypted:?}");
    server.stop();
}
