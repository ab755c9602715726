//! Refuses tokens, and forgets refusals that are no longer needed.

use crate::account::Revocation;
use crate::rows::Rows;
use crate::{FORGOTTEN_AT_ONCE_MAX, Failure};

/// Stores a revocation, unless the stored revocation of the same token or user refuses as much.
pub fn revoke(rows: &mut impl Rows, revocation: &Revocation) -> Result<(), Failure> {
    let stored = rows.stored_revocations(&[*revocation])?.into_iter().flatten().next();
    if stored.is_none_or(|stored| stored.time() < revocation.time()) {
        rows.put_revocation(stored.as_ref(), revocation);
    }
    Ok(())
}

/// Removes revocations, except those that have since been replaced. Refuses to remove so many at once that other writes
/// would wait for it.
pub fn forget(rows: &mut impl Rows, revocations: &[Revocation]) -> Result<(), Failure> {
    if revocations.len() > FORGOTTEN_AT_ONCE_MAX {
        let length = revocations.len();
        return Err(Failure::Unfit(format!("{length} revocations at once; {FORGOTTEN_AT_ONCE_MAX} are possible")));
    }
    let stored = rows.stored_revocations(revocations)?;
    for (revocation, stored) in revocations.iter().zip(stored) {
        if stored == Some(*revocation) {
            rows.remove_revocation(revocation);
        }
        // An expiry without its revocation would be found again and again.
        rows.remove_expiry(revocation);
    }
    Ok(())
}
