use super::*;
use proptest::prelude::*;

fn text(text: &str) -> Side {
    if text.is_empty() { Side::Absent } else { side(text.as_bytes()) }
}

fn change_of(path: &str, before: &str, after: &str) -> Option<String> {
    let change = Change { path: path.into(), before: text(before), after: text(after), moved: false };
    inputs(&[change]).into_iter().next().map(|i| i.why)
}

#[test]
fn each_kind_of_input_is_found_and_ordinary_work_is_none() {
    let table = [
        ("Makefile", "a", "b", "build definition"),
        ("sub/MAKEFILE", "a", "b", "build definition"),
        ("justfile", "", "b", "build definition"),
        (".cargo/config.toml", "", "[target.x]\nrunner = 'true'", "build definition"),
        ("crates/a/build.rs", "", "fn main() {}", "build definition"),
        ("pkg/conftest.py", "", "x", "settings of tests"),
        ("jest.config.ts", "a", "b", "settings of tests"),
        ("pom.xml", "a", "", "build definition"),
        ("app/build.gradle.kts", "a", "b", "build definition"),
        ("gradle/wrapper/gradle-wrapper.properties", "a", "b", "build definition"),
        ("Dockerfile.prod", "a", "b", "build definition"),
        (".npmrc", "", "registry=https://x", "tool file"),
        ("web/.yarnrc.yml", "", "x", "tool file"),
        ("rust-toolchain.toml", "a", "b", "tool file"),
        ("docs/.gitattributes", "", "* -diff", "attributes"),
        ("Cargo.lock", "a", "b", "lock file"),
        (
            "yarn.lock",
            "resolved \"https://a.example/x\"",
            "resolved \"https://b.example:8443/x\"",
            "new hosts: b.example:8443",
        ),
        ("requirements-dev.txt", "a", "a @ git+https://u:p@git.example/x", "new hosts: git.example"),
        ("package-lock.json", "", "git@github.com:a/b.git", "new hosts: github.com"),
        ("tests/a.rs", "x", "", "a test file is deleted"),
        ("src/a.rs", "#[test]\nfn a() {}\n#[test]\nfn b() {}", "#[test]\nfn a() {}", "1 test is deleted"),
        ("src/a.rs", "#[test]\nfn a() {}", "// #[test]\nfn a() {}", "1 test is deleted"),
        ("src/a.rs", "fn a() {}", "#[test]\n#[ignore]\nfn a() {}", "1 more test is skipped: #[ignore]"),
        ("src/a.rs", "", "#[ignore]\n#[ignore]\nfn a() {}", "2 more tests are skipped: #[ignore]"),
        ("a_test.go", "func TestA(t *testing.T) {\n}", "func TestA(t *testing.T) {\nt.Skip()\n}", "skipped: t.Skip()"),
        ("a.test.ts", "it('a', f)", "it.only('b', g)\nit('a', f)", "skipped: it.only"),
        ("src/a.rs", "a", "let x = 1; // \u{202e} evil", "direction"),
    ];
    for (path, before, after, want) in table {
        let got = change_of(path, before, after).unwrap_or_else(|| panic!("{path}: {after}"));
        assert!(got.contains(want), "{path}: {got}");
    }
    for (path, before, after) in [
        ("src/a.rs", "fn a() {}", "fn b() { process::exit(1) }"),
        ("src/a.rs", "", "#[test]\nfn a() {}"),
        ("tests/new.rs", "", "#[test]\nfn a() {}"),
        ("README.md", "a", "use #[ignore] for it"),
        ("src/makefile.rs", "a", "b"),
        ("src/lock.rs", "a", "https://new.example"),
        ("src/old.rs", "fn a() {}", ""),
    ] {
        assert_eq!(change_of(path, before, after), None, "{path}");
    }
}

#[test]
fn what_nobody_reads_line_by_line_is_an_input() {
    let of = |after: Side| {
        let change = Change { path: "a.js".into(), before: Side::Absent, after, moved: false };
        inputs(&[change]).into_iter().next().map(|i| i.why).unwrap_or_default()
    };
    assert!(of(side(b"a\0b")).contains("binary"));
    assert!(of(side("x".repeat(5000).as_bytes())).contains("minified"));
    assert!(of(side(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n")).contains("LFS"));
    assert!(of(Side::Opaque("larger than 1 MiB".into())).contains("larger than 1 MiB"));
    assert_eq!(of(side("plain\n".repeat(5000).as_bytes())), "");
    // Deleting such a file hides nothing.
    let gone = Change { path: "a.png".into(), before: side(b"\0"), after: Side::Absent, moved: false };
    assert_eq!(inputs(&[gone]), []);
}

#[test]
fn a_test_that_moved_as_it_was_is_not_deleted() {
    let change = |moved| Change { path: "tests/a.rs".into(), before: text("#[test]"), after: Side::Absent, moved };
    assert_eq!(inputs(&[change(false)]).len(), 1);
    assert_eq!(inputs(&[change(true)]), []);
}

proptest! {
    #[test]
    fn no_content_breaks_it(path in "[a-zA-Z./_-]{0,20}", before in any::<Vec<u8>>(), after in any::<Vec<u8>>()) {
        for path in [path.as_str(), "package.json", "Cargo.toml", "yarn.lock"] {
            let _ = inputs(&[Change { path: path.into(), before: side(&before), after: side(&after), moved: false }]);
        }
    }
}
