// Keeps the live part of a page fresh: the server says what kind of thing changed, the page asks for its part again.
// Without this script every page still works; it only has to be reloaded.
"use strict";

const QUIET_MS = 1000; // at most one request a second, however much changes
const SLOW_MS = 5000; // ages and rates change without an event
const SAY_MS = 10000; // a screen reader must be able to finish

const live = document.getElementById("live");
const link = document.getElementById("link");
const said = document.getElementById("said");
const kinds = new Set(live ? live.dataset.kinds.split(" ").filter(Boolean) : []);

let stream = null;
let asked = 0;
let timer = null;
let saidAt = Date.now();
let lastWords = words();

function words() {
  const element = live && live.querySelector("[data-say]");
  return element ? element.dataset.say : "";
}

function say() {
  const text = words();
  if (text !== lastWords && Date.now() - saidAt > SAY_MS) {
    lastWords = said.textContent = text;
    saidAt = Date.now();
  }
}

function show(state) {
  link.dataset.state = state;
  link.textContent = { live: "live", lost: "connection lost, trying again", still: "not live" }[state];
}

function soon() {
  if (timer === null) {
    timer = setTimeout(refresh, Math.max(0, asked + QUIET_MS - Date.now()));
  }
}

async function refresh() {
  asked = Date.now();
  try {
    const answer = await fetch(location.href, { headers: { "x-skerry-part": "1" }, cache: "no-store" });
    if (answer.status === 401) {
      location.reload(); // the session has ended: the server leads to the sign-in page
      return;
    }
    if (answer.ok) {
      replace(await answer.text());
    }
  } catch {
    show("lost");
  } finally {
    timer = null;
  }
}

function replace(text) {
  if (text === replace.before) {
    return;
  }
  replace.before = text;
  const opened = [...live.querySelectorAll("details[open][id]")].map((each) => each.id);
  const scrolled = [...live.querySelectorAll(".scroll")].map((each) => each.scrollLeft);
  const focused = live.contains(document.activeElement) ? document.activeElement : null;
  const place = focused && (focused.id || focused.getAttribute("href"));
  // Parsed, never run: a document made by DOMParser executes nothing.
  const fresh = new DOMParser().parseFromString(text, "text/html").body;
  live.replaceChildren(...fresh.childNodes);
  opened.forEach((id) => document.getElementById(id)?.setAttribute("open", ""));
  live.querySelectorAll(".scroll").forEach((each, index) => { each.scrollLeft = scrolled[index] || 0; });
  if (place) {
    const again = [...live.querySelectorAll("[id], [href]")].find((each) => place === (each.id || each.getAttribute("href")));
    again?.focus({ preventScroll: true });
  }
  say();
}

function listen() {
  stream = new EventSource("/ui/events");
  stream.addEventListener("open", () => { show("live"); soon(); });
  stream.addEventListener("error", () => show("lost"));
  stream.addEventListener("changed", (event) => { if (kinds.has(event.data)) { soon(); } });
}

function rest() {
  stream?.close();
  stream = null;
  show("still");
}

if (live && link && kinds.size) {
  // A browser opens few connections to one server: pages that nobody looks at give theirs back.
  document.addEventListener("visibilitychange", () => (document.hidden ? rest() : stream || listen()));
  addEventListener("pagehide", rest);
  addEventListener("pageshow", () => { if (!stream && !document.hidden) { listen(); } });
  setInterval(() => { if (!document.hidden) { soon(); say(); } }, SLOW_MS);
}
