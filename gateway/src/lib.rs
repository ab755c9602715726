//! The server's outer layer: options and keys, tokens and passwords, HTTP, and WebSocket openings.
//!
//! The program itself (`main.rs`) starts these parts and connects them with `engine` and `storage`.

pub mod admin;
pub mod allowed_origins;
pub mod announcement;
mod ascii_json;
pub mod backup;
pub mod beginning;
pub mod byte_shares;
mod channel_queries;
pub mod client_network;
pub mod clock;
pub mod config;
#[cfg(feature = "scylla")]
pub mod database;
#[cfg(not(feature = "scylla"))]
#[path = "no_database.rs"]
pub mod database;
pub mod drain;
pub mod ending;
pub mod file_modes;
pub mod forwarded;
mod full;
mod heads;
pub mod health;
pub mod health_check;
pub mod http;
mod http_tasks;
pub mod identity;
mod jose;
pub mod keys;
pub mod listen_address;
pub mod listeners;
pub mod live;
mod local_http;
pub mod log_levels;
mod log_limit;
pub mod logging;
pub mod machine;
pub mod memory;
mod metrics;
pub mod options;
mod page;
pub mod password;
pub mod peer;
mod percent;
pub mod placement;
pub mod proxy_header;
mod readiness;
pub mod reload;
pub mod revocations;
mod sending;
mod session;
pub mod sign_in;
pub mod sockets;
mod stop_grace;
pub mod supervisor;
mod target;
mod task_time;
pub mod terminal;
mod threaded_http;
pub mod tls;
pub mod token;
pub mod token_command;
pub mod transfer;
pub mod trusted_proxies;
pub mod upgrade;
pub mod version;
pub mod waiting;
