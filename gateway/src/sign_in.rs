//! Who may sign in with a custom id, who may get an account, and the identity provider, as the operator wants it. All of it
//! may change while the server runs.

use crate::identity::IdentityProvider;

/// Who may do something that makes an account or opens one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Access {
    /// Every client program.
    #[default]
    Open,
    /// Users for whom the identity provider speaks.
    Provider,
    /// No client.
    Closed,
}

/// The terms on which users sign in.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SignInTerms {
    /// The provider whose tokens sign users in, if there is one.
    pub provider: Option<IdentityProvider>,
    /// Whether its tokens open sockets without an exchange.
    pub direct: bool,
    /// Who may sign in with a custom id, and link one.
    pub custom: Access,
    /// For whom a sign-in makes an account.
    pub creation: Access,
}

impl SignInTerms {
    /// The provider whose tokens open sockets, if there is one.
    pub fn direct_provider(&self) -> Option<&IdentityProvider> {
        self.provider.as_ref().filter(|_| self.direct && self.custom != Access::Closed)
    }
}
