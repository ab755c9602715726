//! Tokens of a provider whose keys OpenSSL makes: what is accepted, and a table of what is not.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use jsonwebtoken::EncodingKey;
use serde_json::{Value, json};

use super::public_key::{KeyMaterial, SignatureAlgorithm};
use super::*;

pub(crate) const ISSUER: &str = "https://id.example";
pub(crate) const AUDIENCE: &str = "chat";

/// The time of these tests, in seconds.
const NOW: i64 = 1_000_000;

/// What OpenSSL answers to these arguments.
fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl is installed");
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}");
    output.stdout
}

/// A key pair of a provider.
pub(crate) struct Pair {
    algorithm: SignatureAlgorithm,
    private: EncodingKey,
    pub(crate) public: String,
}

impl Pair {
    fn new(algorithm: SignatureAlgorithm, arguments: &[&str]) -> Self {
        let private = openssl(&[&["genpkey", "-outform", "DER"], arguments].concat(), b"");
        let public = openssl(&["pkey", "-inform", "DER", "-pubout"], &private);
        // OpenSSL has several forms of private keys, and the library reads PKCS #8.
        let private = openssl(&["pkcs8", "-topk8", "-nocrypt", "-inform", "DER", "-outform", "DER"], &private);
        let private = match algorithm {
            SignatureAlgorithm::Rs256 => EncodingKey::from_rsa_der(&openssl(
                &["rsa", "-inform", "DER", "-traditional", "-outform", "DER"],
                &private,
            )),
            SignatureAlgorithm::Es256 => EncodingKey::from_ec_der(&private),
            SignatureAlgorithm::EdDsa => EncodingKey::from_ed_der(&private),
        };
        Self { algorithm, private, public: String::from_utf8(public).unwrap() }
    }

    /// A token with any header and payload, signed with this key.
    fn signed(&self, header: &str, payload: &str) -> String {
        jose::choose_cryptography();
        let signed = [header, payload].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part)).join(".");
        let signature = crypto::sign(signed.as_bytes(), &self.private, self.algorithm.of_library()).unwrap();
        format!("{signed}.{signature}")
    }

    /// A token with these claims and this key id.
    pub(crate) fn token(&self, kid: Option<&str>, claims: &Value) -> String {
        let mut header = json!({"alg": self.algorithm.name(), "typ": "JWT"});
        if let Some(kid) = kid {
            header["kid"] = kid.into();
        }
        self.signed(&header.to_string(), &claims.to_string())
    }
}

static RSA: LazyLock<Pair> =
    LazyLock::new(|| Pair::new(SignatureAlgorithm::Rs256, &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]));
pub(crate) static EC: LazyLock<Pair> = LazyLock::new(|| {
    Pair::new(SignatureAlgorithm::Es256, &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"])
});
static ED: LazyLock<Pair> = LazyLock::new(|| Pair::new(SignatureAlgorithm::EdDsa, &["-algorithm", "ED25519"]));

fn pairs() -> [&'static Pair; 3] {
    [&RSA, &EC, &ED]
}

pub(crate) fn terms() -> ProviderTerms {
    ProviderTerms {
        issuer: ISSUER.into(),
        audiences: vec!["other".into(), AUDIENCE.into()],
        key_files: Vec::new(),
        name_claim: "preferred_username".into(),
        clock_skew: Duration::from_secs(30),
    }
}

pub(crate) fn provider(text: &str) -> IdentityProvider {
    IdentityProvider::with_keys(terms(), PublicKeys::parse("keys", text).unwrap())
}

/// The key as providers publish it.
fn jwk(key: &PublicKey, kid: Option<&str>) -> Value {
    let text = |bytes: &[u8]| Value::from(BASE64_URL_SAFE_NO_PAD.encode(bytes));
    let mut jwk = match &key.material {
        KeyMaterial::Rsa { modulus, exponent } => json!({"kty": "RSA", "n": text(modulus), "e": text(exponent)}),
        KeyMaterial::P256(point) => {
            json!({"kty": "EC", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..])})
        }
        KeyMaterial::Ed25519(point) => json!({"kty": "OKP", "crv": "Ed25519", "x": text(point)}),
    };
    jwk["use"] = "sig".into();
    jwk["alg"] = key.algorithm.name().into();
    if let Some(kid) = kid {
        jwk["kid"] = kid.into();
    }
    jwk
}

fn key_of(pair: &Pair) -> PublicKey {
    PublicKeys::parse("pem", &pair.public).unwrap().keys()[0].clone()
}

/// A set of the keys of these pairs, whose ids are the names of their algorithms.
fn set(pairs: &[&Pair]) -> String {
    let keys: Vec<Value> = pairs.iter().map(|pair| jwk(&key_of(pair), Some(pair.algorithm.name()))).collect();
    json!({ "keys": keys }).to_string()
}

fn claims() -> Value {
    json!({"iss": ISSUER, "sub": "ann-1", "aud": AUDIENCE, "exp": NOW + 60, "iat": NOW, "preferred_username": "Ann"})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn at(second: i64) -> Timestamp {
    Timestamp(second * 1_000_000_000)
}

fn check(provider: &IdentityProvider, token: &str) -> Result<VouchedUser, IdentityRefusal> {
    provider.check(token, at(NOW))
}

#[test]
fn each_algorithm_by_pem_and_by_key_set() {
    let all = provider(&set(&pairs()));
    for pair in pairs() {
        let expected = |key: &str| VouchedUser {
            subject: "ann-1".into(),
            custom_id: "https://id.example ann-1".into(),
            name: Some("Ann".into()),
            expires: NOW + 60,
            key: key.into(),
        };
        let name = pair.algorithm.name();
        let by_pem = expected(&format!("the key for {name} in keys"));
        // A PEM file gives no key id, so a token may have any.
        for kid in [None, Some("any")] {
            assert_eq!(check(&provider(&pair.public), &pair.token(kid, &claims())), Ok(by_pem.clone()), "{name}");
        }
        let by_set = expected(&format!("the key {name:?} for {name} in keys"));
        for kid in [None, Some(name)] {
            assert_eq!(check(&all, &pair.token(kid, &claims())), Ok(by_set.clone()), "{name}");
        }
        assert_eq!(check(&all, &pair.token(Some("any"), &claims())), Err(IdentityRefusal::UnknownKey), "{name}");
    }
}

/// The old attack on libraries that let the token choose the algorithm: the public key, which is no secret, is taken for
/// the secret of an HMAC.
#[test]
fn a_public_key_is_no_secret_of_an_hmac() {
    jose::choose_cryptography();
    let payload = BASE64_URL_SAFE_NO_PAD.encode(claims().to_string());
    for pair in pairs() {
        let (KeyMaterial::Rsa { modulus: bytes, .. } | KeyMaterial::P256(bytes)) = key_of(pair).material else {
            continue;
        };
        for kid in ["", r#","kid":"RS256""#, r#","kid":"ES256""#] {
            let header = BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"HS256"{kid}}}"#));
            let signed = format!("{header}.{payload}");
            for secret in [pair.public.as_bytes(), pair.public.trim_end().as_bytes(), &bytes] {
                let key = EncodingKey::from_secret(secret);
                let signature = crypto::sign(signed.as_bytes(), &key, jsonwebtoken::Algorithm::HS256).unwrap();
                let token = format!("{signed}.{signature}");
                assert_eq!(check(&provider(&pair.public), &token), Err(IdentityRefusal::Algorithm));
                assert_eq!(check(&provider(&set(&pairs())), &token), Err(IdentityRefusal::Algorithm));
            }
        }
    }
}

#[test]
fn known_bad_tokens() {
    use IdentityRefusal as Refusal;
    let (pem, all) = (provider(&EC.public), provider(&set(&pairs())));
    let good = EC.token(None, &claims());
    assert!(check(&pem, &good).is_ok());
    let refused = |token: &str, expected: Refusal| assert_eq!(check(&pem, token), Err(expected), "{token}");
    let claim = |claims: Value, expected: Refusal| refused(&EC.token(None, &claims), expected);
    let header = |header: &str, expected: Refusal| refused(&EC.signed(header, &claims().to_string()), expected);

    claim(with("iss", json!("https://id.example/")), Refusal::Issuer);
    claim(with("iss", json!(["https://id.example"])), Refusal::Issuer);
    claim(with("iss", Value::Null), Refusal::Issuer);
    claim(without("iss"), Refusal::Issuer);
    claim(with("aud", json!("chats")), Refusal::Audience);
    claim(with("aud", json!(["a", 1, "chats"])), Refusal::Audience);
    claim(with("aud", json!([])), Refusal::Audience);
    claim(with("aud", json!({"chat": true})), Refusal::Audience);
    claim(without("aud"), Refusal::Audience);
    claim(with("exp", json!(NOW - 30)), Refusal::Expired);
    claim(with("exp", json!(-1)), Refusal::Expired);
    claim(without("exp"), Refusal::NoExpiry);
    claim(with("exp", json!("soon")), Refusal::Malformed);
    claim(with("nbf", json!(NOW + 31)), Refusal::NotYetValid);
    claim(with("nbf", json!("now")), Refusal::Malformed);
    claim(without("sub"), Refusal::Subject);
    claim(with("sub", json!("")), Refusal::Subject);
    claim(with("sub", json!(7)), Refusal::Subject);
    claim(with("sub", json!("a\u{0}b")), Refusal::Subject);
    claim(with("sub", json!("x".repeat(256))), Refusal::Subject);
    claim(json!([1]), Refusal::Malformed);
    refused(&EC.signed(r#"{"alg":"ES256"}"#, r#"{"iss":"a","iss":"b"}"#), Refusal::Malformed);
    refused(&EC.signed(r#"{"alg":"ES256"}"#, "nonsense"), Refusal::Malformed);

    for alg in ["none", "None", "", "HS256", "ES384", "RS512", "PS256", "es256"] {
        header(&format!(r#"{{"alg":"{alg}"}}"#), Refusal::Algorithm);
    }
    header(r#"{"alg":"RS256"}"#, Refusal::Algorithm);
    header(r#"{"typ":"JWT"}"#, Refusal::Malformed);
    header(r#"{"alg":"ES256","alg":"ES256"}"#, Refusal::Malformed);
    header(r#"{"alg":"ES256","kid":7}"#, Refusal::Malformed);
    header("nonsense", Refusal::Malformed);
    for critical in [r#"["exp"]"#, r#"["b64"]"#, "[]", "null", "{}"] {
        header(&format!(r#"{{"alg":"ES256","crit":{critical}}}"#), Refusal::Critical);
    }
    header(r#"{"alg":"ES256","\u0063rit":null}"#, Refusal::Critical);
    let none = [r#"{"alg":"none"}"#, &claims().to_string()].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part)).join(".");
    refused(&format!("{none}."), Refusal::Algorithm);

    let (signed, signature) = good.rsplit_once('.').unwrap();
    for wrong in [
        "",
        "x",
        &signature[..signature.len() - 2],
        &format!("{signature}AA"),
        &signature.replace(&signature[..1], "_"),
    ] {
        assert!(matches!(check(&pem, &format!("{signed}.{wrong}")), Err(Refusal::Signature)), "{wrong}");
    }
    for wrong in ["", ".", "..", "a.b.c", signed, &format!("{good}."), &format!("{good}.x"), &format!("{good}=")] {
        assert!(check(&pem, wrong).is_err(), "{wrong}");
    }
    let other = Pair::new(SignatureAlgorithm::Es256, &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    refused(&other.token(None, &claims()), Refusal::Signature);
    refused(&format!("{good}{}", "x".repeat(IDENTITY_TOKEN_BYTES_MAX)), Refusal::TooLong);

    // A key id chooses the key, and the key's algorithm counts.
    let by_wrong_key = EC.token(Some("RS256"), &claims());
    assert_eq!(check(&all, &by_wrong_key), Err(Refusal::Algorithm));
    let two = provider(&json!({"keys": [jwk(&key_of(&EC), Some("a")), jwk(&key_of(&other), Some("b"))]}).to_string());
    assert_eq!(check(&two, &EC.token(None, &claims())), Err(Refusal::AmbiguousKey));
    assert!(check(&two, &EC.token(Some("a"), &claims())).is_ok());
    assert_eq!(check(&two, &EC.token(Some("b"), &claims())), Err(Refusal::Signature));
}

#[test]
fn times_have_the_skew_that_is_configured_and_no_more() {
    let provider = provider(&ED.public);
    let is_good = |claims: Value| check(&provider, &ED.token(None, &claims)).is_ok();
    assert!(is_good(with("exp", json!(NOW - 29))));
    assert!(is_good(with("exp", json!(NOW as f64 + 0.5))));
    assert!(is_good(with("exp", json!(1e300))));
    assert!(is_good(with("nbf", json!(NOW + 30))));
    assert!(is_good(with("aud", json!(["a", "chat"]))));
    assert!(is_good(without("preferred_username")));
}

#[test]
fn a_changed_byte_is_refused_everywhere() {
    for pair in pairs() {
        let (provider, token) = (provider(&pair.public), pair.token(None, &claims()));
        for place in (0..token.len()).step_by(7) {
            let mut changed = token.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            assert!(check(&provider, &String::from_utf8(changed).unwrap()).is_err(), "{place} of {token}");
        }
    }
}

#[test]
fn custom_ids_are_one_for_each_user_and_fit() {
    let check = |issuer: &str, subject: &str, expected: &str| assert_eq!(custom_id(issuer, subject), expected);
    check("https://id.example", "ann", "https://id.example ann");
    check("i", &"s".repeat(126), &format!("i {}", "s".repeat(126)));
    let hashed = custom_id("i", &"s".repeat(127));
    assert!(hashed.starts_with(" sha256 ") && hashed.len() == 72, "{hashed}");
    let ids: std::collections::BTreeSet<String> = [("i", "a b"), ("i", "a"), ("ia", "b"), ("i a", "b")]
        .into_iter()
        .map(|(issuer, subject)| custom_id(&format!("{issuer}{}", "x".repeat(200)), subject))
        .collect();
    assert_eq!(ids.len(), 4);
}

#[test]
fn sets_say_what_is_wrong_and_what_is_left_out() {
    let (rsa, ec) = (jwk(&key_of(&RSA), Some("r")), jwk(&key_of(&EC), Some("e")));
    let change = |key: &Value, name: &str, value: Value| {
        let mut key = key.clone();
        key[name] = value;
        key
    };
    let parse = |keys: &[Value]| PublicKeys::parse("set", &json!({ "keys": keys }).to_string());
    let wrong = |keys: &[Value], expected: &str| {
        let said = parse(keys).unwrap_err();
        assert!(said.starts_with("set") || said.starts_with("the key"), "{said}");
        assert!(said.contains(expected), "{expected:?} is not in {said}");
    };
    wrong(&[rsa.clone(), change(&ec, "kid", json!("r"))], "the key \"r\" for ES256 in set");
    wrong(&[change(&rsa, "d", json!("AQAB"))], "the key \"r\" is a private key");
    wrong(&[change(&rsa, "n", json!("AQAB"))], "2048 to 4096 bits here, and this one has 17");
    wrong(&[change(&rsa, "n", Value::Null)], "the member \"n\" is missing");
    wrong(&[change(&rsa, "n", json!("a b"))], "the member \"n\" is not in base64url");
    wrong(&[change(&rsa, "e", json!("AQ"))], "no key for RS256");
    wrong(&[change(&rsa, "e", json!("AQAAAAAB"))], "no key for RS256");
    wrong(&[change(&ec, "x", json!("AQAB"))], "the member \"x\" has not 32 bytes");
    wrong(&[change(&ec, "y", ec["x"].clone())], "no key for ES256");
    wrong(&[json!({"kty": "oct", "kid": "s", "k": "AAAA"})], "the key \"s\" is left out: its type is \"oct\"");
    wrong(&[], "no key that can be used");
    for text in ["{}", "{", r#"{"keys":{}}"#, r#"{"keys":[1]}"#, r#"{"keys":[],"keys":[]}"#, r#"{"keys":[{}]}"#] {
        assert!(PublicKeys::parse("set", text).unwrap_err().contains("is no JWK set"), "{text}");
    }
    let left_out = |key: Value, expected: &str| {
        let keys = parse(&[key, rsa.clone()]).unwrap();
        assert_eq!(keys.keys().len(), 1);
        assert!(keys.left_out.len() == 1 && keys.left_out[0].contains(expected), "{:?}", keys.left_out);
    };
    left_out(change(&ec, "use", json!("enc")), "the key \"e\" is left out: its use is \"enc\"");
    left_out(change(&ec, "key_ops", json!(["sign"])), "do not include \"verify\"");
    left_out(change(&ec, "crv", json!("P-384")), "its curve \"P-384\"");
    left_out(change(&ec, "alg", json!("ES384")), "its algorithm is \"ES384\"");
    left_out(json!({"kty": "AKP", "kid": "q", "alg": "ML-DSA-44", "pub": "AAAA"}), "its type is \"AKP\"");
    left_out(json!({"kty": "oct", "k": "AAAA", "d": "x"}), "key 1 without an id is left out");
    assert!(parse(&[change(&jwk(&key_of(&ED), None), "alg", json!("Ed25519"))]).is_ok());
}

#[test]
fn files_of_other_things_say_what_they_are() {
    let parse = |text: &str| PublicKeys::parse("file", text);
    let wrong = |text: &str, expected: &str| {
        let said = parse(text).unwrap_err();
        assert!(said.starts_with("file: ") && said.contains(expected), "{expected:?} is not in {said}");
    };
    wrong("", "neither a public key as PEM nor a JWK set");
    wrong(&format!("{}{}", EC.public, RSA.public), "more than one PEM block");
    wrong(&EC.public.replace("PUBLIC KEY", "CERTIFICATE"), "openssl x509 -pubkey");
    wrong(&EC.public.replace("PUBLIC KEY", "EC PRIVATE KEY"), "openssl pkey -pubout");
    wrong(&EC.public.replace("PUBLIC KEY", "EC PARAMETERS"), "is called \"EC PARAMETERS\"");
    wrong(&EC.public.replace("PUBLIC KEY", "RSA PUBLIC KEY"), "no RSA key");
    wrong(&EC.public[..100], "wrong PEM");
    let small = openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"], b"");
    wrong(std::str::from_utf8(&openssl(&["pkey", "-pubout"], &small)).unwrap(), "and this one has 1024");
    let curve = openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"], b"");
    wrong(std::str::from_utf8(&openssl(&["pkey", "-pubout"], &curve)).unwrap(), "not P-256");
    let other = openssl(&["genpkey", "-algorithm", "ED448"], b"");
    wrong(std::str::from_utf8(&openssl(&["pkey", "-pubout"], &other)).unwrap(), "1.3.101.113");
    // PKCS #1, lines in front of the key, and the line ends of other systems.
    let old = openssl(&["rsa", "-pubin", "-RSAPublicKey_out"], RSA.public.as_bytes());
    assert_eq!(parse(std::str::from_utf8(&old).unwrap()).unwrap().keys()[0].material, key_of(&RSA).material);
    assert!(parse(&format!("Key of the provider:\n{}\n", EC.public)).is_ok());
    assert!(parse(&EC.public.replace('\n', "\r\n")).is_ok());
}

#[test]
fn two_files_give_keys_that_can_be_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (rsa, ec) = (write("rsa.pem", &RSA.public), write("ec.pem", &EC.public));
    assert_eq!(PublicKeys::read(&[rsa.clone(), ec.clone()]).unwrap().keys().len(), 2);
    let again = write("again.pem", &EC.public);
    let said = PublicKeys::read(&[ec, again]).unwrap_err();
    assert!(said.contains("ec.pem") && said.contains("again.pem") && said.contains("told apart"), "{said}");
    let large = write("large", &" ".repeat(keys::FILE_BYTES_MAX + 1));
    assert!(PublicKeys::read(&[large]).unwrap_err().contains("more than"));
}
