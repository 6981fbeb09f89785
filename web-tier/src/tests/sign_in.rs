//! `basic-auth` and `jwt`, as clients meet them.

use super::{backend::echo, cluster::Cluster, rules::hosts};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use common::config::Config;
use std::{fs, time::SystemTime};

/// Of `password`, cheap.
const HASH: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

async fn cluster(folder: &tempfile::TempDir, rule: &str) -> Cluster {
    let hosts = hosts(folder.path(), &format!("{rule}, {{load-balance: {{cluster: app-tier}}}}"));
    Cluster::start_with([echo("a")], |config: &mut Config| config.clusters[1].hosts = hosts).await
}

fn base64(bytes: &[u8], url: bool) -> String {
    let (last, pad) = if url { (*b"-_", false) } else { (*b"+/", true) };
    let letters: Vec<u8> = (b'A'..=b'Z').chain(b'a'..=b'z').chain(b'0'..=b'9').chain(last).collect();
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits =
            three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            match place <= three.len() {
                true => text.push(char::from(letters[(bits >> (18 - 6 * place) & 63) as usize])),
                false if pad => text.push('='),
                false => {}
            }
        }
    }
    text
}

fn basic(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}\r\n", base64(format!("{user}:{password}").as_bytes(), false))
}

#[tokio::test]
async fn users_of_the_rule_and_of_its_file_pass() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("users"), format!("# more\nbob:{HASH}\n")).unwrap();
    let rule = format!(
        "{{basic-auth: {{regexp: '^/in', users: [{{name: ann, password: '{HASH}'}}], users-file: {}/users, realm: Members, user-header: X-User}}}}",
        folder.path().display()
    );
    let cluster = cluster(&folder, &rule).await;
    for user in ["ann", "bob", "ann"] {
        let fields = format!("X-User: root\r\nX_User: root\r\n{}", basic(user, "password"));
        let answer = cluster.ask("GET /in", &fields).await;
        assert!(
            answer.status == 200 && answer.body.contains(&format!("\nx-user: {user}\n")),
            "{}",
            answer.body
        );
        assert!(!answer.body.contains("root"), "{}", answer.body);
    }
    assert_eq!(cluster.ask("GET /free", "").await.status, 200);
    let mut client = cluster.client().await;
    for fields in [
        "",
        "Authorization: Bearer x\r\n",
        "Authorization: Basic !!\r\n",
        &basic("ann", "passwort"),
        &basic("cat", "password"),
    ] {
        let refused = client.ask("GET /in", fields).await;
        assert!(
            refused.status == 401
                && refused.has("www-authenticate: Basic realm=\"Members\", charset=\"UTF-8\""),
            "{}",
            refused.head
        );
        assert!(refused.has("cache-control: no-store"), "{}", refused.head);
    }
    let two = format!("{}{}", basic("ann", "password"), basic("ann", "password"));
    assert_eq!(client.ask("GET /in", &two).await.status, 401, "who says it twice may mean either");
}

#[tokio::test]
async fn who_guesses_has_to_wait() {
    let folder = tempfile::tempdir().unwrap();
    let rule = format!("{{basic-auth: {{users: [{{name: ann, password: '{HASH}'}}]}}}}");
    let cluster = cluster(&folder, &rule).await;
    let mut client = cluster.client().await;
    let mut answers = Vec::new();
    for _ in 0..8 {
        answers.push(client.ask("GET /", &basic("ann", "guess")).await);
    }
    let last = answers.pop().unwrap();
    assert!(last.status == 429 && last.head.contains("retry-after: "), "{}", last.head);
    assert_eq!(client.ask("GET /", &basic("ann", "password")).await.status, 429, "also with the right one");
}

/// A key for ES256, and a set with its public half.
fn key() -> (EcdsaKeyPair, String) {
    let document =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref()).unwrap();
    let point = pair.public_key().as_ref();
    let (x, y) = (base64(&point[1..33], true), base64(&point[33..], true));
    let set = format!(
        "{{\"keys\":[{{\"kty\":\"EC\",\"crv\":\"P-256\",\"kid\":\"one\",\"x\":\"{x}\",\"y\":\"{y}\"}}]}}"
    );
    (pair, set)
}

fn token(pair: &EcdsaKeyPair, claims: &str) -> String {
    let signed =
        format!("{}.{}", base64(br#"{"alg":"ES256","kid":"one"}"#, true), base64(claims.as_bytes(), true));
    let signature = pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    format!("{signed}.{}", base64(signature.as_ref(), true))
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test]
async fn a_good_token_passes_and_servers_hear_of_its_claims() {
    let folder = tempfile::tempdir().unwrap();
    let ((pair, set), (stranger, _)) = (key(), key());
    fs::write(folder.path().join("jwks.json"), set).unwrap();
    let rule = format!(
        "{{jwt: {{keys: {}/jwks.json, issuer: 'https://login.test', audience: [api, web], claims: [{{claim: sub, header: X-User}}, {{claim: realm.roles, header: X-Roles}}]}}}}",
        folder.path().display()
    );
    let cluster = cluster(&folder, &rule).await;
    let claims = |expires: u64, audience: &str| {
        format!(
            "{{\"iss\":\"https://login.test\",\"aud\":\"{audience}\",\"sub\":\"ann\",\"exp\":{expires},\"realm\":{{\"roles\":[\"a\",\"b\"]}}}}"
        )
    };
    let bearer = |token: &str| format!("X-User: root\r\nX-Roles: root\r\nAuthorization: Bearer {token}\r\n");
    let good = cluster.ask("GET /", &bearer(&token(&pair, &claims(now_s() + 600, "api")))).await;
    assert!(
        good.status == 200 && good.body.contains("\nx-user: ann\n") && good.body.contains("\nx-roles: a b\n"),
        "{}",
        good.body
    );
    assert!(!good.body.contains("root"), "{}", good.body);
    let none = cluster.ask("GET /", "X-User: root\r\n").await;
    assert!(none.status == 401 && none.has("www-authenticate: Bearer"), "{}", none.head);
    for (bad, why) in [
        (token(&pair, &claims(now_s() - 600, "api")), "the token has expired"),
        (token(&pair, &claims(now_s() + 600, "else")), "the token is not for this audience"),
        (token(&stranger, &claims(now_s() + 600, "api")), "the signature is not valid"),
        ("nonsense".to_owned(), "the token is not a JSON Web Token"),
    ] {
        let refused = cluster.ask("GET /", &bearer(&bad)).await;
        let challenge =
            format!("www-authenticate: Bearer error=\"invalid_token\", error_description=\"{why}\"");
        assert!(refused.status == 401 && refused.has(&challenge), "{}", refused.head);
    }
}

#[tokio::test]
async fn a_token_may_come_in_a_cookie_and_be_signed_with_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let secret = "0123456789abcdef0123456789abcdef";
    let rule = format!("{{jwt: {{secret: '{secret}', cookie: token}}}}");
    let cluster = cluster(&folder, &rule).await;
    let signed = format!(
        "{}.{}",
        base64(br#"{"alg":"HS256"}"#, true),
        base64(format!("{{\"exp\":{}}}", now_s() + 600).as_bytes(), true)
    );
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
    let signature = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
    let token = format!("{signed}.{}", base64(signature.as_ref(), true));
    assert_eq!(cluster.ask("GET /", &format!("Cookie: a=b; token={token}\r\n")).await.status, 200);
    assert_eq!(cluster.ask("GET /", &format!("Authorization: Bearer {token}\r\n")).await.status, 401);
    assert_eq!(cluster.ask("GET /", &format!("Cookie: token={token}x\r\n")).await.status, 401);
}
