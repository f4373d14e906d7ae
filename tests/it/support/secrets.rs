//! Fake secrets of several kinds, made from a seed when a test runs, so that none of our files contains one.
#![allow(dead_code, reason = "each test uses its part")]

/// A small generator (splitmix64): the same seed always gives the same secret.
pub struct Seed(u64);

impl Seed {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `n` characters of an alphabet.
    pub fn text(&mut self, alphabet: &str, n: usize) -> String {
        let letters: Vec<char> = alphabet.chars().collect();
        (0..n).map(|_| letters[usize::try_from(self.next() % letters.len() as u64).unwrap()]).collect()
    }
}

const UPPER32: &str = "ABCDEFGHIJKMNOPQRSTUVWXYZ234567";
const ALNUM: &str = "ABCDEFGHIJKMNOPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz0123456789";
const DIGITS: &str = "0123456789";
const HEX: &str = "0123456789abcdef";

/// A kind of secret.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// In the table.
    pub name: &'static str,
    /// The scanner's rule.
    pub rule: &'static str,
    make: fn(&mut Seed) -> (String, String),
}

impl Kind {
    /// Text of a file, and the part of it that must never be shown.
    pub fn make(self, seed: u64) -> (String, String) {
        (self.make)(&mut Seed::new(seed))
    }
}

fn line(name: &str, secret: String) -> (String, String) {
    (format!("{name} = \"{secret}\"\n"), secret)
}

/// Prefixes are joined from halves: a whole one would make this file a finding.
pub const KINDS: &[Kind] = &[
    Kind {
        name: "AWS key",
        rule: "aws-access-token",
        make: |s| line("id", format!("{}{}{}", "AK", "IA", s.text(UPPER32, 16))),
    },
    Kind {
        name: "PEM key",
        rule: "private-key",
        make: |s| {
            let body: Vec<String> = (0..12).map(|_| s.text(ALNUM, 64)).collect();
            let (dashes, what) = ("-".repeat(5), "PRIVATE KEY");
            let text =
                format!("{dashes}BEGIN RSA {what}{dashes}\n{}\n{dashes}END RSA {what}{dashes}\n", body.join("\n"));
            (text, body.first().unwrap().clone())
        },
    },
    Kind {
        name: "GitHub token",
        rule: "github-pat",
        make: |s| line("token", format!("{}{}{}", "gh", "p_", s.text(ALNUM, 36))),
    },
    Kind {
        name: "Slack token",
        rule: "slack-bot-token",
        make: |s| {
            let (team, user) = (s.text("123456789", 12), s.text("123456789", 12));
            line("bot", format!("{}{}{team}-{user}-{}", "xo", "xb-", s.text(ALNUM, 24)))
        },
    },
    Kind {
        name: "Stripe key",
        rule: "stripe-access-token",
        make: |s| line("pay", format!("{}{}{}", "sk_", "live_", s.text(ALNUM, 24))),
    },
    Kind {
        name: "Google key",
        rule: "gcp-api-key",
        make: |s| line("maps", format!("{}{}{}", "AI", "za", s.text(ALNUM, 35))),
    },
    Kind {
        name: "generic",
        rule: "generic-api-key",
        make: |s| line("api_key", format!("{}{}", s.text(DIGITS, 1), s.text(HEX, 39))),
    },
];
