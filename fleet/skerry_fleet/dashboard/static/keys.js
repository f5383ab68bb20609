// Single keys for people who keep their hands on the keyboard; nothing needs them, and no key is taken from a field.
"use strict";

const PAGES = { o: "/ui/", s: "/ui/sites", d: "/ui/devices", m: "/ui/models", r: "/ui/rollouts", f: "/ui/drift", a: "/ui/alerts", t: "/ui/trends", u: "/ui/audit" };
const GO_MS = 1500; // from the g to the letter

let went = 0;

function typing(element) {
  return element instanceof HTMLElement && (element.isContentEditable || /^(INPUT|SELECT|TEXTAREA)$/.test(element.tagName));
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || !document.getElementById("find")) {
    return;
  }
  if (typing(event.target)) {
    if (event.key === "Escape") { event.target.blur(); }
    return;
  }
  const going = Date.now() - went < GO_MS;
  went = 0;
  if (going && PAGES[event.key]) {
    location.href = PAGES[event.key];
  } else if (event.key === "g") {
    went = Date.now();
  } else if (event.key === "/") {
    document.getElementById("find").focus();
  } else if (event.key === "?") {
    const help = document.getElementById("keys");
    help.open = !help.open;
    if (help.open) { help.querySelector("summary").focus(); help.scrollIntoView({ block: "nearest" }); }
  } else if (event.key === "n") {
    document.getElementById("page-next")?.click();
    return;
  } else {
    return;
  }
  event.preventDefault();
});
