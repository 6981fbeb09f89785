//! Several cookies of one name: from another path, another site of the domain, or former settings.

use super::*;

/// As Tomcat, and we ourselves at another site, make them.
const FOREIGN: [&str; 3] = ["0F4A9C2D1E6B8A7F3C5D", "aa3456789012345678901234", "cb3456789012345678901234"];

async fn counted(server: &Server, fields: &[&str]) -> (u64, Option<String>) {
    let guard = server.begin_with_cookies(fields).await;
    let count = read(&guard, "count").await.unwrap() + 1;
    write(&guard, "count", count).await.unwrap();
    let cookie = guard.visit().finish().await.unwrap().cookie;
    (count, cookie.map(|it| it.to_str().unwrap().split(';').next().unwrap().to_owned()))
}

#[tokio::test(start_paused = true)]
async fn the_one_that_has_a_session_counts_wherever_it_stands() {
    let (hub, a, b) = pair(&session_config());
    let (_, mine) = counted(&a, &[]).await;
    let mine = mine.unwrap();
    let mut expected = 1;
    for foreign in FOREIGN.map(|id| format!("S={id}")) {
        let (before, behind) = (format!("{foreign}; {mine}"), format!("{mine}; {foreign}"));
        let crumbs = [&*foreign, "theme=dark", &*mine];
        for fields in [&[&*before][..], &[&*behind], &crumbs] {
            for server in [&a, &b] {
                server.hears();
                expected += 1;
                assert_eq!(counted(server, fields).await, (expected, None), "{fields:?}");
                a.hears();
            }
        }
    }
    assert!(FOREIGN.iter().all(|id| hub.record(id).is_none()));
}

#[tokio::test(start_paused = true)]
async fn a_new_session_beside_a_foreign_cookie_is_found_by_the_next_request() {
    let (_hub, a, _) = pair(&session_config());
    let foreign = format!("S={}", FOREIGN[0]);
    let (count, made) = counted(&a, &[&foreign]).await;
    let made = made.expect("a foreign id this short is nobody's");
    assert_eq!(count, 1);
    assert_eq!(counted(&a, &[&format!("{foreign}; {made}")]).await, (2, None));
}

#[tokio::test(start_paused = true)]
async fn the_hub_is_asked_a_bounded_number_of_times_and_for_one_id_not_at_all() {
    let (hub, a, _) = pair(&session_config());
    let loads = || hub.loads() as usize;
    let many: Vec<_> = (0..100).map(|n| format!("S=aa34567890123456789012{n:02}")).collect();
    a.begin_with_cookies(&[&many[0], &many[0]]).await;
    assert_eq!(loads(), 0, "nothing is loaded until the app asks");
    a.begin_with_cookies(&[&many.join("; ")]).await;
    assert_eq!(loads(), cookie::IDS_MAX);
    let (_, mine) = counted(&a, &[]).await;
    let before = loads();
    assert_eq!(counted(&a, &[&format!("{}; {}", many[0], mine.unwrap())]).await.0, 2);
    assert_eq!(loads(), before, "it is in memory");
}

#[tokio::test(start_paused = true)]
async fn while_the_hub_is_away_the_session_in_memory_counts() {
    let (hub, a, _) = pair(&session_config());
    let (_, mine) = counted(&a, &[]).await;
    hub.set_down(true);
    a.is_cut_off();
    let fields = format!("S={}; {}", FOREIGN[1], mine.unwrap());
    assert_eq!(counted(&a, &[&fields]).await.0, 2);
}
