//! The pages of the planted cluster: what they say, that nothing of it is a script, and that no secret is in them.

use super::*;
use crate::status::planted::{self, EVIL, SECRET};
use std::collections::BTreeSet;

fn visitor(token: Option<&str>) -> Visitor {
    let user = planted::config().admin_users[0].clone();
    Visitor { user, token: token.map(str::to_owned), done: String::new() }
}

fn cluster() -> ClusterRecord {
    ClusterRecord::of(&planted::snapshot(), &planted::config())
}

fn all_pages() -> Vec<String> {
    let (cluster, visitor) = (cluster(), visitor(Some("the-token")));
    Page::ALL.into_iter().map(|page| render("/admin", page, &visitor, &cluster)).collect()
}

#[test]
fn nothing_that_others_named_is_a_script_and_no_secret_is_told() {
    let mut shown = 0;
    for page in all_pages() {
        assert!(!page.contains("<script>alert") && !page.contains(EVIL), "{page}");
        shown += page.matches("alert(1)").count();
        assert_eq!(page.matches("<script").count(), 1, "our own alone");
        assert!(!page.contains(SECRET) && !page.contains("argon2"));
        // Nothing that the policy would not let a browser do.
        assert!(!page.contains(" style=") && !page.contains(" onclick=") && !page.contains("javascript:"));
    }
    assert!(shown >= 4, "names, messages and reasons are told: {shown}");
    let json = serde_json::to_string(&cluster()).unwrap();
    assert!(!json.contains(SECRET) && !json.contains("argon2"));
}

#[test]
fn the_first_page_says_what_is_wrong_since_when_and_what_to_do() {
    let page = &all_pages()[0];
    for words in [
        "app-b is down",
        "for 1 min 0 s",
        "copal start --server app-b",
        "app-c has 3 % of its disk free",
        "The hub has no server to spare: 2 of 3 answer",
        "app-c is disabled: web-tiers send it nothing",
        "<dd>10.0<small> /s</small></dd>",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
    assert!(page.contains("<title>(") && page.contains("things are wrong"));
}

#[test]
fn each_page_shows_what_it_is_for() {
    let pages = all_pages();
    let has = |page: usize, words: &[&str]| {
        for word in words {
            assert!(pages[page].contains(word), "{word}: {}", pages[page]);
        }
    };
    has(
        1,
        &["app-a", "64.0 MiB", "1.00 %", "1 h 0 min", "actions/servers/app-a/disable", "connection refused"],
    );
    has(2, &["Cluster app-tier", "failing", "in 500 ms", "7 of 16", "1 s ago", "0: down, 1: failing"]);
    has(3, &["app-a", "leader", "1\u{202f}234", "234", "silent"]);
    has(
        4,
        &["production/webapp/default/shop-1.2.0", "aaaaaaaaaa", "✓", "1 d 0 h ago", "pid 4711, 2 restarts"],
    );
}

#[test]
fn forms_are_for_those_who_may_and_each_brings_its_token() {
    let cluster = cluster();
    let page = render("/admin", Page::Servers, &visitor(Some("the-token")), &cluster);
    assert_eq!(page.matches("<form").count(), page.matches("name=\"token\" value=\"the-token\"").count());
    assert!(page.matches("<form").count() > 3);
    let page = render("/admin", Page::Servers, &visitor(None), &cluster);
    assert_eq!(page.matches("<form").count(), 0, "a tool sends none");
    let mut viewer = visitor(Some("t"));
    viewer.user.roles = vec![Role::View];
    for page in [Page::Servers, Page::Apps] {
        assert_eq!(render("/admin", page, &viewer, &cluster).matches("<form").count(), 1, "to sign out");
    }
}

/// What a screen reader and a keyboard need: landmarks, one first heading, headed tables, names for what scrolls, ids once.
#[test]
fn pages_are_accessible() {
    for page in all_pages() {
        for (mark, count) in
            [("<main", 1), ("<nav", 1), ("<h1", 1), ("<header", 1), ("lang=\"en\"", 1), ("class=\"skip\"", 1)]
        {
            assert_eq!(page.matches(mark).count(), count, "{mark}");
        }
        assert_eq!(page.matches("aria-current=\"page\"").count(), 1);
        assert_eq!(page.matches("<th ").count(), page.matches("scope=").count());
        assert!(!page.contains("<th>"));
        assert_eq!(page.matches("class=\"scroll\"").count(), page.matches("role=\"region\"").count());
        let ids: Vec<&str> = page.split(" id=\"").skip(1).filter_map(|it| it.split('"').next()).collect();
        let once: BTreeSet<_> = ids.iter().collect();
        assert_eq!(once.len(), ids.len(), "{ids:?}");
    }
}

#[test]
fn a_large_cluster_has_pages_of_a_bounded_size() {
    let mut cluster = cluster();
    for number in 0..64 {
        let mut known = cluster.servers[1].known.clone();
        known.id = format!("more-{number}");
        let silent = cluster.servers[1].silent.clone();
        cluster.servers.push(crate::status::record::ServerRecord {
            known,
            roles: Vec::new(),
            listens: false,
            cpu_per_mille: None,
            silent,
            answer: None,
        });
    }
    let page = render("/admin", Page::Overview, &visitor(None), &cluster);
    assert!(page.contains("and 52 more"), "{page}");
    assert!(page.len() < 150_000);
    assert!(render("/admin", Page::Servers, &visitor(None), &cluster).len() < 150_000);
}

#[test]
fn a_page_is_wanted_by_browsers() {
    let accepts = |value: &'static str| {
        is_wanted(&HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(value))]))
    };
    assert!(accepts("text/html,application/xhtml+xml,*/*;q=0.8"));
    assert!(!accepts("*/*") && !accepts("application/json") && !is_wanted(&HeaderMap::new()));
}
