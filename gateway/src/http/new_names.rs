//! Names of new accounts: the name that the client or the identity provider wants, or ten random letters.

use engine::limits::USERNAME_BYTES_MAX;
use uuid::Uuid;

use super::account::is_username;

/// How often a name is tried that the server chooses. Two of 52^10 names are equal once in a while; eight times in a row they
/// never are.
const TRIES: usize = 8;

/// Of these tries, how many keep the name that the provider wants.
const PREFERRED_TRIES: usize = 5;

/// Letters behind the name that a provider wants, if another user has it.
const SUFFIX_LETTERS: usize = 4;

/// The name that a new account is to have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum WantedName {
    /// This one and no other: the client has chosen it.
    Chosen(String),
    /// This one if it is free: the user did not choose it for this server.
    Preferred(String),
    Any,
}

impl WantedName {
    /// The name by the provider's word, or else by the client's, if there is one.
    pub fn of(by_provider: Option<String>, by_client: Option<String>) -> Self {
        match (by_provider.filter(|name| is_username(name)), by_client) {
            (Some(name), _) => Self::Preferred(name),
            (None, Some(name)) => Self::Chosen(name),
            (None, None) => Self::Any,
        }
    }

    /// The names to try, one after another, until one is free.
    pub fn tries(&self) -> impl Iterator<Item = String> {
        let number = if matches!(self, Self::Chosen(_)) { 1 } else { TRIES };
        (0..number).map(move |number| match self {
            Self::Chosen(name) => name.clone(),
            Self::Preferred(name) if number == 0 => name.clone(),
            Self::Preferred(name) if number < PREFERRED_TRIES => with_suffix(name),
            Self::Preferred(_) | Self::Any => random_letters(10),
        })
    }
}

/// The name, shorter if it must be, with some random letters.
fn with_suffix(name: &str) -> String {
    let end = (0..=USERNAME_BYTES_MAX - SUFFIX_LETTERS - 1).rev().find(|end| name.is_char_boundary(*end));
    let kept = name.get(..end.unwrap_or(0).min(name.len())).unwrap_or(name);
    format!("{kept}-{}", random_letters(SUFFIX_LETTERS))
}

/// So many letters, drawn from the randomness of an id, at most ten.
fn random_letters(count: usize) -> String {
    const LETTERS: &[u8; 52] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    // The low 62 bits of an id of version 4 are random; ten letters take 57.
    let mut random = Uuid::new_v4().as_u128() & ((1 << 62) - 1);
    let mut letter = || {
        let index = (random % 52) as usize;
        random /= 52;
        char::from(LETTERS[index])
    };
    std::iter::repeat_with(&mut letter).take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_usernames_are_ten_letters() {
        let names: Vec<String> = WantedName::Any.tries().collect();
        assert_eq!(names.len(), TRIES);
        for name in &names {
            assert!(name.len() == 10 && name.chars().all(|letter| letter.is_ascii_alphabetic()), "{name}");
        }
        assert_ne!(names[0], names[1]);
    }

    #[test]
    fn a_chosen_name_is_tried_once_and_a_preferred_one_varied() {
        let ann = || Some("ann".to_owned());
        assert_eq!(WantedName::of(None, ann()).tries().collect::<Vec<_>>(), ["ann"]);
        let names: Vec<String> = WantedName::of(ann(), Some("bob".into())).tries().collect();
        assert_eq!((names[0].as_str(), names.len()), ("ann", TRIES));
        assert!(names[1].starts_with("ann-") && names[1].len() == 8 && names[1] != names[2], "{names:?}");
        assert_eq!(WantedName::of(Some("a\nb".into()), ann()), WantedName::Chosen("ann".into()));
        assert_eq!(WantedName::of(Some(String::new()), None), WantedName::Any);
        for long in ["x".repeat(USERNAME_BYTES_MAX), "ä".repeat(USERNAME_BYTES_MAX / 2)] {
            let varied = WantedName::Preferred(long.clone()).tries().nth(1).unwrap();
            assert!(is_username(&varied) && varied.len() >= USERNAME_BYTES_MAX - 1, "{varied}");
        }
    }
}
