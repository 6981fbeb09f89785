// Shows the page anew every two seconds while somebody looks at it. Without it the page is the same, as of when it was loaded.
"use strict";
(() => {
  const PERIOD = 2000, SLOWEST = 30000;
  const live = document.getElementById("live"), news = document.getElementById("news");
  let wait = PERIOD, timer = 0, busy = false;

  // What is shown is asked for again; what was done is told once.
  const query = location.search.replace(/([?&])done=[^&]*&?/, "$1");

  function clock() {
    return new Date().toLocaleTimeString();
  }

  // What somebody has scrolled to or stands on stays.
  function replace(fresh) {
    const main = document.querySelector("main"), focused = document.activeElement;
    const id = focused && main.contains(focused) ? focused.id : "";
    // Nor does what somebody has filled in vanish.
    for (const field of main.querySelectorAll("input[id], select[id]")) {
      const same = fresh.querySelector("#" + CSS.escape(field.id));
      if (same) same.replaceWith(field);
    }
    const places = [...main.querySelectorAll(".scroll")].map((it) => [it.id, it.scrollLeft]);
    // So does a form that somebody fills in.
    for (const kept of main.querySelectorAll("[data-keep]")) {
      const place = kept.id && fresh.querySelector("#" + kept.id);
      if (place) place.replaceWith(kept);
    }
    if (fresh.dataset.news !== main.dataset.news) news.textContent = fresh.dataset.news;
    // What keeps itself up to date stays where it is; the rest around it is new.
    const kept = main.querySelector(":scope > [data-keep]"), twin = kept && fresh.querySelector(`:scope > #${kept.id}`);
    if (twin) {
      const nodes = [...fresh.childNodes], place = nodes.indexOf(twin);
      for (const it of [...main.childNodes]) if (it !== kept) it.remove();
      kept.before(...nodes.slice(0, place));
      kept.after(...nodes.slice(place + 1));
    } else main.replaceChildren(...fresh.childNodes);
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
    // Who is filling something in is not disturbed.
    const focused = document.activeElement;
    if (focused && focused.matches("main input, main select")) return plan();
    busy = true;
    try {
      const answer = await fetch(location.pathname + query, {
        headers: { Accept: "text/html", "X-Copal-Refresh": "1" },
        cache: "no-store",
        signal: AbortSignal.timeout(10000),
      });
      if (answer.status === 401) return location.reload();
      if (!answer.ok) throw new Error(answer.status);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      replace(page.querySelector("main"));
      document.dispatchEvent(new Event("copal-refresh"));
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

  // The answer to a form stays as it is.
  if ("still" in document.querySelector("main").dataset) return;
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clearTimeout(timer);
    else refresh();
  });
  plan();
})();
