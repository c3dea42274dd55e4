// Keeps an open page true: when the service says that something has changed, and once a minute, the page's own
// address is asked for again and what is in the middle is put in the place of what was there. Everything works without it.
"use strict";

const main = document.getElementById("main");

// Whoever is writing, or has chosen something, is not disturbed.
const isBusy = () => document.hidden || (main.contains(document.activeElement)
  && document.activeElement.matches("input, select, textarea, button"));

let asking = false;
async function renew() {
  if (asking || isBusy()) return;
  asking = true;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" }, redirect: "manual" });
    if (!answer.ok) return;
    const next = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("main");
    if (!next || isBusy()) return;
    const link = document.activeElement instanceof HTMLAnchorElement ? document.activeElement.getAttribute("href") : null;
    main.replaceChildren(...next.childNodes);
    if (link) main.querySelector(`a[href="${CSS.escape(link)}"]`)?.focus({ preventScroll: true });
  } catch {
    // It is asked again at the next change.
  } finally {
    asking = false;
  }
}

const live = document.body.dataset.live;
if (live) {
  new EventSource(live).addEventListener("changed", renew);
  setInterval(renew, 60_000);
}

// What can't be taken back is asked about.
document.addEventListener("submit", (event) => {
  const question = event.submitter?.dataset.ask;
  if (question && !confirm(question)) event.preventDefault();
});
