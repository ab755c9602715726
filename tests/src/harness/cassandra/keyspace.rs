//! A keyspace for one test, with tables that the program makes, as for operators.

use std::sync::Arc;

use super::super::server::run_program;
use super::{Cassandra, Consistency};

/// A keyspace with the server's tables, on a cluster that other tests may share.
pub struct Keyspace {
    pub cluster: Arc<Cassandra>,
    pub name: String,
}

impl Keyspace {
    /// Makes a keyspace with as many copies as there are nodes.
    pub fn on(cluster: Arc<Cassandra>) -> Self {
        Self::with(cluster, &[])
    }

    /// The same, with these flags for the login.
    pub fn with(cluster: Arc<Cassandra>, login: &[String]) -> Self {
        let keyspace = Self { name: Cassandra::unused_keyspace(), cluster };
        let copies = keyspace.cluster.nodes().len().to_string();
        let mut arguments = vec!["schema".to_owned(), "--apply".to_owned(), "--replication".to_owned(), copies];
        arguments.extend(keyspace.flags(&keyspace.cluster.contact_points()));
        arguments.extend(login.iter().cloned());
        let applied = run_program(&arguments);
        assert!(applied.status.success(), "{applied:?}");
        keyspace
    }

    /// The flags of a server that uses this keyspace and reaches the database at `nodes`.
    pub fn flags(&self, nodes: &str) -> [String; 6] {
        ["--store", "scylla", "--scylla", nodes, "--keyspace", &self.name].map(str::to_owned)
    }

    /// The ids of all messages in the database, as bytes, in no order.
    pub fn message_ids(&self) -> Vec<Vec<u8>> {
        let asked = format!("SELECT message_id FROM {}.messages", self.name);
        let rows = self.cluster.nodes()[0].cql().query(&asked, Consistency::Quorum).expect("the database answers");
        // A partition without messages still has a row with its static columns.
        rows.column("message_id").flatten().map(<[u8]>::to_vec).collect()
    }
}
