//! The CustomResourceDefinitions as a person would write them.

use kube::CustomResourceExt;
use serde_json::{Number, Value};

use crate::{GlobusAuthProxy, TokenVault};

/// The definition of `GlobusAuthProxy`.
///
/// # Errors
/// The derived definition cannot be written; a bug.
pub fn globus_auth_proxy() -> Result<Value, serde_json::Error> {
    let mut definition = serde_json::to_value(GlobusAuthProxy::crd())?;
    tidy(&mut definition);
    Ok(definition)
}

/// The definition of `TokenVault`.
///
/// # Errors
/// The derived definition cannot be written; a bug.
pub fn token_vault() -> Result<Value, serde_json::Error> {
    let mut definition = serde_json::to_value(TokenVault::crd())?;
    tidy(&mut definition);
    Ok(definition)
}

/// An optional field may be left out instead of being null, so null is not offered; whole numbers are
/// written as such; and `kubectl explain` breaks lines itself.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.remove("nullable");
            if members.contains_key("x-kubernetes-validations") {
                members.remove("title");
            }
            if let Some(Value::Array(values)) = members.get_mut("enum") {
                values.retain(|value| !value.is_null());
            }
            if let Some(Value::String(text)) = members.get_mut("description") {
                *text = paragraphs(text);
            }
            members.values_mut().for_each(tidy);
        }
        Value::Array(values) => values.iter_mut().for_each(tidy),
        Value::Number(number) => {
            if let Some(whole) = whole(number) {
                *number = whole;
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// `text` with one line for each paragraph and each item of a list.
fn paragraphs(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for line in text.lines() {
        let is_item = line.trim_start().starts_with("- ");
        let ends_paragraph = result.is_empty() || result.ends_with('\n') || line.trim().is_empty();
        result.push_str(match (ends_paragraph, is_item) {
            (true, _) => "",
            (false, true) => "\n",
            (false, false) => " ",
        });
        match line.trim() {
            "" => result.push_str("\n\n"),
            line => result.push_str(line),
        }
    }
    result
}

fn whole(number: &Number) -> Option<Number> {
    let text = number.to_string();
    text.strip_suffix(".0")?
        .parse::<i64>()
        .ok()
        .map(Number::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_break_only_where_a_person_would() {
        let text = "One that is\nlong. Two.\n\nAnother:\n- first\n  goes on\n- second";
        assert_eq!(
            paragraphs(text),
            "One that is long. Two.\n\nAnother:\n- first goes on\n- second"
        );
    }
}
