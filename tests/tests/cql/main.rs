//! The whole server on a real database: what is promised when that is quick, slow, away, and back.
//!
//! Apache Cassandra runs on loopback, one node for most of these tests together; between it and the server stands a proxy
//! that does what networks do.

mod guarded;
mod load;
mod moves;
mod nodes;
mod official;
mod outage;
mod replicas;
mod stage;
