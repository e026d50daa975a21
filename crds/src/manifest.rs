//! The CustomResourceDefinitions as a person would write them.

use kube::CustomResourceExt;
use serde_json::{Number, Value};

use crate::GlobusAuthProxy;

/// The definition of `GlobusAuthProxy`.
///
/// # Errors
/// The derived definition cannot be written; a bug.
pub fn globus_auth_proxy() -> Result<Value, serde_json::Error> {
    let mut definition = serde_json::to_value(GlobusAuthProxy::crd())?;
    tidy(&mut definition);
    Ok(definition)
}

/// An optional field may be left out instead of being null, so null is not offered; and whole numbers
/// are written as such.
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

fn whole(number: &Number) -> Option<Number> {
    let text = number.to_string();
    text.strip_suffix(".0")?
        .parse::<i64>()
        .ok()
        .map(Number::from)
}
