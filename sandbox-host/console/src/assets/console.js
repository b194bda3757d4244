// Refreshes the console's page: asks for its sections every few seconds and replaces those that
// differ. It keeps the focus, the scroll position of tables and what is selected.
"use strict";

const PERIOD_MS = 5000;
const TIMEOUT_MS = 10000;
const pause = document.getElementById("pause");
const connection = document.getElementById("connection");
let isPaused = false;
let timer;

// Writes a text that a screen reader speaks, only if it differs.
function say(text) {
  if (connection.textContent !== text) {
    connection.textContent = text;
  }
}

function isSelected(element) {
  const selection = document.getSelection();
  return selection !== null && !selection.isCollapsed && selection.intersectsNode(element);
}

// Puts the content of a fresh element into the one with the same id on the page.
function replace(fresh) {
  const shown = document.getElementById(fresh.id);
  if (shown === null || isSelected(shown) || shown.innerHTML === fresh.innerHTML) {
    return;
  }
  const offsets = Array.from(shown.querySelectorAll(".scroll"), (region) => [
    region.id, region.scrollLeft, region.scrollTop,
  ]);
  const focused = shown.contains(document.activeElement) ? document.activeElement.id : "";
  shown.replaceChildren(...fresh.childNodes);
  for (const [id, left, top] of offsets) {
    const region = document.getElementById(id);
    if (region !== null) {
      region.scrollLeft = left;
      region.scrollTop = top;
    }
  }
  if (focused !== "") {
    document.getElementById(focused)?.focus({ preventScroll: true });
  }
}

async function refresh() {
  try {
    const response = await fetch("/console/sections", {
      cache: "no-store",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    if (!response.ok) {
      throw new Error(`status ${response.status}`);
    }
    const text = await response.text();
    if (isPaused) {
      return;
    }
    const parts = new DOMParser().parseFromString(text, "text/html");
    const known = document.getElementById("rejections") !== null;
    if (known !== (parts.getElementById("rejections") !== null)) {
      // The host has loaded its first policy, or has started again.
      location.reload();
      return;
    }
    for (const fresh of parts.querySelectorAll("section, #summary, #time")) {
      replace(fresh);
    }
    say("");
  } catch {
    say("The gate does not answer. This page shows its last state.");
  }
}

function schedule() {
  clearTimeout(timer);
  timer = setTimeout(async () => {
    if (!isPaused && !document.hidden) {
      await refresh();
    }
    schedule();
  }, PERIOD_MS);
}

pause.hidden = false;
pause.addEventListener("click", () => {
  isPaused = !isPaused;
  pause.textContent = isPaused ? "Resume updates" : "Pause updates";
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && !isPaused) {
    refresh();
  }
});
schedule();
