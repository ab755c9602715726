//! The server of a run, and how users get in.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::wire::Dialect;

/// What every client must know about the server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Target {
    pub server: SocketAddr,
    pub dialect: Dialect,
    pub server_key: String,
    pub sign_in: SignInKind,
    pub account_prefix: String,
    pub read_buffer_bytes: u32,
}

/// By which kind of name the server knows an account.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum SignInKind {
    Custom,
    Device,
}
