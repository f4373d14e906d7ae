//! GitHub's GraphQL schema (cut by `scripts/cut-graphql`): queries are parsed and checked against it, and answers hold
//! exactly what was selected.
#![allow(dead_code, reason = "one fake uses it")]

use serde_json::{Map, Value, json};
use std::sync::OnceLock;

fn types() -> &'static Value {
    static ALL: OnceLock<Value> = OnceLock::new();
    &ALL.get_or_init(|| serde_json::from_str(include_str!("../../fixtures/github/graphql.json")).unwrap())["types"]
}

/// One selected field.
#[derive(Debug, Clone)]
pub struct Field {
    pub name: String,
    pub args: Value,
    pub fields: Vec<Field>,
    /// `... on TYPE`: the fields are those of this type.
    on: Option<String>,
}

/// A query or mutation with its variables put in.
pub fn parse(text: &str, variables: &Value) -> Result<(bool, Vec<Field>), String> {
    let mut p = Parser { tokens: tokens(text), at: 0, variables, declared: Map::new() };
    let mutation = match p.next().as_str() {
        "query" => false,
        "mutation" => true,
        other => return Err(format!("it begins with {other:?}")),
    };
    if p.peek() == "(" {
        p.declarations()?;
    }
    let root = if mutation { "Mutation" } else { "Query" };
    let fields = p.selection(root)?;
    if p.at != p.tokens.len() {
        return Err("there is more behind it".to_owned());
    }
    let given = variables.as_object().cloned().unwrap_or_default();
    match given.keys().find(|name| !p.declared.contains_key(*name)) {
        Some(name) => Err(format!("the variable {name} is not declared")),
        None => Ok((mutation, fields)),
    }
}

/// What was selected of an object; a field that the fake does not have is null, or fails where the schema has none.
pub fn select(root: &str, fields: &[Field], whole: &Value) -> Result<Value, String> {
    if whole.is_null() {
        return Ok(Value::Null);
    }
    let mut out = Map::new();
    for field in fields {
        if let Some(on) = &field.on {
            if let Value::Object(more) = select(on, &field.fields, whole)? {
                out.extend(more);
            }
            continue;
        }
        let of = types()[root]["fields"][&field.name]["type"].as_str().unwrap_or("");
        let value = &whole[&field.name];
        if value.is_null() && of.ends_with('!') {
            return Err(format!("the fake has no {root}.{}", field.name));
        }
        let value = match value {
            Value::Array(items) => {
                items.iter().map(|v| select(bare(of), &field.fields, v)).collect::<Result<Vec<_>, _>>()?.into()
            }
            v if field.fields.is_empty() => v.clone(),
            v => select(bare(of), &field.fields, v)?,
        };
        out.insert(field.name.clone(), value);
    }
    Ok(Value::Object(out))
}

fn bare(of: &str) -> &str {
    of.trim_matches(['[', ']', '!'])
}

fn tokens(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() || c == ',' => {}
            '.' => {
                chars.next();
                chars.next();
                out.push("...".to_owned());
            }
            '"' => out.push(format!("\"{}\"", chars.by_ref().take_while(|c| *c != '"').collect::<String>())),
            c if c.is_alphanumeric() || c == '_' => {
                let mut word = c.to_string();
                while let Some(c) = chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
                    word.push(c);
                }
                out.push(word);
            }
            c => out.push(c.to_string()),
        }
    }
    out
}

struct Parser<'a> {
    tokens: Vec<String>,
    at: usize,
    variables: &'a Value,
    /// Names and types.
    declared: Map<String, Value>,
}

impl Parser<'_> {
    fn peek(&self) -> &str {
        self.tokens.get(self.at).map_or("", String::as_str)
    }

    fn next(&mut self) -> String {
        self.at += 1;
        self.tokens.get(self.at - 1).cloned().unwrap_or_default()
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        let got = self.next();
        if got == token { Ok(()) } else { Err(format!("expected {token:?}, got {got:?}")) }
    }

    fn declarations(&mut self) -> Result<(), String> {
        self.expect("(")?;
        while self.peek() != ")" {
            self.expect("$")?;
            let name = self.next();
            self.expect(":")?;
            let mut of = self.next();
            if self.peek() == "!" {
                of.push_str(&self.next());
            }
            let value = &self.variables[&name];
            let fits = match bare(&of) {
                "Int" => value.is_i64() || value.is_u64(),
                "Boolean" => value.is_boolean(),
                _ => value.is_string(),
            };
            if !fits {
                return Err(format!("${name}: {of} is {value}"));
            }
            self.declared.insert(name, json!(of));
        }
        self.expect(")")
    }

    fn selection(&mut self, of: &str) -> Result<Vec<Field>, String> {
        self.expect("{")?;
        let mut fields = Vec::new();
        while self.peek() != "}" {
            let name = self.next();
            if name == "..." {
                self.expect("on")?;
                let on = self.next();
                let fits = types()[of]["of"].as_array().is_some_and(|all| all.contains(&json!(on)));
                if !fits {
                    return Err(format!("{on} is no {of}"));
                }
                let inner = self.selection(&on)?;
                fields.push(Field { name, args: Value::Null, fields: inner, on: Some(on) });
                continue;
            }
            let known = &types()[of]["fields"][&name];
            let kind = known["type"].as_str().ok_or_else(|| format!("{of} has no field {name}"))?;
            let args = if self.peek() == "(" { self.arguments(&known["args"])? } else { json!({}) };
            let required = known["args"].as_object().into_iter().flatten().filter(|(_, t)| is_required(t));
            for (arg, _) in required {
                args.get(arg).ok_or_else(|| format!("{of}.{name} lacks {arg}"))?;
            }
            let composite = ["type", "union"].contains(&types()[bare(kind)]["kind"].as_str().unwrap_or(""));
            if composite != (self.peek() == "{") {
                return Err(format!(
                    "{of}.{name} is {kind}: a selection is {}",
                    if composite { "missing" } else { "wrong" }
                ));
            }
            let fields_of = if composite { self.selection(bare(kind))? } else { Vec::new() };
            fields.push(Field { name, args, fields: fields_of, on: None });
        }
        self.expect("}")?;
        if fields.is_empty() { Err(format!("nothing of {of} is selected")) } else { Ok(fields) }
    }

    fn arguments(&mut self, known: &Value) -> Result<Value, String> {
        self.expect("(")?;
        let mut out = Map::new();
        while self.peek() != ")" {
            let name = self.next();
            self.expect(":")?;
            let of = known[&name].as_str().ok_or_else(|| format!("no argument {name}"))?;
            out.insert(name, self.value(of)?);
        }
        self.expect(")")?;
        Ok(Value::Object(out))
    }

    fn value(&mut self, of: &str) -> Result<Value, String> {
        let token = self.next();
        match token.as_str() {
            "$" => {
                let name = self.next();
                let declared = self.declared.get(&name).and_then(Value::as_str).unwrap_or("").to_owned();
                let loose = declared.trim_end_matches('!') == of.trim_end_matches(['!', '=']);
                // A nullable variable does not fit where a value is required.
                if !loose || of.ends_with('!') && !declared.ends_with('!') {
                    return Err(format!("${name} is {declared:?}, expected {of}"));
                }
                Ok(self.variables[&name].clone())
            }
            "{" => {
                let fields = &types()[bare(of)]["fields"];
                let mut out = Map::new();
                while self.peek() != "}" {
                    let name = self.next();
                    self.expect(":")?;
                    let kind = fields[&name]["type"].as_str().ok_or_else(|| format!("{of} has no {name}"))?;
                    out.insert(name, self.value(kind)?);
                }
                self.expect("}")?;
                let required = fields.as_object().into_iter().flatten().filter(|(_, f)| is_required(&f["type"]));
                for (name, _) in required {
                    out.get(name).ok_or_else(|| format!("{of} lacks {name}"))?;
                }
                Ok(Value::Object(out))
            }
            text if text.starts_with('"') => Ok(json!(text.trim_matches('"'))),
            number if number.parse::<i64>().is_ok() => Ok(json!(number.parse::<i64>().unwrap())),
            "true" => Ok(json!(true)),
            "false" => Ok(json!(false)),
            other => Err(format!("the value {other:?}")),
        }
    }
}

fn is_required(of: &Value) -> bool {
    of.as_str().is_some_and(|t| t.ends_with('!'))
}

#[test]
fn the_schema_refuses_what_it_does_not_know() {
    let ok = |text: &str, with: Value| parse(text, &with).is_ok();
    let leave = "mutation($id: ID!) { dequeuePullRequest(input: {id: $id}) { mergeQueueEntry { id } } }";
    assert!(ok(leave, json!({"id": "P"})));
    for (text, with) in [
        (leave, json!({})),
        (leave, json!({"id": 7})),
        (leave, json!({"id": "P", "more": 1})),
        (
            "mutation($id: ID!) { dequeuePullRequest(input: {pullRequestId: $id}) { mergeQueueEntry { id } } }",
            json!({"id": "P"}),
        ),
        ("mutation($id: ID) { dequeuePullRequest(input: {id: $id}) { mergeQueueEntry { id } } }", json!({"id": "P"})),
        ("mutation($id: ID!) { dequeuePullRequest(input: {id: $id}) }", json!({"id": "P"})),
        ("mutation($id: ID!) { deleteRepository(input: {id: $id}) { id } }", json!({"id": "P"})),
        ("query { repository(owner: \"o\") { pullRequest(number: 1) { id } } }", json!({})),
        ("query { repository(owner: \"o\", name: \"n\") { pullRequest(number: 1) { nothing } } }", json!({})),
        (
            "query { user(login: \"o\") { projectV2(number: 1) { field(name: \"S\") { ... on Commit { oid } } } } }",
            json!({}),
        ),
    ] {
        assert!(!ok(text, with.clone()), "{text} {with}");
    }
    let query = "query { repository(owner: \"o\", name: \"n\") { pullRequest(number: 1) { id merged } } }";
    let (_, fields) = parse(query, &json!({})).unwrap();
    let whole = json!({"repository": {"pullRequest": {"id": "P", "merged": false, "more": 1}}});
    let got = select("Query", &fields, &whole).unwrap();
    assert_eq!(got, json!({"repository": {"pullRequest": {"id": "P", "merged": false}}}));
    assert!(select("Query", &fields, &json!({"repository": {"pullRequest": {"id": "P"}}})).is_err());
}
