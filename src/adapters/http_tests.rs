//! The classes of failures, and what is never printed.

use super::*;

#[test]
fn a_lost_write_is_never_called_transient() {
    for status in [408, 500, 502, 503, 504, 599] {
        assert_eq!(class_of(status, true, Some(3), None), Some(Class::UnknownOutcome));
    }
    assert_eq!(class_of(502, false, None, None), Some(Class::Transient));
    assert_eq!(class_of(503, false, Some(3), None), Some(Class::Throttled { retry_after_s: Some(3) }));
    assert_eq!(class_of(429, true, None, None), Some(Class::Throttled { retry_after_s: None }));
    assert_eq!(class_of(204, true, None, None), None);
    assert_eq!(class_of(413, true, None, None), Some(Class::Invalid));
}

#[test]
fn a_token_is_never_printed() {
    let auth = Auth::TokenInPath { prefix: "/bot", token: Token::new("12:SECRET") };
    assert!(!format!("{auth:?}").contains("SECRET"));
    let client = Client::new("http://127.0.0.1:1", auth, Limits::default()).unwrap();
    assert!(!format!("{client:?}").contains("SECRET"));
    let e = client.send(&Request::new(Method::Get, "/getMe")).unwrap_err();
    assert_eq!((e.class.clone(), e.fault), (Class::Transient, Fault::Connect));
    assert!(!format!("{e} {e:?}").contains("SECRET"));
}

#[test]
fn a_date_is_read_against_the_servers_own_clock() {
    let header = |n: &str, v: &str| (n.to_owned(), v.to_owned());
    let mut r = Response {
        status: 503,
        headers: vec![
            header("retry-after", "Sun, 22 Nov 2026 13:55:44 GMT"),
            header("date", "Sun, 22 Nov 2026 13:54:44 GMT"),
        ],
        body: vec![],
        elapsed_ms: 0,
        what: String::new(),
        write: false,
    };
    assert_eq!(r.retry_after_s(), Some(60));
    r.headers[0].1 = "7".into();
    assert_eq!(r.retry_after_s(), Some(7));
    r.headers[0].1 = "soon".into();
    assert_eq!(r.retry_after_s(), None);
}

#[test]
fn segments_cannot_leave_their_place() {
    assert_eq!(segment("feature/a b"), "feature%2Fa%20b");
    assert_eq!(segment(".."), "%2E%2E");
    assert_eq!(segment("é?#"), "%C3%A9%3F%23");
}

#[test]
fn addresses_without_http_or_with_credentials_are_refused() {
    for bad in ["", "ftp://x", "host", "http://u:p@host"] {
        assert!(Client::new(bad, Auth::None, Limits::default()).is_err(), "{bad}");
    }
}
