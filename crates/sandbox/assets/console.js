// Keeps the page true: once a second it is asked for again, and whatever has changed in it is put in the place of what
// was there. Forms are sent without leaving it. Everything works without, by reloading.
"use strict";

const LOOK_EVERY = 1000;

const lost = document.getElementById("lost");
const said = document.getElementById("said");
const parts = () => document.querySelectorAll("[data-live]");
const before = new Map();
for (const part of parts()) before.set(part.id, part.innerHTML);

// A button that is being pressed stays where it is, and so does text that is being marked.
let isPressed = false;
for (const [name, pressed] of [["pointerdown", true], ["pointerup", false], ["pointercancel", false]]) {
  addEventListener(name, () => { isPressed = pressed; }, true);
}
function isMarked(part) {
  const selection = getSelection();
  return selection.type === "Range" && part.contains(selection.anchorNode);
}

function renew(next) {
  for (const part of parts()) {
    const fresh = next.getElementById(part.id);
    if (!fresh || fresh.innerHTML === before.get(part.id) || isPressed || isMarked(part)) continue;
    before.set(part.id, fresh.innerHTML);
    const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
    part.replaceChildren(...fresh.childNodes);
    if (focused) (document.getElementById(focused) ?? document.getElementById("main")).focus({ preventScroll: true });
  }
}

async function ask(address, how) {
  try {
    const answer = await fetch(address, { ...how, headers: { ...how?.headers, accept: "text/html" } });
    if (!answer.ok) throw new Error(String(answer.status));
    lost.hidden = true;
    return new DOMParser().parseFromString(await answer.text(), "text/html");
  } catch {
    lost.hidden = false;
    return null;
  }
}

let looking = false;
async function look() {
  if (looking) return;
  looking = true;
  const next = await ask(location.href);
  if (next) renew(next);
  looking = false;
}
setInterval(() => { if (!document.hidden) look(); }, LOOK_EVERY);
document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  event.preventDefault();
  const question = event.submitter?.dataset.ask;
  if (question && !confirm(question)) return;
  const body = new URLSearchParams(new FormData(form, event.submitter));
  const answer = await ask(form.action, { method: "POST", body });
  if (!answer) return;
  said.replaceChildren(...(answer.getElementById("said")?.childNodes ?? []));
  await look();
});
