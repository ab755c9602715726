//! A request as the resources see it.

use engine::budget::Work;
use engine::id::UserId;
use engine::session::shared_budgets::{Payer, Reserved};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Uri};
use serde::de::DeserializeOwned;

use super::authorization::bearer;
use super::body::RequestBody;
use super::error::Refusal;
use super::services::Services;
use crate::client_network::ClientNetwork;

/// A request that was let in: its body, and the user whose token its head has.
pub struct Received {
    pub body: RequestBody,
    /// `None` if the head has no good session token.
    pub user: Option<UserId>,
}

/// A request whose head and body have arrived.
pub struct ResourceRequest {
    head: Parts,
    body: RequestBody,
    /// The user whose good session token the head has.
    user: Option<UserId>,
    from: ClientNetwork,
}

impl ResourceRequest {
    /// The request with this head, which came from a client in this network and was let in. `received` is its body, and
    /// the user whose token was good when the body was whole.
    pub fn new(head: Parts, received: Received, from: ClientNetwork) -> Self {
        Self { head, body: received.body, user: received.user, from }
    }

    /// The user who sends the request. Refuses a request without a session token that is valid now.
    pub fn user(&self, services: &Services) -> Result<UserId, Refusal> {
        match self.user {
            Some(user) => Ok(user),
            // Only the check knows why the token is not good.
            None => Ok(bearer(services, self.headers())?.user),
        }
    }

    /// To whose budgets the request's work is charged.
    pub fn payer(&self) -> Payer {
        Payer { user: self.user, network: Some(self.from.key()) }
    }

    /// Charges the most work that the request can cost, before it begins.
    pub fn reserve(&self, services: &Services, most: Work) -> Reserved {
        services.reserve(self.payer(), most)
    }

    /// Charges work that is known only after it is done.
    pub fn charge(&self, services: &Services, work: Work) {
        services.charge(self.payer(), work);
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

    /// Parses the object in the body, and frees the body's bytes. Refused if the body is no JSON object of this form.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        self.body.read(&self.head.headers)
    }
}
