//! Talks: the server's front door. Options and keys, tokens and passwords, HTTP, and the opening of WebSockets.
//!
//! The program itself (`main.rs`) starts what is here and joins it with `engine` and `storage`.

pub mod http;
pub mod keys;
pub mod options;
pub mod password;
mod percent;
pub mod revocations;
pub mod token;
pub mod upgrade;
