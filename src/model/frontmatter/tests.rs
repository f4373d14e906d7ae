use super::*;
use proptest::prelude::*;

fn doc(text: &str) -> Document {
    match read(text.as_bytes()) {
        Read::Document(doc) => doc,
        other => panic!("{text:?}: {other:?}"),
    }
}

fn broken(bytes: &[u8]) -> String {
    match read(bytes) {
        Read::Broken(why) => why,
        other => panic!("{:?}: {other:?}", String::from_utf8_lossy(bytes)),
    }
}

#[test]
fn a_document_is_fields_and_body() {
    let d = doc(
        "---\nwork_item: ORCH-1\nn: 7\nyes: true\nempty:\nl: [a, 2]\nb:\n- x\n- y\nm: {a: 1}\n---\n\n# Body\n---\n",
    );
    assert_eq!(d.text("work_item"), Some("ORCH-1"));
    assert_eq!((d.text("n"), d.text("yes"), d.text("empty"), d.text("gone")), (Some("7"), Some("true"), None, None));
    assert_eq!(d.list("l"), ["a", "2"]);
    assert_eq!(d.list("b"), ["x", "y"]);
    assert_eq!(d.field("m"), Some(&Field::Nested));
    assert_eq!(d.body, "\n# Body\n---\n");
}

#[test]
fn byte_order_mark_and_crlf_are_tolerated() {
    let d = doc("\u{feff}---\r\nverdict: APPROVED\r\n---\r\nbody\r\n");
    assert_eq!((d.text("verdict"), d.body.as_str()), (Some("APPROVED"), "body\r\n"));
}

#[test]
fn without_a_fence_at_the_first_line_there_is_none() {
    for text in ["", "body", "\n---\na: b\n---\n", " ---\na: b\n---\n", "----\na: b\n---\n", "\u{ff}\u{fe}---"] {
        assert_eq!(read(text.as_bytes()), Read::Absent, "{text:?}");
    }
    assert_eq!(doc("---\n---"), Document::default());
    assert_eq!(doc("---\n# only a comment\n\n---\n"), Document::default());
}

#[test]
fn what_can_not_be_used_is_broken_with_its_reason() {
    for (text, why) in [
        ("---", "closing"),
        ("---\nverdict: APPROVED\n", "closing"),
        ("---\nverdict: A\nverdict: B\n---\n", "`verdict` appears twice"),
        ("---\nm: {a: 1, a: 2}\n---\n", "`a` appears twice"),
        ("---\na: [\n---\n", "YAML"),
        ("---\n- a\n- b\n---\n", "mapping"),
        ("---\njust words\n---\n", "mapping"),
        ("---\na: &x [1, 2]\nb: *x\n---\n", "line 2: `&`"),
        ("---\na: 1\nb: [c, *x]\n---\n", "line 3: `*`"),
        ("---\na: {\"b\":&x 1}\n---\n", "`&`"),
        ("---\na: !tag b\n---\n", "tag"),
        ("---\na: \u{1}\n---\n", "YAML"),
    ] {
        let got = broken(text.as_bytes());
        assert!(got.contains(why), "{text:?}: {got}");
    }
    assert!(broken(b"---\na: \xff\n---\n").contains("UTF-8"));
}

#[test]
fn front_matter_is_bounded() {
    let fits = format!("---\na: {}\n---\n", "x".repeat(MAX_BYTES - 4));
    assert!(matches!(read(fits.as_bytes()), Read::Document(_)));
    let big = format!("---\na: {}\n---\n", "x".repeat(MAX_BYTES));
    assert!(broken(big.as_bytes()).contains("longer"));
    let deep = format!("---\na: {}\n---\n", "[".repeat(30_000));
    assert!(broken(deep.as_bytes()).contains("nested"));
    for piece in ["- ", "? ", "{a: ", "[", "a: ", "\"", "!", "!a ", "|", "%", "# ", "  - x\n  ", "k: [\n"] {
        let text = format!("---\na: {}\n---\n", piece.repeat(60_000 / piece.len()));
        drop(read(text.as_bytes()));
        let text = format!("---\n{}\n---\n", piece.repeat(60_000 / piece.len()));
        drop(read(text.as_bytes()));
        drop(set(text.as_bytes(), &[("a", "b")]));
    }
    let many: String = (0..5000).map(|i| format!("k{i}: 1\n")).collect();
    assert_eq!(doc(&format!("---\n{many}---\n")).fields.len(), 5000);
}

#[test]
fn a_body_that_is_no_utf8_does_not_hide_the_verdict() {
    let Read::Document(d) = read(b"---\nresult: FAIL\n---\nlog \xff\xfe\n") else { panic!() };
    assert_eq!(d.text("result"), Some("FAIL"));
}

#[test]
fn emphasised_values_and_marks_in_texts_are_read() {
    let d = doc(
        "---\nverdict: **APPROVED** # sure\nresult: `PASS`\nstatus: *PASS*\nwhy: a & b *c*\nlong: |\n  * x\n  &y\nq: \"*z &w\"\n---\n",
    );
    assert_eq!(d.text("verdict"), Some("**APPROVED**"));
    assert_eq!((d.text("result"), d.text("status")), (Some("`PASS`"), Some("*PASS*")));
    assert_eq!((d.text("long"), d.text("q")), (Some("* x\n&y"), Some("*z &w")));
}

#[test]
fn set_changes_its_own_lines_only() {
    let text = "\u{feff}---\r\n# mine\r\n\"verdict\": OLD  # why\r\nnote: |\r\n  verdict: x\r\n\r\n  # y\r\n\r\n# after\r\nlist:\r\n- a\r\n- b\r\nend: 1\r\n---\r\nverdict: body\r\n";
    let out = |pairs: &[(&str, &str)]| String::from_utf8(set(text.as_bytes(), pairs).unwrap()).unwrap();
    assert_eq!(out(&[("verdict", "APPROVED")]), text.replace("OLD", "APPROVED"));
    assert_eq!(out(&[("note", "ok")]), text.replace("note: |\r\n  verdict: x\r\n\r\n  # y\r\n", "note: ok\r\n"));
    assert_eq!(out(&[("list", "x: y")]), text.replace("list:\r\n- a\r\n- b", "list: \"x: y\""));
    assert_eq!(out(&[("new", "1")]), text.replace("end: 1\r\n", "end: 1\r\nnew: \"1\"\r\n"));
    assert_eq!(out(&[("end", "1"), ("end", "2")]), text.replace("end: 1", "end: \"2\""));
}

#[test]
fn set_adds_front_matter_where_there_is_none() {
    assert_eq!(set(b"# T\r\nx\xff", &[("a", "b")]).unwrap(), b"---\r\na: b\r\n---\r\n\r\n# T\r\nx\xff");
    assert_eq!(set(b"", &[("a", "b"), ("c", "d")]).unwrap(), b"---\na: b\nc: d\n---\n");
}

#[test]
fn set_refuses_what_it_could_only_spoil() {
    for text in ["---\na: [\n---\n", "---\na: b\n", "---\n{a: b}\n---\n", "---\na: b\na: c\n---\n"] {
        assert!(set(text.as_bytes(), &[("v", "x")]).is_err(), "{text:?}");
    }
    for name in ["", "a b", "a:", "-", "1", "a\nb"] {
        assert!(set(b"---\n---\n", &[(name, "x")]).is_err(), "{name:?}");
    }
    assert!(set(b"", &[("a", &"x".repeat(MAX_BYTES))]).is_err());
}

#[test]
fn a_new_file_reads_back() {
    let fields = [
        ("work_item", Field::from("ORCH-1")),
        ("head", Field::from("1234567")),
        ("l", Field::List(vec!["a: b".into()])),
    ];
    let d = doc(&write_new(&fields, "text\n"));
    assert_eq!((d.text("head"), d.list("l"), d.body.as_str()), (Some("1234567"), vec!["a: b".to_owned()], "\ntext\n"));
}

#[test]
fn texts_are_quoted_where_they_would_be_read_as_something_else() {
    for (text, want) in [
        ("ORCH-1", "ORCH-1"),
        ("deploy-staging", "deploy-staging"),
        ("", "\"\""),
        ("1234567", "\"1234567\""),
        ("no", "\"no\""),
        ("a: b #c\n", "\"a: b #c\\n\""),
        ("a\u{2028}\u{85}", "\"a\\u2028\\u0085\""),
    ] {
        assert_eq!(quoted(text), want);
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), inner in "[-a-c:\"'\\[\\]{}, #\\n\\r\\\\&*!|>?%@`~\t\u{85}]{0,80}") {
        drop(read(&bytes));
        drop(set(&bytes, &[("a", "b")]));
        let fenced = [b"---\n", bytes.as_slice(), b"\n---\n"].concat();
        drop(read(&fenced));
        drop(set(&fenced, &[("a", "b")]));
        let text = format!("---\n{inner}\n---\nbody");
        drop(read(text.as_bytes()));
        if let Ok(out) = set(text.as_bytes(), &[("a", "x y: z")]) {
            let Read::Document(d) = read(&out) else { panic!("{text:?}") };
            prop_assert_eq!(d.text("a"), Some("x y: z"));
            prop_assert_eq!(d.body, "body");
        }
    }

    #[test]
    fn what_is_set_is_read_and_other_lines_stay(
        before in proptest::collection::vec("(k[0-9]: [a-z ]{0,9}(# c)?|# [a-z]{0,5}|)", 0..6),
        value in any::<String>(),
        body in any::<String>(),
        crlf in any::<bool>(),
        has in any::<bool>(),
    ) {
        let eol = if crlf { "\r\n" } else { "\n" };
        let mut lines: Vec<String> = before.into_iter().enumerate().map(|(i, l)| l.replacen('k', &format!("k{i}x"), 1)).collect();
        if has { lines.push("verdict: old".to_owned()); }
        let front: String = lines.iter().map(|l| format!("{l}{eol}")).collect();
        let text = format!("---{eol}{front}---{eol}{body}");
        let Read::Document(was) = read(text.as_bytes()) else { panic!("{text:?}") };
        let out = String::from_utf8(set(text.as_bytes(), &[("verdict", &value)]).unwrap()).unwrap();
        let Read::Document(now) = read(out.as_bytes()) else { panic!("{out:?}") };
        prop_assert_eq!(now.field("verdict"), Some(&Field::Text(value)));
        prop_assert_eq!(&now.body, &was.body);
        for l in &lines {
            prop_assert!(l == "verdict: old" || out.contains(&format!("{l}{eol}")), "{}", l);
        }
        for (name, field) in was.fields.iter().filter(|(n, _)| n != "verdict") {
            prop_assert_eq!(now.field(name), Some(field));
        }
    }
}
