//! Creates and changes accounts, adds and removes their credentials, and deletes accounts with everything that belongs
//! to them.

use engine::id::{Timestamp, UserId};

use super::{groups, revocations};
use crate::account::{
    AccountChange, Changed, Credential, CredentialKind, CredentialOwner, DEVICES_MAX, Linked, Registered, Registration,
    Revocation, Unlinked,
};
use crate::rows::{FreeUsername, Rows};
use crate::{Failure, NAME_BYTES_MAX};

/// Creates an account with its first credential, unless the credential opens another account or the username is taken.
/// Fails only if the store does.
pub fn register(rows: &mut impl Rows, registration: &Registration) -> Result<Registered, Failure> {
    let Registration { account, credential, secret } = registration;
    check_name(&account.username)?;
    check_name(&credential.ident)?;
    if let Some(owner) = rows.credential(credential)? {
        return Ok(Registered::Existing(owner));
    }
    let Some(username) = FreeUsername::find(rows, &account.username)? else {
        return Ok(Registered::UsernameTaken);
    };
    rows.put_username(username, account.id);
    rows.put_credential(credential, &CredentialOwner { user: account.id, secret: secret.clone() });
    rows.put_account(account);
    Ok(Registered::Created)
}

/// Changes the fields of an account that its owner may set. A new username must be free. Fails only if the store does.
pub fn change(
    rows: &mut impl Rows,
    user: UserId,
    change: &AccountChange,
    update_time: Timestamp,
) -> Result<Changed, Failure> {
    let Some(mut account) = rows.account(user)? else {
        return Ok(Changed::NotFound);
    };
    if let Some(username) = &change.username
        && *username != account.username
    {
        check_name(username)?;
        let Some(username) = FreeUsername::find(rows, username)? else {
            return Ok(Changed::UsernameTaken);
        };
        rows.put_username(username, user);
        rows.remove_username(&account.username, user);
    }
    change.apply_to(&mut account, update_time);
    rows.put_account(&account);
    Ok(Changed::Done)
}

/// Adds a credential to an account. An account has one custom id and one email, so a new one replaces the old one.
/// Adding the email that the account has already replaces its secret.
pub fn link(
    rows: &mut impl Rows,
    user: UserId,
    credential: &Credential,
    secret: &str,
    time: Timestamp,
) -> Result<Linked, Failure> {
    check_name(&credential.ident)?;
    let Some(mut account) = rows.account(user)? else {
        return Ok(Linked::NotFound);
    };
    let owner = rows.credential(credential)?;
    match owner {
        Some(owner) if owner.user != user => return Ok(Linked::Taken),
        Some(_) if credential.kind != CredentialKind::Email => return Ok(Linked::Done),
        _ => {}
    }
    match credential.kind {
        CredentialKind::Device if account.devices.len() >= DEVICES_MAX => return Ok(Linked::TooManyDevices),
        CredentialKind::Device => account.devices.push(credential.ident.clone()),
        CredentialKind::Custom => replace(rows, credential, &mut account.custom_id),
        CredentialKind::Email => replace(rows, credential, &mut account.email),
    }
    account.update_time = time;
    debug_assert!(account.bears(credential), "an account names the credentials that open it");
    rows.put_account(&account);
    rows.put_credential(credential, &CredentialOwner { user, secret: secret.to_owned() });
    Ok(Linked::Done)
}

fn replace(rows: &mut impl Rows, credential: &Credential, ident: &mut String) {
    if !ident.is_empty() {
        rows.remove_credential(&Credential { kind: credential.kind, ident: std::mem::take(ident) });
    }
    ident.clone_from(&credential.ident);
}

/// Removes a credential from an account, but never the last one.
pub fn unlink(
    rows: &mut impl Rows,
    user: UserId,
    credential: &Credential,
    time: Timestamp,
) -> Result<Unlinked, Failure> {
    check_name(&credential.ident)?;
    let Some(mut account) = rows.account(user)? else {
        return Ok(Unlinked::NotFound);
    };
    if rows.credential(credential)?.is_none_or(|owner| owner.user != user) {
        return Ok(Unlinked::NotFound);
    }
    if account.credentials().len() <= 1 {
        return Ok(Unlinked::LastCredential);
    }
    match credential.kind {
        CredentialKind::Device => account.devices.retain(|device| *device != credential.ident),
        CredentialKind::Custom => account.custom_id.clear(),
        CredentialKind::Email => account.email.clear(),
    }
    account.update_time = time;
    debug_assert!(!account.bears(credential), "an account names no credential that does not open it");
    rows.remove_credential(credential);
    rows.put_account(&account);
    Ok(Unlinked::Done)
}

/// Deletes an account, its credentials, its name and its memberships; refuses its tokens; and notes that its messages
/// are still to be deleted. Returns false if there is no such account.
pub fn delete(rows: &mut impl Rows, user: UserId, time: Timestamp) -> Result<bool, Failure> {
    let Some(account) = rows.account(user)? else {
        return Ok(false);
    };
    groups::depart_in_silence(rows, user, time)?;
    for credential in account.credentials() {
        if rows.credential(&credential)?.is_some_and(|owner| owner.user == user) {
            rows.remove_credential(&credential);
        }
    }
    if rows.user_by_username(&account.username)? == Some(user) {
        rows.remove_username(&account.username, user);
    }
    rows.remove_account(user);
    rows.abandon_user(user)?;
    revocations::revoke(rows, &Revocation::User { id: user, issued_before: time })?;
    rows.put_account_deletion(user);
    Ok(true)
}

/// Refuses names that the key space has no room for.
fn check_name(name: &str) -> Result<(), Failure> {
    match name.len() {
        1..=NAME_BYTES_MAX => Ok(()),
        length => Err(Failure::Unfit(format!("a name of {length} bytes; 1 to {NAME_BYTES_MAX} are possible"))),
    }
}
