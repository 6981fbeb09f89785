//! What in a file is a secret, by its name or its form: it is not shown in errors. Better to hide too much.

/// Of these one makes a key's value a secret, wherever it stands in it: without case and separators.
const PARTS: [&str; 22] = [
    "accesskey",
    "apikey",
    "authkey",
    "authorization",
    "bearer",
    "clusterkey",
    "connectionstring",
    "credential",
    "encryptionkey",
    "masterkey",
    "passcode",
    "passphrase",
    "passwd",
    "password",
    "passwort",
    "privatekey",
    "pwd",
    "secret",
    "sessionkey",
    "signingkey",
    "token",
    "webhookurl",
];

/// These do as the last word of a key.
const LAST_WORDS: [&str; 9] = ["dsn", "jwt", "otp", "pass", "pepper", "pin", "psk", "pw", "salt"];

/// Whether the value of a key is kept out of error texts. A misspelt `cluster-key` holds a secret too.
pub(super) fn is_secret(key: &str) -> bool {
    let words = words(key);
    let joined = words.concat();
    let last = words.last().map_or("", String::as_str);
    PARTS.iter().any(|part| joined.contains(part))
        || LAST_WORDS.contains(&last)
        // `STRIPE_KEY`, but not the `key` of a certificate, which is the name of a file.
        || (words.len() > 1 && matches!(last, "key" | "keys"))
        || strsim::damerau_levenshtein(&words.join("-"), "cluster-key") <= 2
}

/// Whether a text is one whatever its key says: an assignment to such a key (`API_KEY=…`, `--password=…`), a URL with a password, a
/// private key.
pub(super) fn holds_secret(text: &str) -> bool {
    text.split_once('=').is_some_and(|(name, _)| is_name(name) && is_secret(name))
        || has_password(text)
        || (text.contains("-----BEGIN ") && text.contains("PRIVATE KEY"))
}

/// Whether a line, of a file whose structure is unknown, says something of a secret.
pub(super) fn mentions_secret(line: &str) -> bool {
    line.split(|it: char| !is_of_name(it)).any(is_secret)
        || has_password(line)
        || line.contains("-----BEGIN ")
}

/// `scheme://user:password@host`, or a token in the place of both (RFC 3986 §3.2.1).
fn has_password(text: &str) -> bool {
    text.split("://").skip(1).any(|rest| {
        let authority = rest.split(['/', '?', '#', '"', '\'']).next().unwrap_or("");
        authority.contains('@')
    })
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_of_name)
}

fn is_of_name(it: char) -> bool {
    it.is_alphanumeric() || matches!(it, '_' | '-' | '.')
}

/// `API_KEY`, `api-key` and `apiKey` have two.
fn words(key: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for it in key.chars().take(256) {
        let starts = !it.is_alphanumeric() || (it.is_uppercase() && before.is_lowercase());
        if starts && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| it.is_alphanumeric()) {
            word.extend(it.to_lowercase());
        }
        before = it;
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_known_however_they_are_written() {
        for key in [
            "cluster-key",
            "cluster_key",
            "clusterkye",
            "password",
            "DB_PASSWORD",
            "passwd",
            "MYSQL_PASSWD",
            "POSTGRES_PWD",
            "db-pass",
            "API_KEY",
            "apiKey",
            "api-key",
            "APIKEY",
            "STRIPE_KEY",
            "SSH_PRIVATE_KEY",
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "SIGNING_KEYS",
            "GITHUB_TOKEN",
            "tokens",
            "client-secret",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "SENTRY_DSN",
            "PASSWORD_SALT",
            "passphrase",
            "HTTP_AUTHORIZATION",
            "SLACK_WEBHOOK_URL",
        ] {
            assert!(is_secret(key), "{key}");
        }
        for key in [
            "",
            "key",
            "cert",
            "client-auth",
            "address",
            "path",
            "session-cookie",
            "keepalive-max",
            "PORT",
            "KEYBOARD",
            "compass",
            "path-info",
            "data-dir",
            "root-directory",
            "name",
            "monkey",
        ] {
            assert!(!is_secret(key), "{key}");
        }
    }

    #[test]
    fn texts_that_hold_secrets_are_known_by_their_form() {
        for text in [
            "API_KEY=abc",
            "--password=abc",
            "postgres://shop:abc@db/shop",
            "redis://:abc@cache:6379",
            "https://abc@github.com/x",
            "-----BEGIN RSA PRIVATE KEY-----\nabc",
        ] {
            assert!(holds_secret(text), "{text}");
        }
        for text in [
            "./shop",
            "--port=80",
            "http://10.0.0.1:80/a@b",
            "a@b.c",
            "if password=x then",
            "-----BEGIN CERTIFICATE-----",
        ] {
            assert!(!holds_secret(text), "{text}");
        }
        for line in ["  API_KEY: [abc", "- --db-passwd abc", "url: \"postgres://a:b@c", "{cluster-kye: x"] {
            assert!(mentions_secret(line), "{line}");
        }
        assert!(!mentions_secret("  - {id: app-a, address: 192.168.1.11}"));
    }
}
