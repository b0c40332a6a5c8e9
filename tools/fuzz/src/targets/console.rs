//! What clients send to the console: queries, forms, headers, cookies and tokens.

use fanfare_console::fuzzing::{
    Request, cursors, flow, local, query, request, token_form, token_summary,
};
use url::Url;

use super::check_sentence;
use crate::Target;
use crate::input::Input;

pub(super) const QUERY: Target = Target {
    name: "query",
    about: "a query of /api/v1: each wrong parameter is named once with a sentence, and a cursor \
            reads back as it was written",
    check: api_query,
};

pub(super) const HEADERS: Target = Target {
    name: "headers",
    about: "the headers of a request: tokens and cookies have no separators in them, and no header \
            makes the console send a browser to another site",
    check: headers,
};

fn api_query(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let list = input.byte();
    let rest = input.rest();
    if let Some((name, password)) = token_form(rest) {
        assert!(!name.is_empty() && !password.is_empty());
    }
    let Ok(text) = std::str::from_utf8(rest) else { return };
    if let Err(wrong) = query(list, text) {
        let parameters = text.split('&').filter(|pair| !pair.is_empty()).count();
        assert!((1..=parameters).contains(&wrong.len()), "{wrong:?}");
        for (_, detail) in wrong {
            check_sentence(&detail);
        }
    }
    for (at, cursor) in cursors(text).into_iter().enumerate() {
        let Some(cursor) = cursor else { continue };
        assert_eq!(cursors(&cursor)[at].as_ref(), Some(&cursor));
    }
}

/// Headers, one a line; and the path to continue with on the first.
fn headers(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let next = input.text().unwrap_or_default();
    check_local(local(next));
    assert!(token_summary(next).len() <= 3 * 4 * 200 + 2);
    if let Some(cookie) = flow(next) {
        assert_eq!(flow(&cookie).as_ref(), Some(&cookie));
    }
    let mut pairs = Vec::new();
    while !input.is_empty() {
        let line = input.line();
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        pairs.push((name, value.get(1..).unwrap_or_default().trim_ascii()));
    }
    let Request { bearer, session, next, address, is_own } = request(&pairs);
    assert!(bearer.is_none_or(|token| !token.is_empty() && token.trim_matches(' ') == token));
    assert!(session.is_none_or(|token| !token.is_empty() && !token.contains(';')));
    if let Some(next) = next {
        check_local(local(&next));
    }
    if address != "/x" {
        let url = Url::parse(&address).unwrap_or_else(|error| panic!("{address}: {error}"));
        assert!(url.path() == "/x" && url.username().is_empty(), "{address}");
    }
    let has = |name: &str| pairs.iter().any(|(it, _)| it.eq_ignore_ascii_case(name.as_bytes()));
    assert!(!is_own || has("origin") || has("sec-fetch-site"));
}

/// A path leads to the same site, whatever a browser makes of it.
fn check_local(path: &str) {
    let site = Url::parse("https://console.example/sign-in");
    let there = site.as_ref().map(|site| site.join(path));
    match (site.as_ref(), there) {
        (Ok(site), Ok(Ok(there))) => assert_eq!(there.origin(), site.origin(), "{path}"),
        other => panic!("{path}: {other:?}"),
    }
}
