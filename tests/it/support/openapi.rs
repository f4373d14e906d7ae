//! GitHub's own description (cut by `scripts/cut-openapi`): requests are checked against it, and the fake's answers are
//! completed with what it requires of an answer.
#![allow(dead_code, reason = "each fake uses its part")]

use super::http::Seen;
use serde_json::{Map, Value, json};
use std::sync::OnceLock;

fn whole() -> &'static Value {
    static WHOLE: OnceLock<Value> = OnceLock::new();
    WHOLE.get_or_init(|| serde_json::from_str(include_str!("../../fixtures/github/openapi.json")).unwrap())
}

fn target(v: &Value) -> &Value {
    match v.get("$ref").and_then(Value::as_str) {
        Some(at) => target(whole().pointer(at.trim_start_matches('#')).unwrap_or_else(|| panic!("no {at}"))),
        None => v,
    }
}

/// The operation of a call, preferring the most literal segments; `None`: the description has none.
pub fn operation(method: &str, path: &str) -> Option<&'static Value> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let all = whole()["paths"].as_object()?.iter();
    let fits = all.filter_map(|(template, methods)| {
        let of: Vec<&str> = template.trim_matches('/').split('/').collect();
        let operation = methods.get(method.to_ascii_lowercase())?;
        // `{ref}` is the only parameter that may contain slashes.
        let long = of.last() == Some(&"{ref}") && parts.len() >= of.len();
        let same = |(a, b): (&&str, &&str)| a.starts_with('{') || a == b;
        let literal = of.iter().filter(|p| !p.starts_with('{')).count();
        ((of.len() == parts.len() || long) && of.iter().zip(&parts).all(same)).then_some((literal, operation))
    });
    fits.max_by_key(|(literal, _)| *literal).map(|(_, operation)| operation)
}

/// What is wrong with a request, by the description.
pub fn check_request(seen: &Seen, path: &str) -> Result<(), String> {
    let op = operation(&seen.method, path).ok_or_else(|| format!("no operation {} {path}", seen.method))?;
    let parameters: Vec<&Value> = op["parameters"].as_array().into_iter().flatten().map(target).collect();
    for (name, value) in &seen.query {
        let known = parameters.iter().find(|p| p["in"] == "query" && p["name"] == name.as_str());
        let known = known.ok_or_else(|| format!("no parameter {name} of {}", op["operationId"]))?;
        let words = target(&known["schema"])["enum"].as_array();
        if words.is_some_and(|words| !words.contains(&json!(value))) {
            return Err(format!("{name}={value} is none of {words:?}"));
        }
    }
    let schema = &op["requestBody"]["content"]["application/json"]["schema"];
    match (seen.body.is_empty(), schema.is_null()) {
        (true, _) => Ok(()),
        (false, true) => Err(format!("{} takes no body", op["operationId"])),
        (false, false) => valid(&seen.json(), schema, "body"),
    }
}

/// An answer with everything that the description requires, and what is still wrong with it.
pub fn fill_reply(method: &str, path: &str, status: u16, ours: &Value) -> Result<Value, String> {
    let op = operation(method, path).ok_or_else(|| format!("no operation {method} {path}"))?;
    let response = target(&op["responses"][status.to_string()]);
    // Errors and redirects that an operation does not name have the common form.
    if response.is_null() {
        return if status >= 300 {
            Ok(ours.clone())
        } else {
            Err(format!("{} never answers {status}", op["operationId"]))
        };
    }
    let schema = &response["content"]["application/json"]["schema"];
    if schema.is_null() {
        return Ok(ours.clone());
    }
    let filled = fill(schema, Some(ours));
    valid(&filled, schema, "answer").map(|()| filled)
}

fn fill(schema: &Value, ours: Option<&Value>) -> Value {
    let schema = target(schema);
    if ours == Some(&Value::Null) && schema["nullable"] == true {
        return Value::Null;
    }
    for several in ["oneOf", "anyOf"] {
        if let Some(all) = schema[several].as_array() {
            let fits = all.iter().find(|s| ours.is_some_and(|o| kind_fits(o, target(s))));
            return fill(fits.unwrap_or(&all[0]), ours);
        }
    }
    if let Some(all) = schema["allOf"].as_array() {
        return all.iter().fold(ours.cloned().unwrap_or(json!({})), |done, s| fill(s, Some(&done)));
    }
    match (schema["type"].as_str().unwrap_or("object"), ours) {
        ("object", ours) if ours.is_none_or(Value::is_object) => {
            if ours.is_none() && schema["nullable"] == true {
                return Value::Null;
            }
            let mut done: Map<String, Value> = ours.and_then(Value::as_object).cloned().unwrap_or_default();
            let properties = schema["properties"].as_object();
            for (name, property) in properties.into_iter().flatten() {
                let required = schema["required"].as_array().is_some_and(|r| r.contains(&json!(name)));
                match done.get(name).cloned() {
                    Some(given) => drop(done.insert(name.clone(), fill(property, Some(&given)))),
                    None if required => drop(done.insert(name.clone(), fill(property, None))),
                    None => {}
                }
            }
            Value::Object(done)
        }
        ("array", Some(Value::Array(items))) => items.iter().map(|v| fill(&schema["items"], Some(v))).collect(),
        (_, Some(given)) => given.clone(),
        (_, None) if schema["nullable"] == true => Value::Null,
        (_, None) if schema["enum"].is_array() => schema["enum"][0].clone(),
        ("array", None) => json!([]),
        ("integer" | "number", None) => json!(0),
        ("boolean", None) => json!(false),
        ("string", None) if schema["format"] == "date-time" => json!("2026-11-22T14:00:00Z"),
        (_, None) => json!("x"),
    }
}

fn kind_fits(v: &Value, schema: &Value) -> bool {
    match schema["type"].as_str() {
        Some("object") => v.is_object(),
        Some("array") => v.is_array(),
        Some("string") => v.is_string(),
        Some("integer") => v.is_i64() || v.is_u64(),
        Some("number") => v.is_number(),
        Some("boolean") => v.is_boolean(),
        Some("null") => v.is_null(),
        _ => true,
    }
}

/// Whether a value matches the schema.
fn valid(v: &Value, schema: &Value, at: &str) -> Result<(), String> {
    let schema = target(schema);
    if v.is_null() && (schema["nullable"] == true || schema.as_object().is_some_and(Map::is_empty)) {
        return Ok(());
    }
    for several in ["oneOf", "anyOf"] {
        if let Some(all) = schema[several].as_array() {
            let why: Vec<String> = all.iter().filter_map(|s| valid(v, s, at).err()).collect();
            if why.len() == all.len() {
                return Err(format!("{at} fits none: {}", why.join("; ")));
            }
        }
    }
    schema["allOf"].as_array().into_iter().flatten().try_for_each(|s| valid(v, s, at))?;
    if !kind_fits(v, schema) {
        return Err(format!(
            "{at} is {}, expected {}",
            v.to_string().chars().take(60).collect::<String>(),
            schema["type"]
        ));
    }
    if let Some(words) = schema["enum"].as_array().filter(|words| !words.contains(v)) {
        return Err(format!("{at} is {v}, expected one of {words:?}"));
    }
    let length = v.as_str().map(|t| t.chars().count() as u64);
    if length.zip(schema["maxLength"].as_u64()).is_some_and(|(n, most)| n > most) {
        return Err(format!("{at} is too long"));
    }
    if let Some(map) = v.as_object() {
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            map.get(name).ok_or_else(|| format!("{at} lacks {name}"))?;
        }
        if let Some(known) = schema["properties"].as_object() {
            for (name, value) in map {
                match known.get(name) {
                    Some(property) => valid(value, property, &format!("{at}.{name}"))?,
                    // A request must not contain anything that the description does not know.
                    None if at.starts_with("body") => return Err(format!("{at} has {name}, which is not known")),
                    None => {}
                }
            }
        }
    }
    let items = v.as_array().into_iter().flatten().enumerate();
    items.into_iter().try_for_each(|(n, item)| valid(item, &schema["items"], &format!("{at}[{n}]")))
}

#[test]
fn the_description_refuses_what_it_does_not_know() {
    let seen = |method: &str, body: Value, query: &[(&str, &str)]| Seen {
        method: method.into(),
        path: String::new(),
        query: query.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        headers: vec![],
        body: if body.is_null() { vec![] } else { body.to_string().into_bytes() },
    };
    let merge = "/repos/o/r/pulls/1/merge";
    assert!(check_request(&seen("PUT", json!({"sha": "a", "merge_method": "squash"}), &[]), merge).is_ok());
    assert!(check_request(&seen("PUT", json!({"merge_method": "force"}), &[]), merge).is_err());
    assert!(check_request(&seen("PUT", json!({"force": true}), &[]), merge).is_err());
    assert!(check_request(&seen("DELETE", Value::Null, &[]), merge).is_err());
    assert!(check_request(&seen("GET", Value::Null, &[("state", "all")]), "/repos/o/r/issues").is_ok());
    assert!(check_request(&seen("GET", Value::Null, &[("state", "any")]), "/repos/o/r/issues").is_err());
    assert!(check_request(&seen("GET", Value::Null, &[("limit", "1")]), "/repos/o/r/issues").is_err());
    assert!(operation("GET", "/repos/o/r/git/ref/heads/a/b").is_some());
    let filled = fill_reply("GET", "/repos/o/r/issues/1", 200, &json!({"number": 7, "labels": ["a"]})).unwrap();
    assert!(filled["number"] == 7 && filled["user"].is_null() && filled["url"].is_string());
    assert!(fill_reply("GET", "/repos/o/r/issues/1", 200, &json!({"number": "seven"})).is_err());
    assert!(fill_reply("GET", "/repos/o/r/issues/1", 204, &json!({})).is_err());
}
