//! What can be decided about a token without asking anybody. What cannot is tested with a provider, in
//! `tests/tests/it`.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use globus_auth_core::clock::ManualClock;
use globus_auth_core::identity::EmailVerification;
use globus_auth_core::runtime::http_client::HttpClient;
use globus_auth_core::sidecar_config::{Access, Provider as ProviderConfig, ProviderKind};
use globus_auth_core::url::ExternalUrl;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::metrics::Metrics;

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
const CLUSTER: &str = "https://kubernetes.default.svc";
const AUDIENCE: &str = "https://app.test";

/// A cluster that signs tokens.
struct Signer(EcdsaKeyPair);

impl Signer {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn keys(&self) -> Value {
        let point = self.0.public_key().as_ref();
        let coordinate = |range| URL_SAFE_NO_PAD.encode(&point[range]);
        let (x, y) = (coordinate(1..33), coordinate(33..65));
        json!({"keys": [{"kty": "EC", "crv": "P-256", "use": "sig", "kid": "k", "x": x, "y": y}]})
    }

    fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": "ES256", "kid": "k"});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(claims));
        let signature = self
            .0
            .sign(&SystemRandom::new(), signed.as_bytes())
            .unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    fn access(&self) -> ServiceAccountAccess {
        ServiceAccountAccess {
            accounts: vec![trainer()],
            issuer: CLUSTER.to_owned(),
            audience: AUDIENCE.to_owned(),
            keys: self.keys(),
        }
    }
}

fn trainer() -> ServiceAccount {
    ServiceAccount {
        namespace: "train".to_owned(),
        name: "trainer".to_owned(),
    }
}

fn claims() -> Value {
    json!({
        "iss": CLUSTER,
        "aud": [AUDIENCE],
        "sub": "system:serviceaccount:train:trainer",
        "iat": NOW.0,
        "exp": NOW.0 + 600,
    })
}

fn tools() -> Tools {
    Tools {
        clock: Arc::new(ManualClock::at(NOW)),
        http: HttpClient::with_system_roots().unwrap(),
        metrics: Metrics::default(),
        vault_token: None,
    }
}

fn provider(client_id: &str) -> Arc<Provider> {
    provider_of_kind(ProviderKind::Globus, client_id)
}

fn provider_of_kind(kind: ProviderKind, client_id: &str) -> Arc<Provider> {
    let config = ProviderConfig {
        kind,
        issuer: "http://127.0.0.1:9".parse().unwrap(),
        client_id: client_id.to_owned(),
        client_secret: "secret".into(),
        scopes: vec![],
        email_verification: EmailVerification::IfPresent,
        groups_claim: None,
        session_requirements: SessionRequirements::default(),
    };
    let external: ExternalUrl = AUDIENCE.parse().unwrap();
    Arc::new(Provider::new(config, &external, tools().http, None))
}

fn no_bearers() -> Config {
    Config {
        introspection: false,
        jwt: vec![],
    }
}

fn verifier(cluster: &ServiceAccountAccess) -> BearerVerifier {
    BearerVerifier::new(no_bearers(), Some(cluster), provider("client"), &tools()).unwrap()
}

async fn worth(signer: &Signer, token: &str) -> Credentials {
    let rules = Rules::new(&Access::default());
    verifier(&signer.access()).verify(token, &rules).await
}

#[tokio::test]
async fn a_token_of_a_service_account_says_which_it_is_and_when_it_ends() {
    let signer = Signer::new();
    let credentials = worth(&signer, &signer.sign(&claims())).await;
    let Credentials::Bearer(identity, until) = credentials else {
        panic!("{credentials:?}")
    };
    assert_eq!(identity.service_account, Some(trainer()));
    assert_eq!(until, NOW.after(Duration::from_mins(11)));
}

#[rstest]
#[case::another_prefix("sub", json!("system:node:train:trainer"))]
#[case::no_name("sub", json!("system:serviceaccount:train"))]
#[case::an_empty_namespace("sub", json!("system:serviceaccount::trainer"))]
#[case::an_empty_name("sub", json!("system:serviceaccount:train:"))]
#[case::a_third_part("sub", json!("system:serviceaccount:train:trainer:x"))]
#[case::the_audience_of_the_api_server("aud", json!([CLUSTER]))]
#[case::expired("exp", json!(NOW.0 - 61))]
#[tokio::test]
async fn any_other_token_of_the_cluster_is_worth_nothing(#[case] name: &str, #[case] value: Value) {
    let signer = Signer::new();
    let mut claims = claims();
    claims[name] = value;
    let credentials = worth(&signer, &signer.sign(&claims)).await;
    assert!(
        matches!(credentials, Credentials::InvalidBearer),
        "{credentials:?}"
    );
}

#[tokio::test]
async fn a_token_of_another_key_is_worth_nothing() {
    let signer = Signer::new();
    let credentials = worth(&signer, &Signer::new().sign(&claims())).await;
    assert!(
        matches!(credentials, Credentials::InvalidBearer),
        "{credentials:?}"
    );
}

#[tokio::test]
async fn no_token_and_one_that_is_too_long_are_not_read() {
    let signer = Signer::new();
    let credentials = worth(&signer, "").await;
    assert!(
        matches!(credentials, Credentials::InvalidBearer),
        "{credentials:?}"
    );
    // Every length that base64 can make, around the longest.
    let (verifier, rules) = (verifier(&signer.access()), Rules::new(&Access::default()));
    let mut longest_read = 0;
    let mut shortest_refused = usize::MAX;
    for padding in 11_900..12_100 {
        let mut claims = claims();
        claims["padding"] = Value::String("x".repeat(padding));
        let token = signer.sign(&claims);
        let credentials = verifier.verify(&token, &rules).await;
        if matches!(credentials, Credentials::Bearer(..)) {
            longest_read = token.len().max(longest_read);
        } else {
            shortest_refused = token.len().min(shortest_refused);
        }
    }
    assert_eq!(longest_read, 16 * 1024);
    assert_eq!(shortest_refused, 16 * 1024 + 1);
}

#[test]
fn a_verifier_is_kept_for_the_same_configuration_and_provider_only() {
    let (one, other) = (Signer::new().access(), Signer::new().access());
    let provider = provider("client");
    let verifier =
        BearerVerifier::new(no_bearers(), Some(&one), Arc::clone(&provider), &tools()).unwrap();
    let introspecting = Config {
        introspection: true,
        ..no_bearers()
    };
    assert!(verifier.is(&no_bearers(), Some(&one)));
    assert!(!verifier.is(&no_bearers(), Some(&other)));
    assert!(!verifier.is(&no_bearers(), None));
    assert!(!verifier.is(&introspecting, Some(&one)));
    assert!(!verifier.is(&introspecting, Some(&other)));
    assert!(verifier.asks(&provider));
    assert!(!verifier.asks(&self::provider("client")));
}

/// A verifier that remembers an answer about one token, and has nobody whom it could ask again.
fn remembering(valid_until: UnixSeconds) -> BearerVerifier {
    let config = Config {
        introspection: true,
        ..no_bearers()
    };
    let nobody = provider_of_kind(ProviderKind::OIDC, "client");
    let verifier = BearerVerifier::new(config, None, nobody, &tools()).unwrap();
    let answer = Answer {
        worth: Worth::Identity(Identity::default(), NOW.after(Duration::from_hours(1))),
        valid_until,
    };
    verifier.introspected.insert(digest("opaque"), answer);
    verifier
}

#[rstest]
#[case::in_its_time("opaque", 1, true)]
#[case::at_its_end("opaque", 0, false)]
#[case::about_another_token("another", 1, false)]
#[case::not_an_opaque_token("opaque.jwt", 1, false)]
#[tokio::test]
async fn what_a_provider_said_of_a_token_counts_for_a_while(
    #[case] token: &str,
    #[case] seconds: u64,
    #[case] counts: bool,
) {
    let verifier = remembering(NOW.after(Duration::from_secs(seconds)));
    let rules = Rules::new(&Access::default());
    let credentials = verifier.verify(token, &rules).await;
    assert_eq!(matches!(credentials, Credentials::Bearer(..)), counts);
    // A token that nobody can be asked about is not taken for a bad one, unless it is a JWT of nobody.
    let is_bad = matches!(credentials, Credentials::InvalidBearer);
    assert_eq!(is_bad, token.contains('.'));
}

#[tokio::test]
async fn a_token_that_is_forgotten_is_asked_about_again() {
    let verifier = remembering(NOW.after(Duration::from_secs(30)));
    let rules = Rules::new(&Access::default());
    verifier.forget("another");
    let credentials = verifier.verify("opaque", &rules).await;
    assert!(matches!(credentials, Credentials::Bearer(..)));
    verifier.forget("opaque");
    let credentials = verifier.verify("opaque", &rules).await;
    assert!(matches!(credentials, Credentials::Undecided));
}

#[test]
fn tokens_are_remembered_apart() {
    assert_ne!(digest("one"), digest("other"));
    assert_eq!(digest("one"), digest("one"));
}
