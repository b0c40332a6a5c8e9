//! The user whom a token names, by the claims that the operator has configured.

use fanfare_core::name::Name;
use serde_json::{Map, Value};
use thiserror::Error;

/// The claims of a token that has been verified.
pub(crate) type Claims = Map<String, Value>;

/// The claim with an e-mail address (OpenID Connect Core 1.0, section 5.1).
const EMAIL: &str = "email";
/// The claim with which a provider says whether it has verified the user's e-mail address.
const EMAIL_VERIFIED: &str = "email_verified";

/// The names of the claims that identify a user.
#[derive(Debug, Clone)]
pub struct ClaimNames {
    /// The claim with the user's name in the report server's directory.
    pub user: String,
    /// The claim that marks administrators, and the value that it must have or contain.
    pub administrator: Option<(String, String)>,
}

/// A user whom the provider has identified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) name: Name,
    /// Whether the provider says that the user is an administrator.
    pub(crate) administrator: bool,
}

/// Why the claims name no user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum UserClaimError {
    /// The claim is missing.
    #[error("the claim that names the user is missing")]
    Missing,
    /// The claim is not a valid user name.
    #[error("the claim that names the user holds no name")]
    NoName,
    /// The claim is an e-mail address that the provider has not verified.
    #[error("the provider has not verified the user's e-mail address")]
    NotVerified,
}

impl ClaimNames {
    /// Whether the claims have all that is needed.
    pub(crate) fn all_in(&self, claims: &Claims) -> bool {
        let there = |name: &str| find(claims, name).is_some();
        there(&self.user)
            && self.says_whether_verified(claims)
            && self.administrator.as_ref().is_none_or(|(name, _)| there(name))
    }

    /// Whether the claims settle the user's name. If the name is an e-mail address, they must also
    /// say whether it is verified; otherwise the user-info endpoint may say so.
    pub(crate) fn says_whether_verified(&self, claims: &Claims) -> bool {
        self.user != EMAIL || claims.contains_key(EMAIL_VERIFIED)
    }

    /// Returns the user whom the claims name.
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

/// Finds a claim by its name, or by a path of names separated by dots.
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
    fn the_configured_claim_names_the_user() {
        let plain = names("preferred_username", None);
        check(&plain, &json!({ "preferred_username": "Anna" }), Ok(("Anna", false)));
        check(&plain, &json!({ "sub": "Anna" }), Err(UserClaimError::Missing));
        check(&plain, &json!({ "preferred_username": null }), Err(UserClaimError::Missing));
        for value in [json!(7), json!(["anna"]), json!(""), json!("a\u{0}b")] {
            check(&plain, &json!({ "preferred_username": value }), Err(UserClaimError::NoName));
        }
    }

    #[test]
    fn an_unverified_address_names_no_user() {
        let email = names("email", None);
        let claims =
            |verified: Value| json!({ "email": "a@b.example", "email_verified": verified });
        check(&email, &claims(json!(true)), Ok(("a@b.example", false)));
        check(&email, &json!({ "email": "a@b.example" }), Ok(("a@b.example", false)));
        for value in [json!(false), json!("false"), json!(null), json!(1)] {
            check(&email, &claims(value), Err(UserClaimError::NotVerified));
        }
        // The user-info endpoint is not needed if the name is not an e-mail address, or if the ID
        // token says whether it is verified.
        let all_in = |names: &ClaimNames, claims: Value| names.all_in(claims.as_object().unwrap());
        assert!(!all_in(&email, json!({ "email": "a@b.example" })));
        assert!(all_in(&email, claims(json!(false))));
        assert!(all_in(&names("sub", None), json!({ "sub": "a", "email": "a@b.example" })));
    }

    #[test]
    fn the_configured_value_makes_a_user_an_administrator() {
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
