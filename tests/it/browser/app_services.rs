//! Queues, pipelines, jobs and caches of apps on the status page, in a real browser: an operator looks at messages and acts, and who may only look sees
//! numbers alone.

use super::{Browser, Visit, screenshots};
use crate::{
    daemons::{Local, start_script},
    queues::{APP, handled, until},
    tell::tell,
    tokens::deploying,
};
use hyper::Method;
use serde_json::{Value, json};

const LINES: &str = "queues: [{name: work, path: /on/work, retry: {attempts: 2, delay: 50ms}}]\n\
                     pipelines: [{name: album, steps: [{name: cut, path: /steps/cut}, {name: glue, path: /steps/glue}]}]\n\
                     jobs: [{name: yearly, path: /jobs/yearly, cron: \"0 0 1 1 *\"}]\n\
                     daemons: [{name: ticker, command: [/bin/sleep, \"1000\"]}]";

/// What a message says that would like to be more than text.
const EVIL: &str =
    "<script>window.broken = true</script><img src=x onerror=\"window.broken = true\">\nsecond line";

/// The pages, below `/admin`.
const PAGES: [&str; 8] = [
    "/queues",
    "/queues/work?which=dead",
    "/queues/pulled?which=ready",
    "/pipelines",
    "/pipelines/album?which=all",
    "/jobs",
    "/daemons",
    "/app-caches",
];

/// Messages that wait, and are dead, a durable subscription, and a cache.
async fn fill(app: &mut Local) {
    for (path, body) in [
        ("/v1/queues/pulled", EVIL.to_owned()),
        ("/v1/queues/work", json!({"do": "fail", "what": EVIL}).to_string()),
        ("/v1/queues/work", json!({"do": "dead", "what": EVIL}).to_string()),
    ] {
        let (status, answer) = app.call(Method::POST, path, &body).await;
        assert_eq!(status, 201, "{answer}");
    }
    assert_eq!(app.call(Method::PUT, "/v1/topics/orders/subscriptions/billing", "").await.0, 204);
    assert_eq!(app.call(Method::PUT, "/v1/caches/prices/shirt", "17").await.0, 201);
    until(app, "work", |it| it["dead"] == 2).await;
}

impl Visit {
    async fn sees(&self, words: &str) {
        self.browser.until(&format!("document.querySelector('main').textContent.includes({words:?})")).await;
    }

    /// That something was done, by the page that follows.
    async fn is_told(&self, words: &str) {
        self.browser
            .until(&format!("document.querySelector('.done')?.textContent.includes({words:?})"))
            .await;
    }

    /// Sends a form as the page would, perhaps without its token: the status of the answer.
    async fn sends(&self, action: &str, with_token: bool) -> Value {
        let url = self.url(action);
        let script = format!(
            "const done = arguments[0], token = document.querySelector('header input[name=token]').value;
             fetch({url:?}, {{method: 'POST', body: new URLSearchParams({with_token} ? {{token}} : {{}})}})
                 .then((it) => done(it.status));"
        );
        self.browser.run_async(&script).await
    }

    /// The name of its queue has a colon, and so the address something else.
    async fn follows_a_job_to_its_runs(&self) {
        self.open("/jobs").await;
        self.browser.click("#jobs td a").await;
        self.sees("runs of the job yearly").await;
        self.browser.click("h1 a").await;
        self.browser.until("document.querySelector('#find')?.value === 'yearly'").await;
    }

    async fn pauses_and_resumes_a_queue(&self) {
        self.open("/queues?find=pul&order=dead").await;
        self.browser.click("#change-pulled").await;
        self.is_told("The queue is paused").await;
        // What was looked for is still so, also when the page has shown itself anew.
        self.browser.run("document.querySelector('.done').remove()", &[]).await;
        self.browser.run("document.querySelector('#queues').remove()", &[]).await;
        self.browser.until("document.querySelectorAll('#queues tbody tr').length === 1").await;
        self.browser
            .until("document.querySelector('#queues .chip.warn') && !document.querySelector('.done')")
            .await;
        self.browser.click("#change-pulled").await;
        self.is_told("hands out messages again").await;
    }

    async fn looks_at_messages(&self) {
        self.open("/queues").await;
        self.sees("durable subscription billing of the topic orders").await;
        self.browser.click("a[href$='/queues/pulled?which=ready']").await;
        self.sees(EVIL.split('\n').next().unwrap()).await;
        self.sees("second line").await;
        let elements = "return document.querySelectorAll('#messages script, #messages img').length";
        assert_eq!(self.browser.run(elements, &[]).await, json!(0));
        assert_eq!(self.browser.run("return window.broken === undefined", &[]).await, json!(true));
    }

    async fn replays_and_purges(&self, app: &mut Local, out: &std::path::Path) {
        self.open("/queues/work?which=dead").await;
        self.sees("500 Internal Server Error: no luck").await;
        self.sees("422 Unprocessable Entity: nonsense").await;
        let before = handled(out, 3).await.len();
        self.browser.click("[id^=replay-]").await;
        self.is_told("ready again").await;
        handled(out, before + 1).await;
        until(app, "work", |it| it["dead"] == 2).await;
        // Nothing is lost without a word on what.
        self.open("/queues/work?which=dead").await;
        self.browser.click("#purge button").await;
        assert_eq!(self.browser.run("return location.search", &[]).await, json!("?which=dead"));
        self.browser.run("document.querySelector('#purge-what').value = 'dead'", &[]).await;
        self.browser.click("#purge button").await;
        self.is_told("are gone").await;
        self.sees("No message is dead").await;
        until(app, "work", |it| it["dead"] == 0).await;
    }

    /// A run that its step has not answered yet.
    async fn ends_a_run(&self, app: &mut Local) {
        let held = json!({"do": "later"}).to_string();
        let (_, begun) = app.call(Method::POST, "/v1/pipelines/album", &held).await;
        let id = begun["id"].as_str().unwrap();
        self.open("/pipelines").await;
        self.browser.click("#pipelines a[href$='/pipelines/album']").await;
        self.browser.click("#which-going-on").await;
        self.sees(id).await;
        // Nothing is lost without its number.
        self.browser.click("#end button").await;
        assert_eq!(self.browser.run("return location.search", &[]).await, json!("?which=going-on"));
        self.browser.run(&format!("document.querySelector('#end-run').value = '{id}'"), &[]).await;
        self.browser.click("#end button").await;
        self.is_told("The run has ended").await;
        self.sees("There are none.").await;
        let path = format!("/v1/pipelines/album/runs/{id}");
        assert_eq!(app.call(Method::GET, &path, "").await.0, 410);
        self.browser.click("#steps a").await;
        self.sees("step first of the pipeline album").await;
    }

    async fn runs_a_job(&self, out: &std::path::Path) {
        let before = handled(out, 0).await.len();
        self.open("/jobs").await;
        self.browser.click("#run-yearly").await;
        self.is_told("The job is begun now").await;
        let lines = handled(out, before + 1).await;
        assert_eq!(lines[before]["path"], "/jobs/yearly");
        self.browser.click("#change-yearly").await;
        self.is_told("The job is paused").await;
        self.browser.until("document.querySelector('#jobs .chip.warn')").await;
        self.browser.click("#change-yearly").await;
        self.is_told("goes by its times again").await;
        self.open("/audit").await;
        for what in ["purge", "pulled", "yearly"] {
            self.sees(what).await;
        }
    }

    async fn clears_a_cache(&self, app: &mut Local) {
        self.open("/app-caches").await;
        self.sees("prices").await;
        self.browser.run("document.querySelector('#clear-cache').value = 'prices'", &[]).await;
        self.browser.click("#clear button").await;
        self.is_told("The cache is cleared").await;
        assert_eq!(app.call(Method::GET, "/v1/caches/prices/shirt", "").await.0, 404);
        assert_eq!(app.call(Method::PUT, "/v1/caches/prices/shirt", "17").await.0, 201);
    }

    async fn only_looks(&self) {
        for page in ["/queues", "/pipelines", "/pipelines/album", "/jobs", "/daemons", "/app-caches"] {
            self.open(page).await;
            self.browser.until("document.querySelector('main table')").await;
            assert_eq!(
                self.browser.run("return document.querySelector('main form[method=post]')", &[]).await,
                Value::Null
            );
        }
        self.open("/queues/pulled?which=ready").await;
        self.sees("Messages are not shown").await;
        let told = self.browser.run("return document.body.textContent.includes('window.broken')", &[]).await;
        assert_eq!(told, json!(false), "what is in messages is the operators'");
        self.open("/pipelines/album").await;
        self.sees("Runs are not shown").await;
        for action in [
            "/actions/queues/pulled/pause",
            "/actions/queues/work/replay",
            "/actions/jobs/yearly/run",
            "/actions/pipelines/album/end",
            "/actions/app-caches/clear",
        ] {
            assert_eq!(self.sends(action, true).await, json!(403), "{action}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_sees_what_apps_share_and_acts() {
    let Some(browser) = Browser::start().await else {
        return tell(
            "skipped queues and jobs in a browser: chromedriver is not there (Debian's chromium-driver)",
        );
    };
    let configure = |configuration: &mut _| {
        deploying(configuration);
        configuration.webs = 1;
    };
    let Some((cluster, out)) = start_script(APP, 1, LINES, configure).await else { return };
    let mut app = Local::of_some_server(&cluster).await;
    fill(&mut app).await;
    let visit = Visit { cluster, browser };
    visit.signs_in("ops").await;
    visit.looks_at(&PAGES).await;
    visit.looks_at_messages().await;
    visit.follows_a_job_to_its_runs().await;
    visit.pauses_and_resumes_a_queue().await;
    visit.replays_and_purges(&mut app, &out).await;
    visit.ends_a_run(&mut app).await;
    visit.runs_a_job(&out).await;
    visit.clears_a_cache(&mut app).await;
    assert_eq!(visit.browser.errors().await, Vec::<String>::new());
    assert_eq!(visit.sends("/actions/jobs/yearly/run", false).await, json!(403), "a form has its token");
    visit.browser.click(".who button").await;
    visit.browser.until("document.querySelector('#password')").await;
    visit.browser.errors().await;
    visit.signs_in("eve").await;
    visit.only_looks().await;
    visit.browser.screenshot(&screenshots().join("queue-viewer.png")).await;
}
