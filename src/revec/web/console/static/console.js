// The console's own lines: times, freshness, copying, dialogs. Everything else is HTML, and htmx.
"use strict";
(() => {
  const STALE = 6; // seconds without a word from the server, until the page says so
  const POLL = 5; // seconds between two questions, where the stream brings nothing

  const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

  // As the server tells it (model/duration.py): the largest unit and the one below it.
  const lasting = (seconds) => {
    let left = Math.max(0, Math.round(seconds));
    const first = UNITS.findIndex(([, size]) => left >= size);
    const parts = [];
    for (const [name, size] of UNITS.slice(first, first < 0 ? undefined : first + 2)) {
      if (left >= size) parts.push(`${Math.floor(left / size)} ${name}`);
      left %= size;
    }
    return parts.join(" ") || "0 s";
  };

  const shown = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

  // The server writes UTC; here is what the clock on the wall says. The title stays UTC.
  const localize = () => {
    for (const time of document.querySelectorAll("time[datetime]")) {
      const at = new Date(time.dateTime);
      const since = (Date.now() - at) / 1000;
      const said = time.classList.contains("moment") ? shown.format(at) : since < 1 ? "now" : `${lasting(since)} ago`;
      if (time.textContent !== said) time.textContent = said;
    }
  };

  // --- freshness: when the page last heard that it is current -----------------------------------------------

  const freshness = document.getElementById("freshness");
  const lives = () => document.querySelectorAll("[data-live]");
  let heard = Date.now();
  let trouble = "";

  const hear = () => { heard = Date.now(); trouble = ""; look(); };
  const look = () => {
    if (!freshness || !lives().length) return;
    const age = (Date.now() - heard) / 1000;
    const lost = age > STALE && !document.hidden;
    document.body.classList.toggle("lost", lost);
    freshness.hidden = false;
    freshness.classList.toggle("warn", lost);
    const said = lost ? `▲ last update ${lasting(age)} ago, retrying${trouble ? `: ${trouble}` : ""}` : "● live";
    if (freshness.textContent !== said) freshness.textContent = said;
  };

  const poll = async () => {
    if (document.hidden || Date.now() - heard < STALE * 1000) return;
    for (const live of lives()) {
      const address = new URL(live.dataset.live, location.href);
      address.searchParams.set("once", "1");
      try {
        const answer = await fetch(address, { headers: { "HX-Request": "true" }, signal: AbortSignal.timeout(POLL * 1000) });
        if (answer.status === 401) { location.reload(); return; }
        if (!answer.ok) continue;
        await htmx.swap({ sourceElement: live, target: live, text: await answer.text(), swap: "innerMorph" });
        hear();
        htmx.trigger(live, "again"); // a stream that never began; one that is lost comes back by itself
      } catch { /* the next one may come through */ }
    }
  };

  document.addEventListener("htmx:sse:after:message", (event) => {
    if (event.detail.message?.event !== "trouble") hear();
    localize();
  });
  document.addEventListener("trouble", (event) => { trouble = event.detail?.data ?? ""; look(); });
  // A session that is over is not asked for again and again: the login page says what to do.
  document.addEventListener("htmx:sse:error", (event) => { if (event.detail.status === 401) location.reload(); });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) heard = Date.now(); });
  document.addEventListener("htmx:after:swap", localize);
  document.addEventListener("htmx:config:request", (event) => {
    event.detail.ctx.request.headers["X-CSRF-Token"] = document.querySelector("meta[name=csrf]").content;
  });
  setInterval(look, 1000);
  setInterval(poll, POLL * 1000);
  setInterval(localize, 10000);

  // --- curves -----------------------------------------------------------------------------------------------

  const HIGH = 120; // pixels
  const drawn = new WeakMap(); // element → its curve, and the points that it is of

  const draw = () => {
    if (typeof uPlot === "undefined") return;
    for (const chart of document.querySelectorAll(".chart[data-points]")) {
      const was = drawn.get(chart);
      if (was?.points === chart.dataset.points) continue;
      const rows = JSON.parse(chart.dataset.points);
      const data = [rows.map((row) => row[0]), rows.map((row) => row[1])];
      if (was) {
        was.curve.setData(data);
        was.points = chart.dataset.points;
        continue;
      }
      const colour = (name) => getComputedStyle(chart).getPropertyValue(name);
      const axis = { stroke: colour("color"), grid: { stroke: colour("border-top-color"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
      const curve = new uPlot({
        width: chart.clientWidth, height: HIGH, legend: { show: false }, cursor: { y: false },
        axes: [{ ...axis }, { ...axis, size: 44 }],
        series: [{}, { stroke: colour("outline-color"), width: 1.5, points: { show: false } }],
      }, data, chart);
      drawn.set(chart, { curve, points: chart.dataset.points });
      new ResizeObserver(() => curve.setSize({ width: chart.clientWidth, height: HIGH })).observe(chart);
    }
  };
  document.addEventListener("htmx:after:swap", draw);
  draw();

  // --- small things that a person does ----------------------------------------------------------------------

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.copies !== undefined) {
      try { await navigator.clipboard.writeText(button.dataset.copies); } catch { return; }
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    }
    if (button.dataset.opens) {
      mirror();
      document.getElementById(button.dataset.opens)?.showModal();
    }
    if (button.dataset.closes !== undefined) button.closest("dialog")?.close();
  });

  // A dialog stands outside of what is kept current; what it shows of that is copied into it.
  const mirror = () => {
    for (const copy of document.querySelectorAll("[data-mirrors]")) {
      const shownNow = document.getElementById(copy.dataset.mirrors);
      if (shownNow) copy.replaceChildren(...shownNow.cloneNode(true).childNodes);
    }
  };
  document.addEventListener("htmx:after:swap", mirror);

  // A name that has to be typed: until it is, the button waits. The server looks as well.
  document.addEventListener("input", (event) => {
    const must = event.target.dataset?.must;
    if (must !== undefined) event.target.form.querySelector("[data-waits]").disabled = event.target.value !== must;
  });

  document.addEventListener("change", (event) => {
    if (event.target.dataset?.submits !== undefined) event.target.form.requestSubmit();
  });

  // Twice pressed is once done.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post") return;
    if (form.dataset.sent) { event.preventDefault(); return; }
    form.dataset.sent = "1";
  });
  window.addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
  });

  localize();
  look();
})();
