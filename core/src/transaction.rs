//! One login attempt, from the redirect to the provider until the callback, kept in a sealed cookie
//! of the browser that started it.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use oauth2::PkceCodeVerifier;
use serde::{Deserialize, Serialize};

use crate::clock::UnixSeconds;
use crate::random;
use crate::sealer::{SealError, Sealer};

/// The secrets of one login attempt and where the user wanted to go.
///
/// Each attempt has a cookie of its own, so that logins in several tabs do not disturb each other.
#[derive(Clone, Deserialize, PartialEq, Eq, Serialize)]
pub struct LoginTransaction {
    state: [u8; 24],
    nonce: [u8; 24],
    code_verifier: [u8; 32],
    /// The path and query to return to: starts with one `/`.
    pub return_to: String,
    /// When the attempt started.
    pub started_at: UnixSeconds,
}

impl LoginTransaction {
    /// A new attempt.
    ///
    /// # Errors
    /// [`random::Unavailable`].
    pub fn start(return_to: String, now: UnixSeconds) -> Result<Self, random::Unavailable> {
        Ok(Self {
            state: random::bytes()?,
            nonce: random::bytes()?,
            code_verifier: random::bytes()?,
            return_to,
            started_at: now,
        })
    }

    /// `state`: binds the response to the browser (RFC 6749 §10.12).
    pub fn state(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.state)
    }

    /// `nonce`: binds the ID token to the attempt (OpenID Connect Core §3.1.2.1).
    pub fn nonce(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.nonce)
    }

    /// `code_verifier`: binds the code to the attempt (RFC 7636 §4.1).
    pub fn code_verifier(&self) -> PkceCodeVerifier {
        PkceCodeVerifier::new(URL_SAFE_NO_PAD.encode(self.code_verifier))
    }

    /// Names the attempt's cookie: the first 8 characters of the state.
    ///
    /// A state in an authorization response is whatever somebody wrote into a link. Only one in base64url
    /// can be ours; any other could put `=` and `;` into a `Set-Cookie` field.
    pub fn cookie_suffix(state: &str) -> Option<&str> {
        let is_base64url = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let suffix = state.get(..COOKIE_SUFFIX_LENGTH)?;
        suffix.chars().all(is_base64url).then_some(suffix)
    }

    /// The value of the attempt's cookie.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal(&self, sealer: &Sealer) -> Result<String, SealError> {
        sealer.seal(&postcard::to_stdvec(self).map_err(|_out_of_memory| SealError)?)
    }

    /// Reads the value of an attempt's cookie.
    ///
    /// # Errors
    /// [`BadTransaction`] if it is not ours, or too old to be completed.
    pub fn open(sealer: &Sealer, cookie: &[u8], now: UnixSeconds) -> Result<Self, BadTransaction> {
        let mut buffer = [0_u8; MAX_SEALED_LENGTH];
        let plaintext = sealer
            .open(cookie, &mut buffer)
            .map_err(|_forged| BadTransaction)?;
        let transaction: Self =
            postcard::from_bytes(plaintext).map_err(|_format| BadTransaction)?;
        let age_is_plausible = transaction.started_at <= now.after(Duration::from_mins(1))
            && now.since(transaction.started_at) < LIFETIME;
        if age_is_plausible {
            Ok(transaction)
        } else {
            Err(BadTransaction)
        }
    }

    /// Whether `state`, from an authorization response, is this attempt's. Takes the same time
    /// wherever the two differ.
    pub fn has_state(&self, state: &str) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(self.state().as_bytes(), state.as_bytes())
            .is_ok()
    }
}

impl std::fmt::Debug for LoginTransaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginTransaction")
            .field("started_at", &self.started_at)
            .finish_non_exhaustive()
    }
}

/// How long a user may take at the provider, two-factor and account linking included.
pub const LIFETIME: Duration = Duration::from_mins(15);
/// The longest `return_to` that is kept; a longer one becomes `/`.
pub const MAX_RETURN_TO: usize = 1024;
const COOKIE_SUFFIX_LENGTH: usize = 8;
const MAX_SEALED_LENGTH: usize = 2048;

/// The cookie is not ours, or the attempt is too old.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no such login attempt")]
pub struct BadTransaction;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sealer::{Context, KeyBytes, KeyId};

    const NOW: UnixSeconds = UnixSeconds(1_000_000);

    fn sealer(key: u8) -> Sealer {
        let keys = [(KeyId(1), KeyBytes::new([key; 32]))];
        Sealer::new(
            &keys,
            Context {
                purpose: "login",
                binding: &[],
            },
        )
        .unwrap()
    }

    fn transaction() -> LoginTransaction {
        LoginTransaction::start("/experiments?x=http://a//b".to_owned(), NOW).unwrap()
    }

    #[test]
    fn an_attempt_survives_its_cookie() {
        let transaction = transaction();
        let cookie = transaction.seal(&sealer(1)).unwrap();
        let opened = LoginTransaction::open(&sealer(1), cookie.as_bytes(), NOW).unwrap();
        assert_eq!(opened, transaction);
        assert!(opened.has_state(&transaction.state()));
        assert_eq!(opened.nonce(), transaction.nonce());
    }

    #[test]
    fn no_two_attempts_have_a_nonce_a_state_or_a_verifier_in_common() {
        let (one, other) = (transaction(), transaction());
        let secrets = |of: &LoginTransaction| {
            let verifier = of.code_verifier().secret().clone();
            [of.nonce(), of.state(), verifier]
        };
        let mut all = [secrets(&one), secrets(&other)].concat();
        assert!(all.iter().all(|secret| secret.len() >= 22));
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 6);
    }

    #[test]
    fn another_key_or_a_late_return_is_refused() {
        let cookie = transaction().seal(&sealer(1)).unwrap();
        let late = NOW.after(LIFETIME);
        assert_eq!(
            LoginTransaction::open(&sealer(2), cookie.as_bytes(), NOW),
            Err(BadTransaction)
        );
        assert_eq!(
            LoginTransaction::open(&sealer(1), cookie.as_bytes(), late),
            Err(BadTransaction)
        );
    }

    #[test]
    fn another_state_is_not_this_attempts() {
        let (one, other) = (transaction(), transaction());
        assert!(!one.has_state(&other.state()));
        assert!(!one.has_state(""));
        assert!(!one.has_state(&one.state()[..31]));
    }

    #[test]
    fn a_state_that_is_none_names_no_cookie() {
        let state = transaction().state();
        assert_eq!(LoginTransaction::cookie_suffix(&state), Some(&state[..8]));
        for state in [
            "",
            "short",
            "=x; Domain=evil.test",
            "a,b c=d;",
            "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}",
        ] {
            assert_eq!(LoginTransaction::cookie_suffix(state), None, "{state:?}");
        }
    }

    #[test]
    fn the_longest_return_address_fits_a_cookie() {
        let return_to = format!("/{}", "x".repeat(MAX_RETURN_TO - 1));
        let cookie = LoginTransaction::start(return_to, NOW)
            .unwrap()
            .seal(&sealer(1))
            .unwrap();
        assert!(LoginTransaction::open(&sealer(1), cookie.as_bytes(), NOW).is_ok());
    }

    #[test]
    fn debug_output_has_no_secret() {
        let transaction = transaction();
        assert!(!format!("{transaction:?}").contains(&transaction.state()));
    }
}
