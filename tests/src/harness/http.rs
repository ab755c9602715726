//! The REST side, through `ureq`: sends requests unchanged and returns answers unchanged, including failures.

use std::net::SocketAddr;

use serde_json::{Value, json};
use ureq::http;

use super::DEADLINE;

/// `Authorization` of a sign-in with the default server key, `defaultkey`.
pub const SERVER_KEY: &str = "Basic ZGVmYXVsdGtleTo=";

/// A signed-in user.
#[derive(Clone, Debug)]
pub struct Account {
    pub user_id: String,
    pub username: String,
    pub token: String,
    pub refresh_token: String,
}

/// A status, headers and a body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: String,
}

impl Answer {
    /// The body as JSON. Panics with the body if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in the body {:?}", self.body))
    }

    /// A header's value, or `None` if it is missing or not visible ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A client of one server.
pub struct Http {
    address: SocketAddr,
    agent: ureq::Agent,
}

impl Http {
    /// A client of the server at this address. Each request has the same deadline.
    pub fn new(address: SocketAddr) -> Self {
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(DEADLINE)).build();
        Self { address, agent: config.into() }
    }

    /// The server's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends one request with exactly these headers.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Answer {
        self.try_request(method, path, headers, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// The same, but returns an error if the server ends meanwhile.
    pub fn try_request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Result<Answer, ureq::Error> {
        let body = body.into();
        let mut request = http::Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = if body.is_empty() {
            self.agent.run(request.body(()).expect("a request"))
        } else {
            self.agent.run(request.body(body).expect("a request"))
        };
        let mut response = response?;
        let body = response.body_mut().read_to_string()?;
        Ok(Answer { status: response.status().as_u16(), headers: response.headers().clone(), body })
    }

    /// Sends a request with a session token. Panics if there is no answer.
    pub fn get(&self, path: &str, token: &str) -> Answer {
        self.request("GET", path, &[("Authorization", &bearer(token))], "")
    }

    /// Sends a JSON body with an `Authorization` header. Panics if there is no answer.
    pub fn post(&self, path: &str, authorization: &str, body: &Value) -> Answer {
        self.request("POST", path, &[("Authorization", authorization)], body.to_string())
    }

    /// Signs in with a custom id made from the name. The name becomes the username.
    pub fn sign_in(&self, name: &str) -> Account {
        let path = format!("/v2/account/authenticate/custom?create=true&username={name}");
        let answer = self.post(&path, SERVER_KEY, &json!({ "id": format!("custom-id-of-{name}") }));
        assert_eq!(answer.status, 200, "signing in {name}: {}", answer.body);
        let tokens = answer.json();
        let text = |member: &str| tokens[member].as_str().expect("a token").to_string();
        let (token, refresh_token) = (text("token"), text("refresh_token"));
        let answer = self.get("/v2/account", &token);
        assert_eq!(answer.status, 200, "account of {name}: {}", answer.body);
        let user = &answer.json()["user"];
        let (user_id, username) = (user["id"].as_str(), user["username"].as_str());
        Account {
            user_id: user_id.expect("a user id").to_string(),
            username: username.expect("a username").to_string(),
            token,
            refresh_token,
        }
    }

    /// One page of history.
    pub fn history(&self, token: &str, channel: &str, parameters: &str) -> Answer {
        self.get(&format!("/v2/channel/{channel}?{parameters}"), token)
    }

    /// Everything after `cursor` (or from the beginning), oldest first, and the cursor after all of it.
    pub fn history_after(&self, token: &str, channel: &str, cursor: Option<&str>) -> (Vec<Value>, Option<String>) {
        let mut messages = Vec::new();
        let mut next = cursor.map(str::to_string);
        let mut behind = next.clone();
        loop {
            let parameters = match &next {
                Some(cursor) => format!("limit=100&forward=true&cursor={cursor}"),
                None => "limit=100&forward=true".to_string(),
            };
            let answer = self.history(token, channel, &parameters);
            assert_eq!(answer.status, 200, "history of {channel}: {}", answer.body);
            let page = answer.json();
            messages.extend(page["messages"].as_array().into_iter().flatten().cloned());
            if let Some(cursor) = page["cacheable_cursor"].as_str() {
                behind = Some(cursor.to_string());
            }
            match page["next_cursor"].as_str() {
                Some(cursor) => next = Some(cursor.to_string()),
                None => return (messages, behind),
            }
        }
    }
}

/// The `Authorization` header of a signed-in request.
pub fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}
