//! Whom a token is about: what the operator's settings make of its claims.

use fanfare_core::name::Name;
use serde_json::{Map, Value};
use thiserror::Error;

/// What a token says, after it was found to be genuine.
pub(crate) type Claims = Map<String, Value>;

/// The claim that holds an address (OpenID Connect Core 1.0, section 5.1).
const EMAIL: &str = "email";
/// The claim with which a provider says whether an address is the user's own.
const EMAIL_VERIFIED: &str = "email_verified";

/// Which claims say who somebody is.
#[derive(Debug, Clone)]
pub struct ClaimNames {
    /// The one that holds the user's name in the report server's directory.
    pub user: String,
    /// The one that says who is an administrator, and the value that it must hold.
    pub administrator: Option<(String, String)>,
}

/// Whom a provider vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) name: Name,
    /// Whether the provider says that this is an administrator.
    pub(crate) administrator: bool,
}

/// The claims name nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum UserClaimError {
    /// There is no such claim.
    #[error("the claim that names the user is missing")]
    Missing,
    /// It is no text that could be a name.
    #[error("the claim that names the user holds no name")]
    NoName,
    /// It is an address that somebody only says to have.
    #[error("the provider has not verified the user's e-mail address")]
    NotVerified,
}

impl ClaimNames {
    /// Whether everything is there that is looked for.
    pub(crate) fn all_in(&self, claims: &Claims) -> bool {
        let there = |name: &str| find(claims, name).is_some();
        there(&self.user)
            && self.says_whether_verified(claims)
            && self.administrator.as_ref().is_none_or(|(name, _)| there(name))
    }

    /// Whether nothing more is to be said of the user's name. An address may be one that the provider
    /// has not verified, and where that would be said can be elsewhere.
    pub(crate) fn says_whether_verified(&self, claims: &Claims) -> bool {
        self.user != EMAIL || claims.contains_key(EMAIL_VERIFIED)
    }

    /// Whom the claims are about.
    pub(crate) fn person(&self, claims: &Claims) -> Result<Person, UserClaimError> {
        let name = match find(claims, &self.user) {
            None | Some(Value::Null) => return Err(UserClaimError::Missing),
            Some(value) => value.as_str().and_then(Name::parse).ok_or(UserClaimError::NoName)?,
        };
        if self.user == EMAIL && claims.get(EMAIL_VERIFIED).is_some_and(|it| !is(it, "true")) {
            return Err(UserClaimError::NotVerified);
        }
        let administrator =
            self.administrator.as_ref().is_some_and(|(claim, wanted)| match find(claims, claim) {
                Some(Value::Array(values)) => values.iter().any(|value| is(value, wanted)),
                Some(value) => is(value, wanted),
                None => false,
            });
        Ok(Person { name, administrator })
    }
}

/// A claim by its name, or by a path of names with dots between them.
fn find<'a>(claims: &'a Claims, name: &str) -> Option<&'a Value> {
    claims.get(name).or_else(|| {
        let (first, rest) = name.split_once('.')?;
        find(claims.get(first)?.as_object()?, rest)
    })
}

fn is(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => text == wanted,
        Value::Bool(flag) => flag.to_string() == wanted,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn names(user: &str, administrator: Option<(&str, &str)>) -> ClaimNames {
        let administrator = administrator.map(|(name, value)| (name.to_owned(), value.to_owned()));
        ClaimNames { user: user.to_owned(), administrator }
    }

    #[track_caller]
    fn check(names: &ClaimNames, claims: &Value, expected: Result<(&str, bool), UserClaimError>) {
        let person = names.person(claims.as_object().unwrap());
        let person = person.as_ref().map(|it| (it.name.as_str(), it.administrator));
        assert_eq!(person.map_err(|nameless| *nameless), expected, "{claims}");
    }

    #[test]
    fn a_claim_names_the_user() {
        let plain = names("preferred_username", None);
        check(&plain, &json!({ "preferred_username": "Anna" }), Ok(("Anna", false)));
        check(&plain, &json!({ "sub": "Anna" }), Err(UserClaimError::Missing));
        check(&plain, &json!({ "preferred_username": null }), Err(UserClaimError::Missing));
        for value in [json!(7), json!(["anna"]), json!(""), json!("a\u{0}b")] {
            check(&plain, &json!({ "preferred_username": value }), Err(UserClaimError::NoName));
        }
    }

    #[test]
    fn an_address_that_is_not_verified_names_nobody() {
        let email = names("email", None);
        let claims =
            |verified: Value| json!({ "email": "a@b.example", "email_verified": verified });
        check(&email, &claims(json!(true)), Ok(("a@b.example", false)));
        check(&email, &json!({ "email": "a@b.example" }), Ok(("a@b.example", false)));
        for value in [json!(false), json!("false"), json!(null), json!(1)] {
            check(&email, &claims(value), Err(UserClaimError::NotVerified));
        }
        // Where an address is no name, or the ID token says it, the provider need not be asked.
        let all_in = |names: &ClaimNames, claims: Value| names.all_in(claims.as_object().unwrap());
        assert!(!all_in(&email, json!({ "email": "a@b.example" })));
        assert!(all_in(&email, claims(json!(false))));
        assert!(all_in(&names("sub", None), json!({ "sub": "a", "email": "a@b.example" })));
    }

    #[test]
    fn a_value_makes_an_administrator() {
        let groups = names("sub", Some(("groups", "admins")));
        for (value, expected) in [
            (json!(["x", "admins"]), true),
            (json!("admins"), true),
            (json!(["Admins", "admins2", ["admins"]]), false),
            (json!("x admins"), false),
            (json!({ "admins": true }), false),
            (json!(null), false),
        ] {
            check(&groups, &json!({ "sub": "a", "groups": value }), Ok(("a", expected)));
        }
        let flag = names("sub", Some(("is_admin", "true")));
        check(&flag, &json!({ "sub": "a", "is_admin": true }), Ok(("a", true)));
        check(&flag, &json!({ "sub": "a", "is_admin": 1 }), Ok(("a", false)));
    }

    #[test]
    fn claims_are_found_by_name_before_path() {
        let path = names("sub", Some(("realm_access.roles", "admin")));
        let claims = json!({ "sub": "a", "realm_access": { "roles": ["admin"] } });
        check(&path, &claims, Ok(("a", true)));
        let url = names("sub", Some(("https://a.example/roles", "admin")));
        check(&url, &json!({ "sub": "a", "https://a.example/roles": ["admin"] }), Ok(("a", true)));
        assert!(!url.all_in(json!({ "sub": "a" }).as_object().unwrap()));
        assert!(path.all_in(claims.as_object().unwrap()));
    }
}
