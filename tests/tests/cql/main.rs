//! The whole server on a real database: what it promises while the database is fast, slow, away, and back.
//!
//! Apache Cassandra runs on loopback; most of these tests share one node. Between the node and the server is a proxy
//! that simulates network faults.

mod guarded;
mod load;
mod moves;
mod nodes;
mod official;
mod outage;
mod replicas;
mod stage;
mod standby;
