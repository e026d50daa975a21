use std::sync::LazyLock;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;

use jsonwebtoken::{EncodingKey, Header};
use rstest::rstest;
use serde_json::{Value, json};

use super::super::id_token::{self, BadIdToken, Login};
use super::super::logout_token::{self, BadLogoutToken};
use super::*;
use crate::ended::{Ended, Sessions};
use crate::identity::NameDigest;

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

struct Key {
    private: EncodingKey,
    public_der: Vec<u8>,
    jwk: Value,
}

/// Two RSA keys: the provider's and somebody else's.
static KEYS: LazyLock<[Key; 2]> = LazyLock::new(|| [rsa_key(), rsa_key()]);

fn rsa_key() -> Key {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let private = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
    let public = pair.public_key();
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    Key {
        private: EncodingKey::from_rsa_pem(pem("PRIVATE KEY", private.as_ref()).as_bytes())
            .unwrap(),
        public_der: public.as_ref().to_vec(),
        jwk: json!({
            "kty": "RSA", "alg": "RS512", "use": "sig",
            "n": text(public.modulus().big_endian_without_leading_zero()),
            "e": text(public.exponent().big_endian_without_leading_zero()),
        }),
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

fn key_set(keys: &[Value]) -> KeySet {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

/// As Globus publishes it: one key, without `kid`.
fn globus_keys() -> KeySet {
    key_set(&[KEYS[0].jwk.clone()])
}

fn with_id(jwk: &Value, id: &str) -> Value {
    let mut jwk = jwk.clone();
    jwk["kid"] = json!(id);
    jwk
}

fn claims() -> Value {
    json!({
        "iss": "https://auth.globus.org", "aud": "our-client", "sub": "c2f5", "nonce": "n",
        "iat": NOW.0, "exp": NOW.0 + 3600,
    })
}

fn sign(header: &Header, claims: &Value) -> String {
    jsonwebtoken::encode(header, claims, &KEYS[0].private).unwrap()
}

fn rs512() -> Header {
    Header::new(Algorithm::RS512)
}

fn verify_login(token: &str, keys: &KeySet) -> Result<Claims, BadIdToken> {
    let login = Login {
        client_id: "our-client",
        issuer: &Issuer::globus(),
        nonce: "n",
    };
    id_token::verify(token, keys, login, NOW)
}

fn changed(claim: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[claim] = value;
    claims
}

#[test]
fn an_id_token_without_kid_is_verified_with_the_only_key() {
    let token = sign(&rs512(), &claims());
    assert_eq!(
        verify_login(&token, &globus_keys()).unwrap().subject(),
        Some("c2f5")
    );
}

#[test]
fn without_kid_and_with_several_named_keys_none_is_chosen() {
    let keys = key_set(&[with_id(&KEYS[0].jwk, "a"), with_id(&KEYS[1].jwk, "b")]);
    let token = sign(&rs512(), &claims());
    assert_eq!(
        verify_login(&token, &keys).unwrap_err(),
        BadJwt::UnknownKey.into()
    );
    let named = sign(
        &Header {
            kid: Some("a".to_owned()),
            ..rs512()
        },
        &claims(),
    );
    assert!(verify_login(&named, &keys).is_ok());
}

#[test]
fn while_keys_without_names_are_rotated_both_count() {
    let both = key_set(&[KEYS[1].jwk.clone(), KEYS[0].jwk.clone()]);
    let token = sign(&rs512(), &claims());
    assert!(verify_login(&token, &both).is_ok());
    let named = Header {
        kid: Some("a".to_owned()),
        ..rs512()
    };
    assert_eq!(
        verify_login(&sign(&named, &claims()), &both).unwrap_err(),
        BadJwt::UnknownKey.into()
    );
}

#[rstest]
#[case("b", BadJwt::Signature)]
#[case("c", BadJwt::UnknownKey)]
fn a_kid_of_another_key_is_refused(#[case] kid: &str, #[case] error: BadJwt) {
    let keys = key_set(&[with_id(&KEYS[0].jwk, "a"), with_id(&KEYS[1].jwk, "b")]);
    let token = sign(
        &Header {
            kid: Some(kid.to_owned()),
            ..rs512()
        },
        &claims(),
    );
    assert_eq!(verify_login(&token, &keys).unwrap_err(), error.into());
}

#[test]
fn a_signature_of_somebody_else_is_refused() {
    let token = sign(&rs512(), &claims());
    let keys = key_set(std::slice::from_ref(&KEYS[1].jwk));
    assert_eq!(
        verify_login(&token, &keys).unwrap_err(),
        BadJwt::Signature.into()
    );
}

#[test]
fn the_algorithm_none_is_refused() {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    for algorithm in ["none", "None", "NONE", ""] {
        let token = format!("{}.{}.", part(json!({"alg": algorithm})), part(claims()));
        assert_eq!(
            verify_login(&token, &globus_keys()).unwrap_err(),
            BadJwt::Malformed.into()
        );
    }
}

#[test]
fn the_public_key_as_a_shared_secret_is_refused() {
    for secret in [
        &KEYS[0].public_der,
        &pem("PUBLIC KEY", &KEYS[0].public_der).into_bytes(),
    ] {
        let token = jsonwebtoken::encode(
            &Header::new(Algorithm::HS256),
            &claims(),
            &EncodingKey::from_secret(secret),
        )
        .unwrap();
        assert_eq!(
            verify_login(&token, &globus_keys()).unwrap_err(),
            BadJwt::Algorithm.into()
        );
    }
}

#[test]
fn a_key_serves_only_its_own_algorithm() {
    let token = sign(&Header::new(Algorithm::RS256), &claims());
    assert_eq!(
        verify_login(&token, &globus_keys()).unwrap_err(),
        BadJwt::UnknownKey.into()
    );
}

#[test]
fn an_algorithm_off_the_list_is_refused() {
    let token = sign(&rs512(), &claims());
    let expected = Expected {
        issuer: &Issuer::globus(),
        audiences: &["our-client".to_owned()],
        algorithms: &[SignatureAlgorithm::RS256, SignatureAlgorithm::ES256],
    };
    assert_eq!(
        verify(&token, &globus_keys(), expected, NOW).unwrap_err(),
        BadJwt::Algorithm
    );
}

#[test]
fn critical_extensions_are_refused() {
    let header = Header {
        crit: Some(vec!["b64".to_owned()]),
        ..rs512()
    };
    let token = sign(&header, &claims());
    assert_eq!(
        verify_login(&token, &globus_keys()).unwrap_err(),
        BadJwt::Malformed.into()
    );
}

#[rstest]
#[case::other_issuer("iss", json!("https://auth.globus.org/"), BadJwt::OtherIssuer)]
#[case::no_issuer("iss", json!(null), BadJwt::OtherIssuer)]
#[case::other_audience("aud", json!("another"), BadJwt::OtherAudience)]
#[case::audience_prefix("aud", json!("our-client2"), BadJwt::OtherAudience)]
#[case::audience_list("aud", json!(["another"]), BadJwt::OtherAudience)]
#[case::audience_number("aud", json!(7), BadJwt::OtherAudience)]
#[case::no_audience("aud", json!(null), BadJwt::OtherAudience)]
#[case::expired("exp", json!(NOW.0 - 60), BadJwt::Expired)]
#[case::no_expiry("exp", json!(null), BadJwt::Expired)]
#[case::expiry_text("exp", json!("never"), BadJwt::Expired)]
#[case::expiry_negative("exp", json!(-1), BadJwt::Expired)]
#[case::not_before("nbf", json!(NOW.0 + 61), BadJwt::NotYetValid)]
#[case::not_before_text("nbf", json!("soon"), BadJwt::NotYetValid)]
#[case::issued_in_the_future("iat", json!(NOW.0 + 61), BadJwt::NotYetValid)]
fn a_wrong_claim_is_refused(#[case] claim: &str, #[case] value: Value, #[case] error: BadJwt) {
    let token = sign(&rs512(), &changed(claim, value));
    assert_eq!(
        verify_login(&token, &globus_keys()).unwrap_err(),
        error.into()
    );
}

#[rstest]
#[case("exp", json!(NOW.0 - 59))]
#[case("exp", json!(1_800_000_000.5))]
#[case("iat", json!(NOW.0 + 60))]
#[case("aud", json!(["our-client"]))]
#[case("azp", json!("our-client"))]
fn what_providers_really_send_is_accepted(#[case] claim: &str, #[case] value: Value) {
    let token = sign(&rs512(), &changed(claim, value));
    assert!(verify_login(&token, &globus_keys()).is_ok());
}

#[rstest]
#[case(json!("m"))]
#[case(json!(""))]
#[case(json!(null))]
fn the_nonce_of_another_login_is_refused(#[case] nonce: Value) {
    let token = sign(&rs512(), &changed("nonce", nonce));
    assert_eq!(
        verify_login(&token, &globus_keys()).unwrap_err(),
        BadIdToken::Nonce
    );
}

#[rstest]
#[case(json!("another"))]
#[case(json!(7))]
fn a_token_issued_for_another_client_is_refused(#[case] party: Value) {
    let token = sign(&rs512(), &changed("azp", party));
    assert_eq!(
        verify_login(&token, &globus_keys()).unwrap_err(),
        BadIdToken::AuthorizedParty
    );
}

#[test]
fn several_audiences_need_an_authorized_party() {
    let mut claims = changed("aud", json!(["our-client", "another"]));
    let token = sign(&rs512(), &claims);
    assert_eq!(
        verify_login(&token, &globus_keys()).unwrap_err(),
        BadIdToken::AuthorizedParty
    );
    claims["azp"] = json!("our-client");
    assert!(verify_login(&sign(&rs512(), &claims), &globus_keys()).is_ok());
}

#[rstest]
#[case("")]
#[case("a.b")]
#[case("a.b.c.d.e")]
#[case("....")]
#[case("eyJhbGciOiJSUzUxMiJ9.e30")]
fn what_is_no_jwt_is_refused(#[case] token: &str) {
    assert_eq!(
        verify_login(token, &globus_keys()).unwrap_err(),
        BadJwt::Malformed.into()
    );
}

#[test]
fn an_endless_token_is_refused_before_it_is_read() {
    let token = "a".repeat(64 * 1024 + 1);
    assert_eq!(
        verify_login(&token, &globus_keys()).unwrap_err(),
        BadJwt::TooLong.into()
    );
}

#[test]
fn keys_that_cannot_verify_are_left_out() {
    let mut encryption = KEYS[1].jwk.clone();
    encryption["use"] = json!("enc");
    let symmetric = json!({"kty": "oct", "k": "c2VjcmV0"});
    let unknown = json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "x"});
    let keys = key_set(&[encryption, symmetric, unknown, KEYS[0].jwk.clone()]);
    assert!(verify_login(&sign(&rs512(), &claims()), &keys).is_ok());
}

#[rstest]
#[case(json!({"keys": []}))]
#[case(json!({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}))]
#[case(json!({"keys": vec![KEYS[0].jwk.clone(); 65]}))]
#[case(json!([]))]
fn a_useless_key_set_is_refused(#[case] document: Value) {
    assert!(KeySet::parse(document.to_string().as_bytes()).is_err());
}

#[test]
fn a_key_set_may_have_many_keys() {
    let keys = key_set(&vec![KEYS[0].jwk.clone(); 64]);
    assert!(verify_login(&sign(&rs512(), &claims()), &keys).is_ok());
}

#[test]
fn without_kid_the_only_key_counts_whatever_its_name() {
    let keys = key_set(&[with_id(&KEYS[0].jwk, "a")]);
    assert!(verify_login(&sign(&rs512(), &claims()), &keys).is_ok());
}

#[test]
fn the_token_of_a_user_with_many_identities_and_groups_is_read() {
    let mut claims = claims();
    let identity = |number: usize| {
        json!({
            "sub": format!("c2f5a5b0-1f6f-4c2b-9d8e-{number:012}"), "username": format!("alice{number}@lab.test"),
            "name": "Alice Example", "organization": "A Laboratory With A Long Name", "status": "used",
            "identity_provider": "41143743-f3c8-4d60-bbdb-eeecaba85bd9", "email": format!("alice{number}@lab.test"),
            "identity_provider_display_name": "A Laboratory With A Long Name",
        })
    };
    claims["identity_set"] = (0..60).map(identity).collect();
    let group = |number: usize| format!("/a-realm/a-department/a-project-{number:03}");
    claims["groups"] = (0..200).map(group).collect();
    let token = sign(&rs512(), &claims);
    assert!(token.len() > 20_000, "{}", token.len());
    assert!(verify_login(&token, &globus_keys()).is_ok());
    let issuer = "https://auth.globus.org".parse().unwrap();
    assert!(claims_issuer(&token, &issuer));
}

#[test]
fn a_token_as_long_as_allowed_is_read() {
    let (head, payload) = (
        URL_SAFE_NO_PAD.encode(r#"{"alg":"RS512"}"#),
        URL_SAFE_NO_PAD.encode(claims().to_string()),
    );
    let issuer = "https://auth.globus.org".parse().unwrap();
    let token = |length: usize| {
        let start = format!("{head}.{payload}.");
        format!("{start}{}", "A".repeat(length - start.len()))
    };
    let longest = token(64 * 1024);
    assert_eq!(
        verify_login(&longest, &globus_keys()).unwrap_err(),
        BadJwt::Signature.into()
    );
    assert!(claims_issuer(&longest, &issuer));
    let longer = token(64 * 1024 + 1);
    assert_eq!(
        verify_login(&longer, &globus_keys()).unwrap_err(),
        BadJwt::TooLong.into()
    );
    assert!(!claims_issuer(&longer, &issuer));
}

#[rstest]
#[case::its_own("https://auth.globus.org", true)]
#[case::another("https://op.test", false)]
fn a_token_says_whose_it_is(#[case] issuer: &str, #[case] is_its: bool) {
    let token = sign(&rs512(), &claims());
    assert_eq!(claims_issuer(&token, &issuer.parse().unwrap()), is_its);
}

#[test]
fn newer_keys_help_only_where_a_key_is_what_is_wrong() {
    for (reason, helps) in [
        (BadJwt::Signature, true),
        (BadJwt::UnknownKey, true),
        (BadJwt::Expired, false),
        (BadJwt::Algorithm, false),
        (BadJwt::OtherIssuer, false),
    ] {
        assert_eq!(reason.may_change_with_keys(), helps, "{reason}");
        assert_eq!(BadIdToken::from(reason).may_change_with_keys(), helps);
        assert_eq!(BadLogoutToken::from(reason).may_change_with_keys(), helps);
    }
    assert!(!BadIdToken::Nonce.may_change_with_keys());
}

// === Logout tokens ===

fn logout_claims() -> Value {
    json!({
        "iss": "https://auth.globus.org", "aud": "our-client", "sub": "c2f5", "sid": "session-1",
        "iat": NOW.0 - 10, "exp": NOW.0 + 120, "jti": "j",
        "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
    })
}

fn verify_logout(claims: &Value) -> Result<Ended, BadLogoutToken> {
    let token = sign(&rs512(), claims);
    logout_token::verify(&token, &globus_keys(), &Issuer::globus(), "our-client", NOW)
}

#[rstest]
#[case::session(json!({}), Some("c2f5"), Sessions::OfProvider(NameDigest::of("session-1")))]
#[case::session_of_nobody_named(json!({"sub": null}), None, Sessions::OfProvider(NameDigest::of("session-1")))]
#[case::user(json!({"sid": null}), Some("c2f5"), Sessions::Before(UnixSeconds(NOW.0 - 10)))]
#[case::issued_in_the_future(
    json!({"sid": null, "iat": NOW.0 + 30}), Some("c2f5"), Sessions::Before(NOW))]
fn a_logout_token_ends_what_it_names(
    #[case] patch: Value,
    #[case] subject: Option<&str>,
    #[case] sessions: Sessions,
) {
    let ended = verify_logout(&patched(logout_claims(), &patch)).unwrap();
    assert_eq!(ended.subject, subject.map(NameDigest::of));
    assert_eq!(ended.sessions, sessions);
}

#[rstest]
#[case::of_somebody_else(json!({"iss": "https://evil.test"}), BadJwt::OtherIssuer.into())]
#[case::for_somebody_else(json!({"aud": "other"}), BadJwt::OtherAudience.into())]
#[case::expired(json!({"exp": NOW.0 - 3600}), BadJwt::Expired.into())]
#[case::endless(json!({"exp": null}), BadJwt::Expired.into())]
#[case::not_yet(json!({"iat": NOW.0 + 3600}), BadJwt::NotYetValid.into())]
#[case::never_issued(json!({"iat": null}), BadLogoutToken::NotIssued)]
#[case::an_id_token(json!({"nonce": "n"}), BadLogoutToken::IdToken)]
#[case::no_event(json!({"events": null}), BadLogoutToken::NoEvent)]
#[case::another_event(json!({"events": {"http://schemas.openid.net/event/backchannel-logout": null, "x": {}}}), BadLogoutToken::NoEvent)]
#[case::an_event_that_is_none(json!({"events": ["http://schemas.openid.net/event/backchannel-logout"]}), BadLogoutToken::NoEvent)]
#[case::no_id(json!({"jti": null}), BadLogoutToken::NoId)]
#[case::nobody(json!({"sub": null, "sid": null}), BadLogoutToken::Nobody)]
#[case::an_empty_user(json!({"sub": "", "sid": null}), BadLogoutToken::Nobody)]
#[case::a_session_that_is_no_text(json!({"sid": 7}), BadLogoutToken::Nobody)]
fn any_other_token_ends_nothing(#[case] patch: Value, #[case] reason: BadLogoutToken) {
    assert_eq!(
        verify_logout(&patched(logout_claims(), &patch)),
        Err(reason)
    );
}

#[test]
fn a_logout_token_of_another_key_ends_nothing() {
    let token = jsonwebtoken::encode(&rs512(), &logout_claims(), &KEYS[1].private).unwrap();
    let verified =
        logout_token::verify(&token, &globus_keys(), &Issuer::globus(), "our-client", NOW);
    assert_eq!(verified, Err(BadJwt::Signature.into()));
}

/// `claims` with `patch` laid over it; null removes.
fn patched(mut claims: Value, patch: &Value) -> Value {
    let members = claims.as_object_mut().unwrap();
    for (name, value) in patch.as_object().unwrap() {
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.clone(), value.clone());
        }
    }
    claims
}
