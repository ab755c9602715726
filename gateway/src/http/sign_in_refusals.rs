//! Why sign-ins are refused, as operators count them.

use engine::counters::SIGN_IN_REFUSALS;

/// The reason, in the order of `SIGN_IN_REFUSALS`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SignInRefusal {
    /// The client program does not have the server key.
    ServerKey,
    Malformed,
    NoAccount,
    WrongPassword,
    /// The identity provider's token is not good.
    ProviderToken,
    /// The account is disabled.
    Banned,
    /// The operator lets no such client sign in, or have an account.
    Closed,
    /// The username, or the credential, belongs to another account.
    Taken,
    /// A page whose origin the operator has not named.
    Origin,
    /// The network has asked for too much.
    OverBudget,
    /// All clients together sign in too fast.
    SignInRate,
    /// All clients together make accounts too fast.
    AccountRate,
    /// The server has too much to do, or the store has failed.
    Unavailable,
}

const _: () = assert!(SignInRefusal::Unavailable as usize + 1 == SIGN_IN_REFUSALS.len());
