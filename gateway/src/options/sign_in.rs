//! The terms of signing in, as the options say them. The provider's keys are read here, like all files that options name.

use super::OptionsError;
use super::settings::Settings;
use crate::identity::{IdentityProvider, ProviderTerms};
use crate::sign_in::{Access, SignInTerms};

/// Takes the terms out of the settings. Fails if what is said of a provider is not whole, or if its keys cannot be read.
pub(super) fn checked(settings: &mut Settings) -> Result<SignInTerms, OptionsError> {
    let provider = provider(settings).map_err(OptionsError::Invalid)?;
    let (custom, creation, direct) = (settings.custom_sign_in, settings.account_creation, settings.identity_direct);
    if provider.is_none() {
        let asks = [
            ("custom_sign_in is provider", custom == Access::Provider),
            ("account_creation is provider", creation == Access::Provider),
            ("identity_direct is true", direct),
        ];
        if let Some((what, _)) = asks.into_iter().find(|(_, asks)| *asks) {
            return Err(OptionsError::Invalid(format!(
                "{what}, and there is no provider: name it with identity_issuer"
            )));
        }
    }
    Ok(SignInTerms { provider, direct, custom, creation })
}

fn provider(settings: &mut Settings) -> Result<Option<IdentityProvider>, String> {
    let audiences = settings.identity_audience.take().unwrap_or_default();
    let key_files = settings.identity_keys.take().unwrap_or_default();
    let Some(issuer) = settings.identity_issuer.take() else {
        return match (audiences.is_empty(), key_files.is_empty()) {
            (true, true) => Ok(None),
            _ => Err("identity_audience or identity_keys is given, and identity_issuer is not".into()),
        };
    };
    if issuer.is_empty() || issuer.chars().any(|character| character.is_whitespace() || character.is_control()) {
        return Err("identity_issuer must not be empty, nor contain blanks".into());
    }
    if audiences.is_empty() || audiences.iter().any(String::is_empty) {
        let next = "give the name that tokens for this server have in aud with identity_audience";
        return Err(format!(
            "identity_issuer needs an audience, or tokens for other programs would be accepted: {next}"
        ));
    }
    if key_files.is_empty() {
        return Err("identity_issuer needs the provider's public keys: name their file with identity_keys".into());
    }
    let (name_claim, clock_skew) = (settings.identity_name_claim.clone(), settings.identity_clock_skew.0);
    IdentityProvider::read(ProviderTerms { issuer, audiences, key_files, name_claim, clock_skew }).map(Some)
}

#[cfg(test)]
mod tests {
    use super::super::tests::parse;
    use super::*;

    const JWKS: &str = r#"{"keys":[
        {"kty":"OKP","crv":"Ed25519","kid":"one","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
        {"kty":"oct","kid":"secret","k":"AAAA"}]}"#;

    /// The terms that these flags give, with a file of keys for `KEYS`.
    fn terms(arguments: &[&str]) -> Result<SignInTerms, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("jwks.json");
        std::fs::write(&path, JWKS).unwrap();
        let path = path.to_str().unwrap();
        let arguments: Vec<&str> = arguments.iter().map(|text| if *text == "KEYS" { path } else { *text }).collect();
        parse(&arguments).map(|options| options.sign_in).map_err(|error| error.to_string())
    }

    const WHOLE: [&str; 6] =
        ["--identity-issuer", "https://id.example", "--identity-audience", "chat,app", "--identity-keys", "KEYS"];

    #[test]
    fn a_provider_is_named_whole_or_not_at_all() {
        assert_eq!(terms(&[]), Ok(SignInTerms::default()));
        let given = terms(&[&WHOLE[..], &["--identity-direct", "--custom-sign-in", "provider"]].concat()).unwrap();
        assert!(given.direct && given.custom == Access::Provider && given.creation == Access::Open);
        let left_out = given.provider.as_ref().unwrap().left_out();
        assert!(left_out.len() == 1 && left_out[0].contains("\"secret\" is left out: its type is \"oct\""));
        let check = |arguments: &[&str], expected: &str| {
            let said = terms(arguments).unwrap_err();
            assert!(said.contains(expected), "{expected:?} is not in {said}");
        };
        check(&WHOLE[..4], "identity_keys");
        check(&[&WHOLE[..2], &WHOLE[4..]].concat(), "identity_audience");
        check(&WHOLE[2..], "identity_issuer is not");
        check(&["--identity-issuer", "a b"], "identity_issuer must not");
        check(
            &["--identity-issuer", "a", "--identity-audience", "b", "--identity-keys", "/nonexistent"],
            "/nonexistent",
        );
        check(&[&WHOLE[..], &["--identity-clock-skew", "6m"]].concat(), "0 to 5m");
        for needs in
            [["--custom-sign-in", "provider"], ["--account-creation", "provider"], ["--identity-direct=true", "serve"]]
        {
            check(&needs, "there is no provider");
        }
    }
}
