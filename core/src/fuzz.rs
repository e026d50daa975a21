//! What strangers send, made up by a generator that knows the formats: `make fuzz` for as long as one likes, a
//! short run with the other tests. What once failed is kept in `proptest-regressions` and tried first.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::clock::UnixSeconds;
use crate::email::{Email, parse_list};
use crate::identity::Identity;
use crate::oauth::callback::AuthorizationResponse;
use crate::oauth::jwks::KeySet;
use crate::oauth::jwt::{self, Expected, SignatureAlgorithm};
use crate::oauth::metadata::ProviderMetadata;
use crate::sealer::{Context, KeyBytes, KeyId, Sealer};
use crate::session::{Limits, Session};
use crate::sidecar_config::SidecarConfig;
use crate::transaction::LoginTransaction;
use crate::url::Issuer;

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
const LIMITS: Limits = Limits {
    idle: std::time::Duration::from_hours(1),
    absolute: std::time::Duration::from_hours(9),
};

/// One edit of a text that is nearly right.
#[derive(Clone, Debug)]
enum Edit {
    Cut(usize),
    Insert(usize, u8),
    Repeat(usize),
    Replace(usize, u8),
    Swap(usize, usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<usize>();
    prop_oneof![
        at.prop_map(Edit::Cut),
        (at, any::<u8>()).prop_map(|(at, byte)| Edit::Insert(at, byte)),
        at.prop_map(Edit::Repeat),
        (at, any::<u8>()).prop_map(|(at, byte)| Edit::Replace(at, byte)),
        (at, any::<usize>()).prop_map(|(one, other)| Edit::Swap(one, other)),
    ]
}

fn edited(text: &str, edits: &[Edit]) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for edit in edits {
        let length = bytes.len().max(1);
        match *edit {
            Edit::Cut(at) => bytes.truncate(at % length),
            Edit::Insert(at, byte) => bytes.insert(at % length, byte),
            Edit::Repeat(at) => bytes.extend_from_within(at % length..),
            Edit::Replace(at, byte) => bytes[at % length] = byte,
            Edit::Swap(one, other) => bytes.swap(one % length, other % length),
        }
        if bytes.is_empty() {
            bytes.push(b'A');
        }
        bytes.truncate(8192);
    }
    bytes
}

fn sealer(purpose: &'static str) -> Sealer {
    let keys = [(KeyId(1), KeyBytes::new([7; 32]))];
    let context = Context {
        purpose,
        binding: &["proxy"],
    };
    Sealer::new(&keys, context).unwrap()
}

fn session() -> Session {
    let identity = Identity {
        subject: "c2f5".to_owned(),
        email: Some("alice@example.org".parse().unwrap()),
        username: "alice@example.org".to_owned(),
        ..Identity::default()
    };
    Session::start(identity, LIMITS, NOW).unwrap()
}

/// A public key whose private half nobody has.
fn keys() -> KeySet {
    let modulus = URL_SAFE_NO_PAD.encode([0xd5; 256]);
    let keys = json!({"keys": [
        {"kty": "RSA", "use": "sig", "kid": "k", "alg": "RS256", "n": modulus, "e": "AQAB"},
        {"kty": "RSA", "use": "sig", "n": modulus, "e": "AQAB"},
    ]});
    KeySet::parse(keys.to_string().as_bytes()).unwrap()
}

/// Members of headers and claims, with values of every kind.
fn value() -> impl Strategy<Value = Value> {
    let texts = prop_oneof![
        Just("RS256"),
        Just("none"),
        Just("HS256"),
        Just("ES256"),
        Just("k"),
        Just("https://auth.globus.org"),
        Just("client"),
        Just("alice@example.org"),
        Just("exp"),
        Just(""),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        Just(json!(NOW.0 + 60)),
        texts.prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::vec((member(), inner), 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn member() -> impl Strategy<Value = String> {
    prop_oneof![
        "(alg|kid|typ|crit|jwk|jku|x5u|b64|zip|enc)",
        "(iss|aud|azp|sub|exp|nbf|iat|nonce|at_hash|email|email_verified|identity_set)",
        "(issuer|jwks_uri|token_endpoint|authorization_endpoint|keys|kty|n|e|x|y|crv|use)",
        ".{0,6}",
    ]
}

fn object() -> impl Strategy<Value = Value> {
    let members = proptest::collection::vec((member(), value()), 0..8);
    members.prop_map(|members| Value::Object(members.into_iter().collect()))
}

proptest! {
    #[test]
    fn a_session_opens_as_it_was_sealed_or_not_at_all(
        edits in proptest::collection::vec(edit(), 0..4),
        later in 0_u64..100_000,
    ) {
        let (session, sealer) = (session(), sealer("session"));
        let sealed = session.seal(&sealer).unwrap();
        let cookie = edited(&sealed, &edits);
        match Session::open(&sealer, &cookie, LIMITS, UnixSeconds(NOW.0 + later)) {
            Ok(opened) => {
                prop_assert_eq!(&cookie, sealed.as_bytes());
                prop_assert_eq!(opened, session);
                prop_assert!(later < 3600);
            }
            Err(_) => prop_assert!(cookie != sealed.as_bytes() || later >= 3600),
        }
    }

    #[test]
    fn a_login_attempt_opens_as_it_was_sealed_or_not_at_all(
        edits in proptest::collection::vec(edit(), 0..4),
        return_to in "/.{0,200}",
    ) {
        let (attempt, sealer) = (LoginTransaction::start(return_to, NOW).unwrap(), sealer("login"));
        let sealed = attempt.seal(&sealer).unwrap();
        let cookie = edited(&sealed, &edits);
        match LoginTransaction::open(&sealer, &cookie, NOW) {
            Ok(opened) => {
                prop_assert_eq!(&cookie, sealed.as_bytes());
                prop_assert!(opened.has_state(&attempt.state()));
            }
            Err(_) => prop_assert!(cookie != sealed.as_bytes()),
        }
    }

    #[test]
    fn a_token_that_nobody_signed_is_refused(
        header in object(),
        claims in object(),
        signature in proptest::collection::vec(any::<u8>(), 0..300),
        edits in proptest::collection::vec(edit(), 0..3),
    ) {
        let mut parts = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).to_vec();
        parts.push(URL_SAFE_NO_PAD.encode(signature));
        let token = edited(&parts.join("."), &edits);
        let token = String::from_utf8_lossy(&token);
        let expected = Expected {
            issuer: &Issuer::globus(),
            audiences: &["client".to_owned()],
            algorithms: &SignatureAlgorithm::ALL,
        };
        prop_assert!(jwt::verify(&token, &keys(), expected, NOW).is_err());
        jwt::claims_issuer(&token, expected.issuer);
    }

    #[test]
    fn documents_of_a_provider_are_read_or_refused(document in object(), edits in proptest::collection::vec(edit(), 0..3)) {
        let document = edited(&document.to_string(), &edits);
        let _keys = KeySet::parse(&document);
        if let Ok(metadata) = ProviderMetadata::parse(&document, &Issuer::globus()) {
            prop_assert!(metadata.token_endpoint.as_str().starts_with("https://"));
        }
        prop_assert!(SidecarConfig::parse(&document).is_err());
    }

    #[test]
    fn a_callback_is_read_or_refused(query in "((code|state|iss|error|x)=?[a-z%&=+;]{0,12}&?){0,6}") {
        let times = |name: &str| url::form_urlencoded::parse(query.as_bytes()).filter(|(found, _)| found == name).count();
        if AuthorizationResponse::parse(&query).is_ok() {
            for name in ["code", "state", "iss", "error"] {
                prop_assert!(times(name) <= 1, "{} comes twice", name);
            }
        }
    }

    #[test]
    fn an_address_is_one_address(text in "[ -~\u{130}\u{131}\u{212a}\u{ff20}]{0,20}@?[a-zA-Z.@\u{3002}-]{0,20}") {
        if let Ok(email) = text.parse::<Email>() {
            prop_assert_eq!(email.as_str().matches('@').count(), 1);
            prop_assert!(!email.as_str().contains(|c: char| c.is_control() || c.is_whitespace() || c.is_ascii_uppercase()));
            prop_assert_eq!(email.as_str().parse::<Email>(), Ok(email.clone()));
            prop_assert!(email.as_str().eq_ignore_ascii_case(&text));
        }
        let _entries = parse_list(&text);
    }
}
