//! The names that passwords go by.
//!
//! Names are compared by their letters and digits alone, in lower case, so that `Client Secret`,
//! `client_secret` and `ClientSecret` are one name; digits at the end (`Password2`) don't count.

/// How names of secrets end. An end, since drivers put words before it: `Jet OLEDB:Database
/// Password`, `SecretAccessKey`, `ssl-key-password`.
const ENDINGS: [&str; 33] = [
    "accesskey",
    "accesssignature",
    "accountkey",
    "apikey",
    "appkey",
    "applicationkey",
    "authkey",
    "authorization",
    "bearer",
    "clientkey",
    "credential",
    "encryptionkey",
    "keyvalue",
    "licensekey",
    "masterkey",
    "pass",
    "passcode",
    "passkey",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "pwd",
    "secret",
    "secretkey",
    "securitykey",
    "servicekey",
    "sharedkey",
    "signingkey",
    "storagekey",
    "subscriptionkey",
    "symmetrickey",
    "token",
];

/// Names too short to be looked for at the end of others.
const WHOLE: [&str; 6] = ["jwt", "pat", "pin", "pw", "sas", "sig"];

/// What may follow a name without changing what it is: `SharedSecretValue`, `PasswordHash`.
const AFTER: [&str; 6] = ["value", "text", "string", "hash", "base64", "s"];

/// Names that end like secrets and are none; the first is part of .NET assembly names.
const HARMLESS: [&str; 3] = ["publickeytoken", "bypass", "compass"];

/// Whether a value of this name is a secret. `name` may begin with more than the name.
pub(super) fn is_secret(name: &str) -> bool {
    let folded = fold(name);
    let folded = folded.trim_end_matches(|c: char| c.is_ascii_digit());
    if ends_in_secret(folded) {
        return true;
    }
    AFTER.iter().filter_map(|after| folded.strip_suffix(after)).any(ends_in_secret)
}

/// Whether a value of this name says who, which is never a secret.
pub(super) fn is_user(name: &str) -> bool {
    let folded = fold(name);
    ["user", "userid", "uid", "username", "login"].iter().any(|known| folded == *known)
}

fn ends_in_secret(folded: &str) -> bool {
    let ends = |ending: &&str| folded.ends_with(*ending);
    WHOLE.contains(&folded) || (ENDINGS.iter().any(ends) && !HARMLESS.iter().any(ends))
}

fn fold(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}
