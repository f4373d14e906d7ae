//! A file of accepted findings (`orch security-scan --waivers`).

use crate::model::scan::Waiver;
use serde_json::Value;

/// Reads the text of a file: a YAML list, or a list under `allow:`; an empty text has none. Fails with what is wrong:
/// the entry and its field, not the parser's words (DSK-5).
pub fn waivers(text: &str) -> Result<Vec<Waiver>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    entries(crate::yaml::from_str(text).map_err(|e| e.to_string())?)
}

fn entries(file: Value) -> Result<Vec<Waiver>, String> {
    let list =
        if let Value::Object(mut section) = file { section.remove("allow").ok_or("`allow` is missing")? } else { file };
    let Value::Array(list) = list else { return Err("expected a list of waivers".to_owned()) };
    let one = |(i, waiver): (usize, Value)| {
        serde_json::from_value(waiver).map_err(|e| format!("waiver {}: {}", i + 1, field_error(&e.to_string())))
    };
    list.into_iter().enumerate().map(one).collect()
}

/// serde's message about a field, in our words.
fn field_error(said: &str) -> String {
    if let Some(name) = said.strip_prefix("missing field ") {
        return format!("{name} is missing");
    }
    match said.strip_prefix("unknown field ") {
        Some(rest) => format!("unknown key {rest}"),
        None => said.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_wrong_waiver_is_named_with_its_field() {
        let good = json!({"rule": "r", "path": "*", "owner": "ann", "reason": "test", "expires": "2030-01-01"});
        assert_eq!(entries(json!({"allow": [good]})).unwrap().len(), 1);
        let without = |field: &str| {
            let mut bad = good.clone();
            bad.as_object_mut().unwrap().remove(field);
            entries(json!([good, bad])).unwrap_err()
        };
        assert_eq!(without("owner"), "waiver 2: `owner` is missing");
        assert_eq!(without("expires"), "waiver 2: `expires` is missing");
        assert_eq!(entries(json!({"deny": []})).unwrap_err(), "`allow` is missing");
        assert_eq!(entries(json!("x")).unwrap_err(), "expected a list of waivers");
        let mut invalid = good.clone();
        invalid["who"] = json!("ann");
        assert!(entries(json!([invalid])).unwrap_err().starts_with("waiver 1: unknown key `who`"));
    }
}
