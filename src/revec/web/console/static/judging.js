// Judging by keys: j and k move from answer to answer, 0 to 3 press the button of that grade.
"use strict";

const isWriting = (element) => element.closest("input, textarea, select, [contenteditable]") !== null;

function move(by) {
  const hits = [...document.querySelectorAll("[data-hit]")];
  const at = hits.indexOf(document.activeElement.closest("[data-hit]"));
  const next = hits[at < 0 ? 0 : Math.min(Math.max(at + by, 0), hits.length - 1)];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || isWriting(event.target)) return;
  if (event.key === "j" || event.key === "k") {
    move(event.key === "j" ? 1 : -1);
    event.preventDefault();
  } else if ("0123".includes(event.key) && event.key.length === 1) {
    document.activeElement.closest("[data-hit]")?.querySelector(`[data-grade="${event.key}"]`)?.click();
  }
});

// What was refused, or never came, was not kept: the form says so, and may be pressed again.
for (const name of ["htmx:response:error", "htmx:error"]) {
  document.addEventListener(name, (event) => {
    const form = event.target.closest?.("form.judging");
    if (!form) return;
    delete form.dataset.sent;
    form.querySelector(".said").textContent = "✕ not kept: reload the page";
  });
}
