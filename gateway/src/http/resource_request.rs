//! A request as the resources see it.

use engine::budget::Work;
use engine::id::UserId;
use engine::session::user_budgets::Reserved;
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Uri};
use serde::de::DeserializeOwned;

use super::body::RequestBody;
use super::error::Refusal;
use super::services::Services;
use crate::client_network::ClientNetwork;

/// A request whose head and body have arrived.
pub struct ResourceRequest {
    head: Parts,
    body: RequestBody,
    /// The user whose budget pays for the request.
    payer: Option<UserId>,
    from: ClientNetwork,
}

impl ResourceRequest {
    /// The request with this head and body, which was let in. Its costs are charged to `payer`, and it came from a client
    /// in this network.
    pub fn new(head: Parts, body: RequestBody, payer: Option<UserId>, from: ClientNetwork) -> Self {
        Self { head, body, payer, from }
    }

    /// Charges the request's user for the most work that the request can cost, before it begins.
    pub fn reserve(&self, services: &Services, most: Work) -> Option<Reserved> {
        self.payer.map(|payer| services.reserve(payer, most))
    }

    /// Charges the request's user for work that is known only after it is done.
    pub fn charge(&self, services: &Services, work: Work) {
        if let Some(payer) = self.payer {
            services.charge(payer, work);
        }
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
