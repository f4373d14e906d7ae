//! Adds a project to a configuration or removes one, as text: what a person wrote around it, comments and order, stays
//! (ORD-3). The result is parsed again and compared; unless it is exactly the old file with the one change, nothing is
//! written.

use serde_json::Value;

/// Why a file can't be changed without a person.
pub type Reason = String;

/// Where the list of projects is in a text.
struct List {
    /// The line of `projects:`.
    head: usize,
    /// The line range of the entries; it ends after the last one and its comments.
    from: usize,
    to: usize,
    /// Columns before an entry's dash.
    indent: usize,
}

/// The text with one more project at the end of its list. `entry`: the project in block style, its dash in the first
/// column; every line is indented to match the list.
pub fn add(text: &str, entry: &str) -> Result<String, Reason> {
    let wanted = one(entry)?;
    let before = document(text)?;
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let made = match value_after_head(&lines) {
        None => joined(&[text, &line_end(text), "projects:\n", &indented(entry, 2)]),
        Some((at, value @ ("" | "[]" | "~" | "null"))) => {
            let list = list(&lines, at);
            let mut head = lines.get(..at).unwrap_or_default().concat();
            head.push_str(&lines[at].replacen(value, "", 1).replace(": \n", ":\n"));
            head.push_str(&line_end(&head));
            head.push_str(&lines.get(at + 1..list.to).unwrap_or_default().concat());
            let rest = lines.get(list.to..).unwrap_or_default().concat();
            joined(&[&head, &line_end(&head), &indented(entry, list.indent), &rest])
        }
        Some((at, _)) => flow(&lines, at, &wanted)?,
    };
    let made = if text.contains("\r\n") { made.replace("\r\n", "\n").replace('\n', "\r\n") } else { made };
    let mut expected = before;
    match expected.get_mut("projects").and_then(Value::as_array_mut) {
        Some(all) => all.push(wanted),
        None => expected["projects"] = Value::Array(vec![wanted]),
    }
    same(&made, &expected).map(|()| made)
}

/// The text without the project with this key.
pub fn remove(text: &str, key: &str) -> Result<String, Reason> {
    let mut expected = document(text)?;
    let all = expected.get_mut("projects").and_then(Value::as_array_mut).ok_or("it names no projects")?;
    let n = all.iter().position(|p| p["key"] == key).ok_or_else(|| format!("it has no project {key}"))?;
    all.remove(n);
    let last = all.is_empty();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let Some((at, "")) = value_after_head(&lines) else {
        return Err("its projects are not on separate lines".to_owned());
    };
    let list = list(&lines, at);
    let dashes: Vec<usize> = (list.from..list.to).filter(|n| is_dash(lines[*n], list.indent)).collect();
    let from = *dashes.get(n).ok_or("where one project ends and the next begins is not clear")?;
    let to = match dashes.get(n + 1) {
        // Comments no deeper than the next entry's dash are about that entry.
        Some(next) => (from..*next).rev().take_while(|n| is_note(lines[*n], list.indent)).last().unwrap_or(*next),
        None => list.to,
    };
    let head = if last {
        let before = lines.get(..at).unwrap_or_default().concat();
        before + "projects: []\n" + &lines.get(at + 1..from).unwrap_or_default().concat()
    } else {
        lines.get(..from).unwrap_or_default().concat()
    };
    let made = head + &lines.get(to..).unwrap_or_default().concat();
    same(&made, &expected).map(|()| made)
}

fn joined(parts: &[&str]) -> String {
    parts.concat()
}

fn line_end(text: &str) -> String {
    if text.is_empty() || text.ends_with('\n') { String::new() } else { "\n".to_owned() }
}

fn document(text: &str) -> Result<Value, Reason> {
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    let read: Value = crate::yaml::from_str(text).map_err(|e| e.to_string())?;
    if read.is_object() { Ok(read) } else { Err("it is not a map of settings".to_owned()) }
}

fn one(entry: &str) -> Result<Value, Reason> {
    let list: Value = crate::yaml::from_str(entry).map_err(|e| e.to_string())?;
    list.get(0).cloned().ok_or_else(|| "the new entry is empty".to_owned())
}

fn same(made: &str, expected: &Value) -> Result<(), Reason> {
    if document(made)? == *expected {
        Ok(())
    } else {
        Err("the change would touch more than the one project".to_owned())
    }
}

/// The line of `projects:` and what follows the colon, without its comment.
fn value_after_head<'t>(lines: &[&'t str]) -> Option<(usize, &'t str)> {
    lines.iter().enumerate().find_map(|(n, line)| {
        let value = line.strip_prefix("projects:")?.trim();
        let bare = if value.starts_with('#') { "" } else { value.split(" #").next().unwrap_or(value).trim() };
        Some((n, bare))
    })
}

fn list(lines: &[&str], head: usize) -> List {
    let mut list = List { head, from: head + 1, to: head + 1, indent: 2 };
    let mut seen = false;
    for (n, line) in lines.iter().enumerate().skip(list.head + 1) {
        let text = line.trim_start_matches([' ', '\t']);
        let deep = line.len() - text.len();
        let content = !text.trim().is_empty() && !text.starts_with('#');
        if content && deep == 0 && !text.starts_with("- ") && text.trim() != "-" {
            break;
        }
        if content && !seen {
            list.indent = deep;
            seen = true;
        }
        // An indented comment right after an entry belongs to the entry.
        if content || (seen && deep > 0 && text.starts_with('#') && list.to == n) {
            list.to = n + 1;
        }
    }
    list
}

fn is_dash(line: &str, indent: usize) -> bool {
    let text = line.trim_start_matches(' ');
    line.len() - text.len() == indent && (text.starts_with("- ") || text.trim_end() == "-")
}

/// An empty line, or a comment no deeper than a dash.
fn is_note(line: &str, indent: usize) -> bool {
    let text = line.trim_start_matches(' ');
    text.trim().is_empty() || (text.starts_with('#') && line.len() - text.len() <= indent)
}

fn indented(entry: &str, by: usize) -> String {
    entry.lines().map(|l| if l.trim().is_empty() { "\n".to_owned() } else { format!("{:by$}{l}\n", "") }).collect()
}

/// A list in brackets: the project is inserted before the last bracket, on one line.
fn flow(lines: &[&str], head: usize, wanted: &Value) -> Result<String, Reason> {
    let text: String = lines.concat();
    let start: usize = lines.iter().take(head).map(|l| l.len()).sum::<usize>() + "projects:".len();
    let rest = text.get(start..).unwrap_or_default();
    let (last, end) = closing(rest).ok_or("its projects are not a list")?;
    let part = |from: usize, to: usize| text.get(start + from..start + to).unwrap_or_default();
    let (head, between) = (text.get(..start + last).unwrap_or_default(), part(last, end));
    let comma = if head.ends_with([',', '[']) { "" } else { "," };
    let blank = if between.is_empty() && !head.ends_with('[') { " " } else { "" };
    Ok(format!("{head}{comma}{blank}{between}{wanted}{}", part(end, rest.len())))
}

/// Where the partner of the first bracket is, and where the last text before it that is not a comment ends.
fn closing(text: &str) -> Option<(usize, usize)> {
    let mut last = 0;
    let mut depth = 0_i32;
    let mut quote = None;
    let mut before = ' ';
    let mut comment = false;
    for (n, c) in text.char_indices() {
        match (quote, c) {
            _ if comment => comment = c != '\n',
            (Some('"'), '"') if before == '\\' => {}
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') if !before.is_alphanumeric() => quote = Some(c),
            (None, '#') if before.is_whitespace() => comment = true,
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => {
                depth -= 1;
                if depth == 0 {
                    return Some((last, n));
                }
            }
            (None, c) if depth == 0 && !c.is_whitespace() => return None,
            (None, _) => {}
        }
        if !comment && !c.is_whitespace() {
            last = n + c.len_utf8();
        }
        before = c;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = "- key: NEW                # the new one\n  git:\n    remote: /srv/new.git\n";

    #[test]
    fn ord_3_a_project_is_added_and_taken_out_and_everything_else_stays() {
        let file = "# mine\nstate_dir: /s\n\nprojects:   # all of them\n  # the shop\n  - key: SHOP\n    git: {remote: /srv/shop.git}   # here\n    # deploy: {confirm: true}\n\n# limits\nlimits: {max_concurrency: 1}\n";
        let more = add(file, ENTRY).unwrap();
        let at = file.find("\n\n# limits").unwrap() + 1;
        assert_eq!(more, format!("{}{}{}", &file[..at], indented(ENTRY, 2), &file[at..]));
        assert_eq!(remove(&more, "NEW").unwrap(), file);
        let without = remove(&more, "SHOP").unwrap();
        assert!(
            without.contains("- key: NEW                # the new one") && !without.contains("/srv/shop.git"),
            "{without}"
        );
        let none = remove(&without, "NEW").unwrap();
        assert!(none.contains("projects: []\n") && none.contains("# limits"), "{none}");
        assert!(add(&none, ENTRY).unwrap().contains("projects:\n"), "{none}");
        assert!(remove(&none, "NEW").is_err());
    }

    #[test]
    fn ord_3_every_way_to_write_the_list_takes_one_more() {
        for file in [
            "",
            "# nothing yet\n",
            "state_dir: /s",
            "projects:\n",
            "projects: []\nstate_dir: /s\n",
            "projects:\n- key: A\n  git: {remote: /a}\nstate_dir: /s\n",
            "projects:\n    - key: A\n      git: {remote: /a}",
            "projects: [{key: A, git: {remote: \"/a]\"}}]  # ] \n",
            "projects: [\n  {key: A, git: {remote: /a}},   # it's ]\n]\nstate_dir: /s\n",
            "projects:\r\n  - key: A\r\n    git: {remote: /a}\r\nstate_dir: /s\r\n",
            "projects:\n  - key: A\n    ci: {command: [sh, -c, \"x\\\n      # no comment\"]}\n    git: {remote: /a}\n",
            "projects:\n  - key: A\n    git: {remote: /a}\n    description: |\n      text\n\n      more\n",
        ] {
            let more = add(file, ENTRY).unwrap_or_else(|e| panic!("{file:?}: {e}"));
            assert!(more.contains("NEW") && more.contains("/srv/new.git"), "{more}");
            let twice = add(&more, &ENTRY.replace("NEW", "TWO")).unwrap_or_else(|e| panic!("{more:?}: {e}"));
            assert_eq!(document(&twice).unwrap()["projects"].as_array().unwrap().last().unwrap()["key"], "TWO");
        }
    }

    #[test]
    fn ord_3_what_can_not_be_changed_alone_is_left() {
        for file in ["projects: &all\n  - key: A\nother: *all\n", "- a list\n", "projects: {key: A}\n", "a: [\n"] {
            assert!(add(file, ENTRY).is_err(), "{file}");
        }
        assert!(remove("projects: [{key: A}]\n", "A").unwrap_err().contains("on separate lines"));
        let with_notes = "projects:\n  - key: A\n    # of a\n  # of b\n  - key: B\n";
        assert_eq!(remove(with_notes, "A").unwrap(), "projects:\n  # of b\n  - key: B\n");
        assert_eq!(remove(with_notes, "B").unwrap(), "projects:\n  - key: A\n    # of a\n  # of b\n");
    }
}
