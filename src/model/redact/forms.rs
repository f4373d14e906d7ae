//! How programs write a secret: as it is, and in the encodings of tools, headers, addresses and JSON.

/// A shorter value occurs in other text by chance, and is not searched for; `config check` warns about one.
pub const LEAST: usize = 8;
use zeroize::Zeroizing;

type Bytes = Zeroizing<Vec<u8>>;

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const FOR_ADDRESSES: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Every form of one line that is searched for; none is shorter than [`LEAST`].
pub(super) fn of(line: &str) -> Vec<Bytes> {
    let raw = line.as_bytes();
    let mut forms: Vec<Vec<u8>> = vec![raw.to_vec()];
    for alphabet in [STANDARD, FOR_ADDRESSES] {
        (0..3).for_each(|before| forms.extend(base64(raw, before, alphabet)));
    }
    let hex = |upper: bool| raw.iter().flat_map(|b| pair(*b, upper)).collect();
    forms.extend([hex(false), hex(true)]);
    for upper in [false, true] {
        forms.extend([percent(raw, upper, true), percent(raw, upper, false)]);
    }
    forms.extend(json(line));
    let long = forms.into_iter().filter(|f| f.len() >= LEAST);
    long.map(Zeroizing::new).collect()
}

fn pair(byte: u8, upper: bool) -> [u8; 2] {
    let digits = if upper { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
    [byte >> 4, byte & 15].map(|n| digits.get(usize::from(n)).copied().unwrap_or(b'0'))
}

/// The characters that depend on the secret alone, which begins `before` bytes into a group of three; and, for one that
/// ends its text, those to the end, without padding and with it.
fn base64(raw: &[u8], before: usize, alphabet: &[u8; 64]) -> [Vec<u8>; 3] {
    let bytes: Vec<u8> = std::iter::repeat_n(0, before).chain(raw.iter().copied()).collect();
    let mut all = Vec::new();
    for group in bytes.chunks(3) {
        let of = |n: usize| u32::from(group.get(n).copied().unwrap_or(0));
        let bits = of(0) << 16 | of(1) << 8 | of(2);
        let six = [18, 12, 6, 0].map(|by| usize::try_from(bits >> by & 63).unwrap_or(0));
        all.extend(six.iter().take(group.len() + 1).filter_map(|n| alphabet.get(*n)));
    }
    // A character that shares a bit with what precedes is not the secret's own.
    let begin = (before * 8).div_ceil(6);
    let inner = all.get(begin..bytes.len() * 8 / 6).unwrap_or_default().to_vec();
    let open = all.get(begin..).unwrap_or_default().to_vec();
    let mut padded = open.clone();
    padded.resize(open.len() + (4 - all.len() % 4) % 4, b'=');
    [inner, open, padded]
}

/// With each byte as `%XX`, or only those with a meaning in an address.
fn percent(raw: &[u8], upper: bool, every: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for b in raw {
        if !every && (b.is_ascii_alphanumeric() || b"-._~".contains(b)) {
            out.push(*b);
        } else {
            out.push(b'%');
            out.extend(pair(*b, upper));
        }
    }
    out
}

/// As a JSON text has it: with the few characters that must be escaped, or all that are not ASCII, or the slash as
/// well; and once more as a text inside a JSON text.
fn json(line: &str) -> Vec<Vec<u8>> {
    let once = escaped(line);
    let ascii: String = once.chars().map(|c| if c.is_ascii() { c.to_string() } else { units(c) }).collect();
    let slashes = once.replace('/', "\\/");
    let twice = [&once, &ascii].map(|text| escaped(text).into_bytes());
    [once, ascii, slashes].into_iter().map(String::into_bytes).chain(twice).collect()
}

fn units(c: char) -> String {
    c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect()
}

fn escaped(text: &str) -> String {
    let quoted = serde_json::to_string(text).unwrap_or_default();
    quoted.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or_default().to_owned()
}
