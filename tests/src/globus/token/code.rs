//! `grant_type=authorization_code`.

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Call;
use super::id_token::{Subject, id_token};
use super::issue::{Issuance, TokenAnswer};
use crate::globus::catalog::OPENID;
use crate::globus::claims::Person;
use crate::globus::failure::OAuthError;
use crate::globus::faults::Fault;
use crate::globus::store::{Code, Principal};

/// Redeems a code.
///
/// # Errors
/// `invalid_grant` unless the code is fresh, of this client and redirect URI, and its verifier fits.
pub(super) fn redeem(call: Call<'_>) -> Result<TokenAnswer, OAuthError> {
    let code = take(call)?;
    check_verifier(call, &code)?;
    let realm = call.realm;
    let principal = Principal::User(code.session.account.clone());
    let issuance = Issuance {
        client_id: code.client_id.clone(),
        principal: principal.clone(),
        session: Some(code.session.clone()),
        scopes: code.scopes.clone(),
        offline: code.offline,
        lifetime_seconds: realm.config().access_token_lifetime_seconds,
        audience: None,
        reuse: realm.config().reuse_access_tokens,
    };
    let person = Person::of(realm, &principal, Some(code.session.clone()))
        .ok_or_else(|| OAuthError::invalid_grant("the user is gone"))?;
    let mut answer = TokenAnswer::of(issuance.issue(realm))
        .ok_or_else(|| OAuthError::invalid_scope("No scope was granted."))?;
    answer.state = code.state;
    let openid = code.scopes.iter().any(|scope| scope == OPENID);
    if openid && !call.fault.is(&Fault::OmitIdToken) {
        let subject = Subject {
            person: &person,
            scopes: &code.scopes,
            client_id: &code.client_id,
            access_token: &answer.first.access_token,
            nonce: code.nonce.as_deref(),
        };
        answer.id_token = Some(id_token(realm, subject, call.fault)?);
    }
    if call.fault.is(&Fault::OmitRefreshToken) {
        answer
            .tokens_mut()
            .for_each(|token| token.refresh_token = None);
    }
    Ok(answer)
}

/// Takes the code out of circulation, if the caller may have it.
fn take(call: Call<'_>) -> Result<Code, OAuthError> {
    let value = call.required("code")?;
    let redirect_uri = call.required("redirect_uri")?;
    let now = call.realm.now();
    let mut store = call.realm.store();
    let code = store
        .code(value)
        .ok_or_else(|| OAuthError::invalid_grant("the code is not known"))?;
    // Another client must not be able to spoil the code.
    if code.client_id != call.client.client_id {
        return Err(OAuthError::invalid_grant(
            "the code was issued to another client",
        ));
    }
    if std::mem::replace(&mut code.redeemed, true) {
        return Err(OAuthError::invalid_grant("the code was redeemed before"));
    }
    if code.expires_at <= now {
        return Err(OAuthError::invalid_grant("the code has expired"));
    }
    if code.redirect_uri != redirect_uri {
        return Err(OAuthError::invalid_grant(
            "the redirect URI is not that of the request",
        ));
    }
    Ok(code.clone())
}

/// RFC 7636 §4.6; and a verifier without a challenge is a sign of an attack (RFC 9700 §2.1.1).
fn check_verifier(call: Call<'_>, code: &Code) -> Result<(), OAuthError> {
    let verifier = call.form.get("code_verifier");
    match (&code.challenge, verifier) {
        (None, None) => Ok(()),
        (None, Some(_)) => Err(OAuthError::invalid_grant(
            "a verifier came without a challenge",
        )),
        (Some(_), None) => Err(OAuthError::invalid_grant("the verifier is missing")),
        (Some(challenge), Some(verifier)) => {
            let digest = digest::digest(&digest::SHA256, verifier.as_bytes());
            let fits = &URL_SAFE_NO_PAD.encode(digest) == challenge;
            fits.then_some(())
                .ok_or_else(|| OAuthError::invalid_grant("the verifier is wrong"))
        }
    }
}
