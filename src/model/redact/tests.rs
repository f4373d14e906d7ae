use super::*;
use proptest::prelude::*;

fn known(values: &[&str]) -> Redactor {
    Redactor::new(values.iter().map(|v| ("a.b", *v)))
}

fn through(known: &Redactor, pieces: &[&[u8]]) -> String {
    let mut stream = known.stream();
    let mut out = Vec::new();
    for piece in pieces {
        out.extend_from_slice(&stream.pass(piece));
    }
    out.extend(stream.rest());
    String::from_utf8(out).unwrap()
}

/// The reference encoder: bit by bit.
fn base64(bytes: &[u8], address: bool, padded: bool) -> String {
    let last = if address { "-_" } else { "+/" };
    let alphabet: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(last.chars()).collect();
    let bits: String = bytes.iter().map(|b| format!("{b:08b}")).collect();
    let mut out: String = bits
        .as_bytes()
        .chunks(6)
        .map(|six| alphabet[usize::from_str_radix(&format!("{:0<6}", String::from_utf8_lossy(six)), 2).unwrap()])
        .collect();
    while padded && !out.len().is_multiple_of(4) {
        out.push('=');
    }
    out
}

const SECRET: &str = "gho_?7/ä\"x>~Zz";

#[test]
fn bnd_4_a_secret_is_found_in_every_form_in_which_programs_write_one() {
    let known = known(&[SECRET]);
    let raw = SECRET.as_bytes();
    let hex: String = raw.iter().map(|b| format!("{b:02x}")).collect();
    let every: String = raw.iter().map(|b| format!("%{b:02X}")).collect();
    let forms = [
        SECRET.to_owned(),
        hex.clone(),
        hex.to_uppercase(),
        every.clone(),
        every.to_lowercase(),
        "gho_%3F7%2F%C3%A4%22x%3E~Zz".to_owned(),
        "gho_%3f7%2f%c3%a4%22x%3e~Zz".to_owned(),
        "gho_?7/ä\\\"x>~Zz".to_owned(),
        "gho_?7/\\u00e4\\\"x>~Zz".to_owned(),
        "gho_?7\\/ä\\\"x>~Zz".to_owned(),
        "gho_?7/ä\\\\\\\"x>~Zz".to_owned(),
    ];
    for form in forms {
        assert_eq!(known.text(&format!("<{form}>")), "<[secret: a.b]>", "{form}");
        assert_eq!(known.find(form.as_bytes()), Some("a.b"));
    }
    for (before, after) in [("", ""), ("u", ""), ("us", ":"), ("user:", ""), ("user:x", "rest of it")] {
        for (address, padded) in [(false, false), (false, true), (true, false), (true, true)] {
            let whole = [before.as_bytes(), raw, after.as_bytes()].concat();
            let said = base64(&whole, address, padded);
            let clean = known.text(&said).into_owned();
            assert!(clean.contains("[secret: a.b]"), "{before}|{after} {said}");
            // No more of it is left than the characters that it shares with the text around it.
            let around = (before.len() * 8).div_ceil(6) + (after.len() * 8).div_ceil(6) + 3;
            assert!(clean.len() - "[secret: a.b]".len() <= around, "{clean} of {said}");
        }
    }
}

#[test]
fn a_short_value_is_none_and_a_name_says_nothing_but_itself() {
    assert_eq!(known(&["seven77", "", "\n"]).text("seven77 here"), "seven77 here");
    assert_eq!(known(&["line one\nx\nline two!\n"]).text("> line two! x line one"), "> [secret: a.b] x [secret: a.b]");
    let empty = Redactor::new([("\"<b>\u{1b}[2J", "open sesame")]);
    assert_eq!(empty.text("open sesame"), "[secret: __b___2J]");
    assert!(!format!("{empty:?}").contains("sesame"));
}

#[test]
fn the_longest_is_taken_and_what_overlaps_leaves_nothing() {
    let known = Redactor::new([("short", "password"), ("long", "password-of-all"), ("next", "of-all-things")]);
    assert_eq!(known.text("password-of-all"), "[secret: long]");
    assert_eq!(known.text("password-of-x"), "[secret: short]-of-x");
    assert_eq!(known.text("password-of-all-things!"), "[secret: long]!");
    assert_eq!(known.text("passwordpassword"), "[secret: short][secret: short]");
}

#[test]
fn what_comes_in_pieces_is_found_and_only_a_beginning_waits() {
    let known = known(&["open sesame"]);
    let mut stream = known.stream();
    assert_eq!(&*stream.pass(b"say open"), b"say ");
    assert_eq!(&*stream.pass(b" sesame now\n"), b"[secret: a.b] now\n");
    assert_eq!(&*stream.pass(b"the door is open"), b"the door is ");
    assert_eq!(&*stream.pass(b"ed"), b"opened");
    assert_eq!(through(&known, &[b"open ses"]), "[secret: a.b]", "cut by the end");
    assert_eq!(through(&known, &[b"ope"]), "ope", "of three characters nothing can be told");
    assert_eq!(known.cut_text("n sesame now, open ses"), "[secret: a.b] now, [secret: a.b]");
    assert_eq!(known.text("n sesame now, open ses"), "n sesame now, open ses", "a whole text was not cut");
    // An endless run of hits needs no more space than one hit.
    let many = Redactor::new([("x", "aaaaaaaaaa")]);
    let mut stream = many.stream();
    let mut out = Vec::new();
    for _ in 0..1000 {
        out.extend_from_slice(&stream.pass(&[b'a'; 64]));
        assert!(stream.held.len() < many.longest());
    }
    out.extend(stream.rest());
    assert_eq!(out, b"[secret: x]");
}

#[test]
fn a_file_keeps_its_length() {
    let known = known(&["open sesame and more words"]);
    let text = b"xx open sesame and more words yy";
    let places = known.places(text);
    assert_eq!(places.len(), 1);
    assert_eq!(places[0].0, 3..29);
    assert_eq!(places[0].1, b"[secret: a.b]*************");
}

#[test]
fn its_cost_grows_with_the_text_and_not_with_the_secrets() {
    let values: Vec<String> = (0..3000).map(|n| format!("SECRET_NUMBER_{n}_OF_A_COPIED_FILE={}", n * 7919)).collect();
    let known = Redactor::new(values.iter().map(|v| ("f", v.as_str())));
    let text = "SECRET_NUMBER_17_OF_A ".repeat(1 << 15);
    let begun = std::time::Instant::now();
    assert_eq!(known.text(&text), text);
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
}

proptest! {
    #[test]
    fn however_it_is_cut_the_same_comes_out(text in "[ab ]{0,60}", cuts in proptest::collection::vec(0_usize..60, 0..4), values in proptest::collection::vec("[ab]{8,12}", 1..3)) {
        let known = known(&values.iter().map(String::as_str).collect::<Vec<_>>());
        let mut at: Vec<usize> = cuts.into_iter().map(|c| c.min(text.len())).chain([0, text.len()]).collect();
        at.sort_unstable();
        let pieces: Vec<&[u8]> = at.windows(2).map(|w| &text.as_bytes()[w[0]..w[1]]).collect();
        let whole = through(&known, &[text.as_bytes()]);
        prop_assert_eq!(&whole, &through(&known, &pieces));
        for value in &values {
            prop_assert!(!whole.contains(value.as_str()));
        }
    }

    #[test]
    fn a_text_without_a_secret_is_left_alone(text in "\\PC{0,200}") {
        let clean = known(&["open sesame", SECRET]).text(&text).into_owned();
        prop_assert_eq!(clean, text);
    }
}
