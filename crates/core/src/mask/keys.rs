//! The names of secrets.
//!
//! Names are compared by their letters and digits only, in lower case, so that `Client Secret`,
//! `client_secret` and `ClientSecret` are the same name. Digits at the end (`Password2`) are
//! ignored.

/// The endings of names of secrets. Only the ending counts, since drivers put words before it: `Jet
/// OLEDB:Database Password`, `SecretAccessKey`, `ssl-key-password`.
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

/// Names that must match as a whole, because they are too short to be used as endings.
const WHOLE: [&str; 6] = ["jwt", "pat", "pin", "pw", "sas", "sig"];

/// Suffixes that a name of a secret may have: `SharedSecretValue`, `PasswordHash`.
const AFTER: [&str; 6] = ["value", "text", "string", "hash", "base64", "s"];

/// Names with the ending of a secret that are not secrets; the first is part of .NET assembly
/// names.
const HARMLESS: [&str; 3] = ["publickeytoken", "bypass", "compass"];

/// Whether a value with this name is a secret. `name` may have other text before the name.
pub(super) fn is_secret(name: &str) -> bool {
    let folded = fold(name);
    let folded = folded.trim_end_matches(|c: char| c.is_ascii_digit());
    if ends_in_secret(folded) {
        return true;
    }
    AFTER.iter().filter_map(|after| folded.strip_suffix(after)).any(ends_in_secret)
}

/// Whether a value with this name identifies a user, which is never a secret.
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
