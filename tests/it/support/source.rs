//! Rust source as text: its files, its string literals, and the code without comments, strings and test modules. Used
//! by the architecture rules (`tests/architecture.rs`) and by the word test (`docs_words.rs`).

use std::path::{Path, PathBuf};

/// Every `.rs` file below a folder of the checkout, sorted.
pub fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    let mut files = Vec::new();
    while let Some(dir) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// The files of the product, without test modules in files of their own.
pub fn product_files() -> Vec<PathBuf> {
    let own_tests = |p: &PathBuf| {
        let stem = p.file_stem().unwrap().to_str().unwrap();
        stem == "tests" || stem.ends_with("_tests") || p.components().any(|c| c.as_os_str() == "tests")
    };
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let inside = |p: &PathBuf| p.strip_prefix(&base).map(Path::to_path_buf).unwrap();
    rust_files("src").into_iter().filter(|p| !own_tests(&inside(p))).collect()
}

/// Blanks comments and the contents of string and character literals (lines are kept); returns the strings.
pub fn blank(text: &str) -> (String, Vec<(usize, String)>) {
    let c: Vec<char> = text.chars().collect();
    let at = |i: usize| c.get(i).copied().unwrap_or('\0');
    let mut out = String::with_capacity(text.len());
    let mut strings = Vec::new();
    let (mut i, mut line) = (0, 1);
    while i < c.len() {
        let start = i;
        if at(i) == '/' && at(i + 1) == '/' {
            while i < c.len() && at(i) != '\n' {
                i += 1;
            }
        } else if at(i) == '/' && at(i + 1) == '*' {
            let mut depth = 0;
            loop {
                if at(i) == '/' && at(i + 1) == '*' {
                    depth += 1;
                    i += 2;
                } else if at(i) == '*' && at(i + 1) == '/' {
                    depth -= 1;
                    i += 2;
                } else {
                    i += 1;
                }
                if depth == 0 || i >= c.len() {
                    break;
                }
            }
        } else if at(i) == '"' || (at(i) == 'r' && raw_hashes(&c, i).is_some() && !word(at(i.wrapping_sub(1)))) {
            let hashes = raw_hashes(&c, i);
            i += hashes.map_or(1, |h| h + 2);
            let from = i;
            while i < c.len() {
                match hashes {
                    None if at(i) == '\\' => i += 1,
                    None if at(i) == '"' => break,
                    Some(h) if at(i) == '"' && (1..=h).all(|k| at(i + k) == '#') => break,
                    _ => {}
                }
                i += 1;
            }
            strings.push((line, c.get(from..i.min(c.len())).unwrap_or_default().iter().collect()));
            i += 1 + hashes.unwrap_or(0);
            out.push_str("\"\"");
        } else if at(i) == '\'' && (at(i + 1) == '\\' || at(i + 2) == '\'') {
            i += if at(i + 1) == '\\' { 3 } else { 2 };
            while i < c.len() && at(i) != '\'' {
                i += 1;
            }
            i += 1;
            out.push_str("' '");
        } else {
            out.push(at(i));
            line += usize::from(at(i) == '\n');
            i += 1;
            continue;
        }
        let skipped = c.get(start..i.min(c.len())).unwrap_or_default().iter().filter(|c| **c == '\n').count();
        line += skipped;
        out.extend(std::iter::repeat_n('\n', skipped));
    }
    (out, strings)
}

/// Number of `#` of a raw string that begins here.
fn raw_hashes(c: &[char], i: usize) -> Option<usize> {
    if c.get(i) != Some(&'r') {
        return None;
    }
    let hashes = c.iter().skip(i + 1).take_while(|c| **c == '#').count();
    (c.get(i + 1 + hashes) == Some(&'"')).then_some(hashes)
}

pub fn word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Removes every item behind `#[cfg(test)]` (a block or a declaration); returns the lines removed.
pub fn without_tests(code: &str) -> (String, Vec<std::ops::RangeInclusive<usize>>) {
    let mut rest = code.to_owned();
    let mut cut = Vec::new();
    while let Some(start) = rest.find("#[cfg(test)]") {
        let tail = rest.get(start..).unwrap();
        let mut depth = 0_i32;
        let mut end = tail.len();
        for (n, c) in tail.char_indices().skip("#[cfg(test)]".len()) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if (c == '}' || c == ';') && depth == 0 {
                end = n + 1;
                break;
            }
        }
        let gone = tail.get(..end).unwrap();
        let first = rest.get(..start).unwrap().matches('\n').count() + 1;
        let lines = gone.matches('\n').count();
        cut.push(first..=first + lines);
        rest.replace_range(start..start + end, &"\n".repeat(lines));
    }
    (rest, cut)
}
