// Draws the graphs of a page, and adds points as they come: the page's refreshing says when to look. Without it the lines that came
// with the page stand there.
"use strict";
(() => {
  const section = document.getElementById("graphs");
  if (!section || !section.dataset.source || typeof uPlot === "undefined") return;
  const HEIGHT = 170, DASHES = [[], [7, 4], [2, 3]], SIZES = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const note = document.getElementById("graphs-note"), hint = document.getElementById("graphs-hint");
  let past = null, busy = false;

  function short(it) {
    if (it >= 1000) return Math.round(it).toString().replace(/\B(?=(\d{3})+$)/g, "\u202f");
    if (it >= 99.95) return it.toFixed(0);
    if (it >= 9.995) return it.toFixed(1);
    return it > 0 ? it.toFixed(2) : "0";
  }

  function bytes(it) {
    let place = 0;
    for (; it >= 1024 && place < SIZES.length - 1; place++) it /= 1024;
    return `${place ? short(it) : Math.floor(it)} ${SIZES[place]}`;
  }

  const TEXTS = {
    number: (it) => (Number.isInteger(it) && it < 1000 ? String(it) : short(it)),
    "per-second": (it) => `${short(it)} /s`,
    millis: (it) => (it >= 1000 ? `${short(it / 1000)} s` : `${short(it)} ms`),
    bytes,
    "bytes-per-second": (it) => `${bytes(it)}/s`,
  };

  // Days at midnight, and seconds where there is less than a minute between two.
  function time(at, step) {
    const text = new Date(at * 1000).toISOString();
    if (text.startsWith("00:00:00", 11) && past.step_s > 600) return text.slice(5, 10);
    return text.slice(11, step < 60 ? 19 : 16);
  }

  function alone(values) {
    const known = (it) => it !== null && it !== undefined;
    return values.map((_, at) => at).filter((at) => known(values[at]) && !known(values[at - 1]) && !known(values[at + 1]));
  }

  // A graph, by its figure.
  class Graph {
    constructor(figure) {
      this.figure = figure;
      this.text = TEXTS[figure.dataset.unit];
      this.rows = [...figure.querySelectorAll("tr[data-series]")];
      this.name = figure.querySelector("figcaption").textContent;
      this.svg = figure.querySelector("svg");
      this.head = figure.querySelectorAll("thead th")[1];
    }

    data() {
      const times = past.samples.map((_, step) => past.from_s + step * past.step_s);
      return [times, ...this.rows.map((row) => past.series[row.dataset.series])];
    }

    draw() {
      const place = document.createElement("div"), of = this;
      place.className = "plot";
      place.setAttribute("role", "img");
      place.setAttribute("aria-labelledby", `${this.figure.id}-name`);
      this.svg.replaceWith(place);
      const line = (row, number) => ({
        label: row.dataset.series,
        stroke: () => css(`--s${number + 1}`),
        width: 1.5,
        dash: DASHES[number],
        // A point between two gaps would be no line.
        points: { show: true, size: 4, fill: () => css(`--s${number + 1}`), filter: (plot, at) => alone(plot.data[at]) },
        spanGaps: false,
      });
      const axis = { stroke: () => css("--quiet"), grid: { stroke: () => css("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
      const base = this.figure.dataset.unit.startsWith("bytes") ? { incrs: [...Array(60).keys()].map((it) => 2 ** it) } : {};
      this.plot = new uPlot({
        width: this.width(place),
        height: HEIGHT,
        legend: { show: false },
        cursor: { y: false, sync: { key: "graphs" }, drag: { x: true, y: false } },
        tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
        scales: { y: { range: (_, least, most) => [0, most > 0 ? most * 1.08 : 1] } },
        axes: [
          { ...axis, space: 70, size: 30, values: (_, splits, __, ___, step) => splits.map((it) => time(it, step)) },
          { ...axis, ...base, size: 68, values: (_, splits) => splits.map((it) => of.text(it)) },
        ],
        series: [{}, ...this.rows.map(line)],
        hooks: { setCursor: [() => this.tell()] },
      }, this.data(), place);
      new ResizeObserver(() => this.fit(place)).observe(place);
    }

    width(place) {
      return Math.max(Math.floor(place.clientWidth), 200);
    }

    fit(place) {
      const width = this.width(place);
      if (width !== this.plot.width) this.plot.setSize({ width, height: HEIGHT });
    }

    // Whoever has zoomed in stays there.
    update() {
      const { min, max } = this.plot.scales.x, [times] = this.plot.data;
      const whole = min <= times[0] && max >= times[times.length - 1];
      this.plot.setData(this.data(), whole);
      if (!whole) this.plot.redraw();
      this.tell();
    }

    // The table: what is under the cursor, or now; and the least and the most.
    tell() {
      const at = this.plot.cursor.idx, data = this.data();
      this.head.textContent = at === null || at === undefined ? "Now" : time(data[0][at], past.step_s);
      this.rows.forEach((row, number) => {
        const values = data[number + 1] || [], known = values.filter((it) => it !== null);
        const now = values.slice(-3).reverse().find((it) => it !== null);
        const shown = [at === null || at === undefined ? now : values[at], Math.min(...known), Math.max(...known)];
        shown.forEach((value, column) => {
          const cell = row.cells[column + 1], text = Number.isFinite(value) ? this.text(value) : "–";
          if (cell.textContent !== text) cell.textContent = text;
        });
      });
    }
  }

  const graphs = [...section.querySelectorAll("figure.graph")].map((it) => new Graph(it));

  async function ask(more) {
    const answer = await fetch(section.dataset.source + more, { cache: "no-store", signal: AbortSignal.timeout(10000) });
    if (!answer.ok) throw new Error(answer.status);
    return answer.json();
  }

  // The last two steps are asked for again: they were not over yet.
  function add(news) {
    const steps = past.samples.length, moved = (news.from_s - past.from_s) / past.step_s;
    if (news.step_s !== past.step_s || moved < 0 || moved > steps) return false;
    const join = (old, more) => old.slice(0, moved).concat(more).slice(-steps);
    const longer = moved + news.samples.length;
    past.samples = join(past.samples, news.samples);
    for (const name of Object.keys(past.series)) past.series[name] = join(past.series[name], news.series[name]);
    past.from_s += Math.max(longer - steps, 0) * past.step_s;
    return true;
  }

  async function look() {
    if (busy) return;
    const end = past && past.from_s + past.samples.length * past.step_s, now = Date.now() / 1000;
    // A hub server that asks late in a step has written by the middle of the next one.
    if (past && now < past.asked + Math.min(past.step_s, 10)) return;
    busy = true;
    try {
      if (!past || !add(await ask(`&since=${end - 2 * past.step_s}`))) {
        past = await ask("");
      }
      past.asked = now;
      hint.hidden = false;
      note.hidden = past.samples.some((it) => it > 0);
      for (const it of graphs) it.plot ? it.update() : it.draw();
    } catch {
      // The page says itself when nobody answers.
    } finally {
      busy = false;
    }
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => graphs.forEach((it) => it.plot && it.plot.redraw(false)));
  document.addEventListener("copal-refresh", look);
  look();
})();
