//! The status page in a real browser: signing in, watching a server die and come back, taking one out, and what accessibility checkers,
//! the console and the eye have to say. Screenshots are left in `target/screenshots`.

mod app_services;
mod web_driver;

use crate::{
    cluster::Cluster,
    tell::tell,
    tokens::{deploying, tar},
};
use std::{fs, path::PathBuf, time::Instant};
use web_driver::Browser;

/// axe-core 4.14.1, by Deque Systems, under the Mozilla Public License 2.0: finds what keeps people from using a page.
const AXE: &str = include_str!("axe.min.js");

/// The pages, below `/admin`.
const PAGES: [&str; 12] = [
    "/",
    "/servers",
    "/servers/app-a",
    "/balancer",
    "/triad",
    "/apps",
    "/requests",
    "/sessions",
    "/logs",
    "/health",
    "/audit",
    "/configuration",
];

const DESKTOP: (u32, u32) = (1280, 900);
const PHONE: (u32, u32) = (390, 844);

struct Visit {
    cluster: Cluster,
    browser: Browser,
}

impl Visit {
    fn url(&self, page: &str) -> String {
        format!("http://{}/admin{page}", self.cluster.web())
    }

    async fn open(&self, page: &str) {
        self.browser.open(&self.url(page)).await;
        // Gone when the page is loaded anew: what changes on the page without that is live.
        self.browser.run("window.stays = true", &[]).await;
    }

    async fn signs_in(&self, user: &str) {
        self.browser.look(DESKTOP, "light").await;
        self.open("/sign-in").await;
        self.sees_no_fault("sign-in").await;
        self.browser.type_into("#user", user).await;
        self.browser.type_into("#password", "password").await;
        self.browser.click("button.primary").await;
        self.browser.until("document.querySelector('h1.verdict.ok')").await;
    }

    /// Nothing keeps people from using the page, as far as a program can tell.
    async fn sees_no_fault(&self, page: &str) {
        assert_eq!(self.faults(page).await, Vec::<String>::new());
    }

    /// What does, and what the console has to say.
    async fn faults(&self, page: &str) -> Vec<String> {
        // The page is not to change under the checker's hands.
        self.browser.run("for (let it = 0; it < 10000; it++) clearTimeout(it)", &[]).await;
        self.browser.run(AXE, &[]).await;
        let found = self.browser.run_async(
            "const done = arguments[0];
             const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
             axe.run(document, { runOnly: tags }).then((found) => done([found.passes.length, found.violations.map((it) =>
                 `${it.impact} ${it.id}: ${it.help}: ${it.nodes.map((node) => node.html).join(' ')}`)]));",
        );
        let found = found.await;
        assert!(found[0].as_u64().is_some_and(|passed| passed > 10), "{page}: hardly anything was checked");
        let found = found[1].as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned());
        found.chain(self.browser.errors().await).map(|it| format!("{page}: {it}")).collect()
    }

    /// These pages, light, dark and on a phone.
    async fn looks_at(&self, pages: &[&str]) {
        let mut faults = Vec::new();
        for page in pages {
            let name = match page.split('?').next() {
                Some("/") | None => "overview".to_owned(),
                Some(path) => path[1..].replace('/', "-"),
            };
            for (size, scheme, suffix) in
                [(DESKTOP, "light", "light"), (DESKTOP, "dark", "dark"), (PHONE, "light", "phone")]
            {
                self.browser.look(size, scheme).await;
                self.open(page).await;
                let wide = "return document.documentElement.scrollWidth - innerWidth";
                let too_wide = self.browser.run(wide, &[]).await.as_i64().unwrap();
                if too_wide > 0 {
                    faults.push(format!("{page} {suffix} is {too_wide} pixels wider than the window"));
                }
                self.browser.screenshot(&screenshots().join(format!("{name}-{suffix}.png"))).await;
                faults.extend(self.faults(&format!("{page} {suffix}")).await);
            }
        }
        assert!(faults.is_empty(), "{faults:#?}");
        self.browser.look(DESKTOP, "light").await;
    }

    /// A killed server is seen without a reload, and so is its return.
    async fn watches_a_server_die(&mut self) {
        self.open("/").await;
        let began = Instant::now();
        self.cluster.kill("app-b").await;
        let says = |what: &str| {
            format!(
                "[...document.querySelectorAll('.problems .bad')].some((it) => it.textContent.includes('{what}'))"
            )
        };
        self.browser.until(&says("app-b is down")).await;
        tell(&format!("a killed server was shown as down after {:.1} s", began.elapsed().as_secs_f64()));
        self.browser.until("document.querySelector('.picture .box.bad')").await;
        self.browser.screenshot(&screenshots().join("server-down.png")).await;
        self.cluster.start_one("app-b").await;
        self.browser.until("document.querySelector('h1.verdict.ok') && window.stays").await;
        assert_eq!(self.browser.errors().await, Vec::<String>::new());
    }

    /// Deploys an archive by the form, sees that every server has it, and the version before again after a rollback.
    async fn deploys(&self) {
        let mut versions = Vec::new();
        for content in ["first", "second"] {
            let archive = self.cluster.folder().join(format!("{content}.tar"));
            fs::write(&archive, tar(&[("index.html", content.as_bytes())])).unwrap();
            self.open("/apps").await;
            self.browser.type_into("#upload-name", "site").await;
            self.browser.type_into("#upload-message", content).await;
            self.browser.type_into("#upload-file", &archive.display().to_string()).await;
            self.browser.click("#upload button").await;
            self.sees_on_all(content).await;
            let commit = "return document.querySelector('#deployed td code').textContent";
            versions.push(self.browser.run(commit, &[]).await);
        }
        assert_ne!(versions[0], versions[1]);
        self.browser.screenshot(&screenshots().join("apps-deployed.png")).await;
        self.browser.click("[id^=rollback-]").await;
        self.sees_on_all("rollback to ").await;
        assert_eq!(self.cluster.user().get("/site/").await.body, "first");
        self.open("/audit").await;
        for what in ["deploy", "rollback", "activated", "ops"] {
            let row = format!(
                "[...document.querySelectorAll('#entries td')].some((it) => it.textContent.includes('{what}'))"
            );
            self.browser.until(&row).await;
        }
        assert_eq!(self.browser.errors().await, Vec::<String>::new());
    }

    /// A version with this message is in use, with a mark for each of the three servers.
    async fn sees_on_all(&self, message: &str) {
        let row = "document.querySelector('#deployed tbody tr')";
        let marks = format!("{row}?.querySelectorAll('.marks .ok').length === 3");
        self.browser.until(&format!("{row}?.textContent.includes('{message}') && {marks}")).await;
    }

    /// Takes a server out and puts it back.
    async fn disables_a_server(&self) {
        self.open("/servers").await;
        self.browser.click("#disable-app-c").await;
        self.browser
            .until("document.querySelector('.done')?.textContent.startsWith('The server is disabled')")
            .await;
        self.open("/balancer").await;
        self.browser
            .until(
                "[...document.querySelectorAll('tr')].some((it) => /app-c.*disabled/s.test(it.textContent))",
            )
            .await;
        self.open("/servers").await;
        self.browser.click("#enable-app-c").await;
        self.browser
            .until("document.querySelector('.done')?.textContent.startsWith('The server is enabled')")
            .await;
        assert_eq!(self.browser.errors().await, Vec::<String>::new());
    }
}

/// Where they are left: in the folder that everything is built in.
fn screenshots() -> PathBuf {
    let target = crate::cluster::copal();
    target.parent().and_then(|it| it.parent()).unwrap().join("screenshots")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_uses_the_status_page() {
    let Some(browser) = Browser::start().await else {
        return tell(
            "skipped the status page in a browser: chromedriver is not there (Debian's chromium-driver)",
        );
    };
    let cluster = Cluster::start_with(3, |configuration| {
        deploying(configuration);
        configuration.webs = 1;
    });
    let mut visit = Visit { cluster: cluster.await, browser };
    visit.signs_in("ops").await;
    visit.deploys().await;
    visit.looks_at(&PAGES).await;
    visit.watches_a_server_die().await;
    visit.disables_a_server().await;
}
