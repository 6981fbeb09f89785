//! The administration as a client meets it, with a hub that is away. tests/it/operating.rs has it whole.

use super::*;
use base64ct::{Base64, Encoding};
use cluster_port::ClusterKey;
use common::{
    clock::{ManualClock, SystemClock},
    config::{ClusterEncryption, LoadOptions, Secret, load_str},
};
use http_body_util::BodyExt;
use proto::hub::v1::Token;
use std::{collections::BTreeMap, path::Path};
use triad_client::HubConfig;

/// Of `password`, cheap.
const HASH: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

const CLUSTERS: &str = "clusters: [{id: c, servers: [{id: a, address: 127.0.0.1}]}]\n";

fn config(users: &str) -> Arc<Config> {
    let text = format!("{CLUSTERS}{users}");
    let loaded = load_str(&text, Path::new("test.yaml"), &LoadOptions::default());
    Arc::new(loaded.unwrap_or_else(|errors| panic!("{errors}")).config)
}

fn users() -> String {
    format!(
        "admin:\n  users:\n    - {{name: ops, password: \"{HASH}\", roles: [operate]}}\n    \
         - {{name: eve, password: \"{HASH}\", roles: [view, deploy]}}\n"
    )
}

/// Its hub is a port that nobody listens on.
async fn admin(users: &str) -> Admin {
    admin_with(users, BTreeMap::new(), LastHeard::never(), Arc::new(SystemClock)).await
}

/// The same, with what it once heard from a hub.
async fn admin_with(
    users: &str,
    tokens: BTreeMap<Bytes, Token>,
    heard: LastHeard,
    clock: Arc<dyn Clock>,
) -> Admin {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let me = ServerId::from("a");
    let credentials = Credentials::new(ClusterKey::new(&Secret::default()), ClusterEncryption::default());
    let servers = vec![(me.clone(), nobody.to_string())];
    let hub = Hub::new(HubConfig { me: me.clone(), credentials: credentials.clone(), servers });
    Admin::new(AdminConfig {
        deployments: None,
        members: watch::channel(Arc::default()).1,
        tokens: watch::channel(Some(Arc::new(tokens))).1,
        heard,
        config: config(users),
        me,
        credentials,
        hub,
        clock,
    })
}

fn empty() -> RequestBody {
    http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Status and body.
async fn ask(admin: &Admin, line: &str, user: &str, fields: &[(&str, &str)]) -> (u16, String) {
    let (method, target) = line.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(target).header("host", "h");
    if !user.is_empty() {
        let credentials = Base64::encode_string(format!("{user}:password").as_bytes());
        request = request.header("authorization", format!("Basic {credentials}"));
    }
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let answer = admin.answer("/admin", request.body(empty()).unwrap()).await;
    assert_eq!(answer.headers()["cache-control"], "no-store", "{line}");
    assert_eq!(answer.headers().contains_key("www-authenticate"), answer.status() == 401, "{line}");
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn without_users_nobody_may_and_the_answer_says_what_to_do() {
    let admin = admin("").await;
    for line in ["GET /admin", "GET /admin/api/servers", "POST /admin/api/servers/a/disable"] {
        let (status, body) = ask(&admin, line, "ops", &[]).await;
        assert!(status == 403 && body.contains("`admin` `users`"), "{line}: {status} {body}");
    }
}

#[tokio::test]
async fn strangers_are_asked_to_sign_in_and_learn_nothing_else() {
    let admin = admin(&users()).await;
    for line in ["GET /admin", "GET /admin/api/servers", "POST /admin/api/servers/a/disable", "GET /admin/x"]
    {
        assert_eq!(ask(&admin, line, "", &[]).await.0, 401, "{line}");
        assert_eq!(ask(&admin, line, "nobody", &[]).await.0, 401, "{line}");
    }
    assert_eq!(admin.failed_sign_ins(), 4);
}

#[tokio::test]
async fn each_role_may_look_and_operate_alone_may_change() {
    let admin = admin(&users()).await;
    for user in ["ops", "eve"] {
        let (status, body) = ask(&admin, "GET /admin/", user, &[]).await;
        assert!(status == 200 && body.contains("/admin/api/servers/ID/disable-soft"), "{body}");
        assert_eq!(ask(&admin, "GET /admin/elsewhere", user, &[]).await.0, 404);
        assert_eq!(ask(&admin, "POST /admin/api/servers", user, &[]).await.0, 405);
    }
    let (status, body) = ask(&admin, "POST /admin/api/servers/a/disable", "eve", &[]).await;
    assert!(status == 403 && body.contains("`operate`"), "{body}");
}

#[tokio::test]
async fn another_sites_page_may_not_change_anything_whoever_is_signed_in() {
    let admin = admin(&users()).await;
    for field in [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example"), ("origin", "null")] {
        let (status, body) = ask(&admin, "POST /admin/api/servers/a/disable", "ops", &[field]).await;
        assert!(status == 403 && body.contains("another site"), "{body}");
    }
    assert_eq!(ask(&admin, "GET /admin", "ops", &[("sec-fetch-site", "cross-site")]).await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn while_the_hub_is_away_it_is_503_with_the_reason() {
    let admin = admin(&users()).await;
    for line in ["GET /admin/api/servers", "POST /admin/api/servers/a/disable"] {
        let (status, body) = ask(&admin, line, "ops", &[]).await;
        assert!(status == 503 && body.contains("the hub did not answer"), "{line}: {status} {body}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_is_believed_for_a_minute_after_the_hub_was_heard_last() {
    let (heard, clock) = (LastHeard::never(), Arc::new(ManualClock::new(1_000)));
    let text = token::TokenText::random();
    let roles = vec!["view".to_owned()];
    let token =
        Token { hash: text.hash(), user: "ops".into(), roles, expires_ms: u64::MAX, ..Token::default() };
    let tokens = BTreeMap::from([(token.hash.clone(), token)]);
    let admin = admin_with(&users(), tokens, heard.clone(), clock.clone()).await;
    let bearer = format!("Bearer {}", text.text());
    let status = async || ask(&admin, "GET /admin", "", &[("authorization", &bearer)]).await.0;
    assert_eq!(status().await, 503, "the hub was never heard");
    heard.note(clock.now());
    for (passed, expected) in [(59, 200), (1, 503)] {
        clock.advance(Duration::from_secs(passed));
        assert_eq!(status().await, expected);
    }
    // A password needs no hub.
    assert_eq!(ask(&admin, "GET /admin", "ops", &[]).await.0, 200);
    heard.note(clock.now());
    assert_eq!(status().await, 200);
}

#[tokio::test]
async fn a_reload_takes_users_and_roles_over_at_once() {
    let admin = admin(&users()).await;
    assert_eq!(ask(&admin, "GET /admin", "eve", &[]).await.0, 200);
    admin.reload(config(&users().replace("name: eve", "name: adam")));
    assert_eq!(ask(&admin, "GET /admin", "eve", &[]).await.0, 401);
    assert_eq!(ask(&admin, "GET /admin", "adam", &[]).await.0, 200);
    admin.reload(config(""));
    assert_eq!(ask(&admin, "GET /admin", "adam", &[]).await.0, 403);
}
