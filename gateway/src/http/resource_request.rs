//! A request as the resources see it.

use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Uri};
use serde::de::DeserializeOwned;

use super::body::RequestBody;
use super::error::Refusal;
use crate::client_network::ClientNetwork;

/// A request whose head and body have arrived.
pub struct ResourceRequest {
    head: Parts,
    body: RequestBody,
    from: ClientNetwork,
}

impl ResourceRequest {
    /// The request with this head and body, which came from a client in this network.
    pub fn new(head: Parts, body: RequestBody, from: ClientNetwork) -> Self {
        Self { head, body, from }
    }

    /// The method, as the client sent it.
    pub fn method(&self) -> &Method {
        &self.head.method
    }

    /// The target.
    pub fn uri(&self) -> &Uri {
        &self.head.uri
    }

    /// The head's headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// The network of the client.
    pub fn from(&self) -> ClientNetwork {
        self.from
    }

    /// Parses the object in the body, and frees the body's bytes.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        self.body.read(&self.head.headers)
    }
}
