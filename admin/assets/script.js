// Shows the page anew every two seconds while somebody looks at it. Without it the page is the same, as of when it was loaded.
"use strict";
(() => {
  const PERIOD = 2000, SLOWEST = 30000;
  const live = document.getElementById("live"), news = document.getElementById("news");
  let wait = PERIOD, timer = 0, busy = false;

  function clock() {
    return new Date().toLocaleTimeString();
  }

  // What somebody has scrolled to or stands on stays.
  function replace(fresh) {
    const main = document.querySelector("main"), focused = document.activeElement;
    const id = focused && main.contains(focused) ? focused.id : "";
    const places = [...main.querySelectorAll(".scroll")].map((it) => [it.id, it.scrollLeft]);
    // So does a form that somebody fills in.
    for (const kept of main.querySelectorAll("[data-keep]")) {
      const place = kept.id && fresh.querySelector("#" + kept.id);
      if (place) place.replaceWith(kept);
    }
    if (fresh.dataset.news !== main.dataset.news) news.textContent = fresh.dataset.news;
    main.replaceChildren(...fresh.childNodes);
    main.dataset.news = fresh.dataset.news;
    for (const [place, left] of places) {
      const it = document.getElementById(place);
      if (it) it.scrollLeft = left;
    }
    const again = id && document.getElementById(id);
    if (again) again.focus({ preventScroll: true });
  }

  async function refresh() {
    if (busy) return;
    busy = true;
    try {
      const query = new URLSearchParams(location.search);
      query.delete("done");
      const answer = await fetch(location.pathname + (query.size ? "?" + query : ""), {
        headers: { Accept: "text/html", "X-Copal-Refresh": "1" },
        cache: "no-store",
        signal: AbortSignal.timeout(10000),
      });
      if (answer.status === 401) return location.reload();
      if (!answer.ok) throw new Error(answer.status);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      replace(page.querySelector("main"));
      document.querySelector("footer").replaceChildren(...page.querySelector("footer").childNodes);
      document.title = page.title;
      live.textContent = "live " + clock();
      live.className = "live";
      wait = PERIOD;
    } catch {
      if (live.className === "live") live.textContent = "no answer since " + clock();
      live.className = "live stale";
      wait = Math.min(wait * 2, SLOWEST);
    } finally {
      busy = false;
    }
    plan();
  }

  function plan() {
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(refresh, wait);
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clearTimeout(timer);
    else refresh();
  });
  plan();
})();
