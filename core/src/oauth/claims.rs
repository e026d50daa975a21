//! The claims of a token, read leniently where providers differ and never trusted by themselves.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::jwt::LEEWAY;
use crate::clock::UnixSeconds;

/// The claims of a verified JWT, or the members of a userinfo or introspection response.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(transparent)]
pub struct Claims(Map<String, Value>);

impl Claims {
    /// The claim `name`, of whatever type.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The claim `name` if it is a string.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }

    /// The claim `name` if it is a `NumericDate`, which may have a fraction (RFC 7519 §2).
    pub fn time(&self, name: &str) -> Option<UnixSeconds> {
        let value = self.get(name)?;
        value
            .as_u64()
            .or_else(|| whole_seconds(value.as_f64()?))
            .map(UnixSeconds)
    }

    /// Until when a token with these claims counts, clocks being what they are: `exp` and the leeway.
    pub fn count_until(&self) -> Option<UnixSeconds> {
        self.time("exp").map(|expires_at| expires_at.after(LEEWAY))
    }

    /// `sub`.
    pub fn subject(&self) -> Option<&str> {
        self.text("sub")
    }

    /// Whether `aud` is, or contains, `audience` (RFC 7519 §4.1.3).
    pub fn has_audience(&self, audience: &str) -> bool {
        match self.get("aud") {
            Some(Value::String(one)) => one == audience,
            Some(Value::Array(many)) => many.iter().any(|one| one == audience),
            _ => false,
        }
    }

    /// Whether `aud` names more than one audience.
    pub fn has_several_audiences(&self) -> bool {
        matches!(self.get("aud"), Some(Value::Array(many)) if many.len() > 1)
    }

    /// Adds the members of `other` that are not here yet.
    pub fn fill_from(&mut self, other: Self) {
        for (name, value) in other.0 {
            self.0.entry(name).or_insert(value);
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is checked first, and the fraction is dropped on purpose"
)]
fn whole_seconds(seconds: f64) -> Option<u64> {
    // 2^53: beyond it, a JSON number is no longer exact.
    (0.0..9_007_199_254_740_992.0)
        .contains(&seconds)
        .then_some(seconds as u64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_there_is_not_replaced() {
        let claims = |value| Claims::deserialize(value).unwrap();
        let mut verified = claims(json!({"sub": "alice", "email": null}));
        verified.fill_from(claims(
            json!({"sub": "bob", "email": "b@x.test", "name": "Bob"}),
        ));
        let expected = json!({"sub": "alice", "email": null, "name": "Bob"});
        assert_eq!(verified, claims(expected));
    }
}
