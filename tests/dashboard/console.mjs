// A developer at the sandbox's console, in a real browser, with a service beside it: consents, sees tokens issued and
// used up and a tag set, throws outages and watches them being survived, and takes them back. The page is read by axe
// in both colours and at two widths, works without its script, and asks nobody but the sandbox.
//
//   node console.mjs SANDBOX SERVICE GHL-AUTH LANGUAGE SCREENSHOTS
//
// It runs where the service's .env and an API key, in ./key, are.

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import assert from "node:assert/strict";
import { begin } from "./browser.mjs";

const [sandbox, service, program, language, screenshots] = process.argv.slice(2);
const words = {
  en: {
    good: "HighLevel answers as it should", trouble: "One thing goes wrong now", down: "Down for 5 minutes (503)",
    takeBack: /^Take back/, single: "One fault, for chosen requests", lost: "Done, and the answer is lost", allOff: "All off",
    consent: "To the consent page", issued: "issued", again: "given again", usedUp: /^used up/, ended: "ended",
    thrown: "Thrown.", set: "Set", update: "UPDATE: The company", code: "code", whose: "Where they are sent; empty for nowhere",
    message: "to Clara Sandbox", gone: "The sandbox doesn't answer", day: "1 d", refreshing: "refreshing", nothing: "Nothing was done",
  },
  "pt-BR": {
    good: "O HighLevel responde como deve", trouble: "Uma coisa dá errado agora", down: "Fora do ar por 5 minutos (503)",
    takeBack: /^Desfazer/, single: "Uma falha, para requisições escolhidas", lost: "Feito, e a resposta se perde", allOff: "Desligar tudo",
    consent: "Ir à página de consentimento", issued: "emitida", again: "dada de novo", usedUp: /^consumido/, ended: "acabou",
    thrown: "Falha provocada.", set: "Definir", update: "UPDATE: A agência", code: "código", whose: "Para onde são enviados; vazio para lugar nenhum",
    message: "para Clara Sandbox", gone: "O sandbox não responde", day: "1 d", refreshing: "renovar", nothing: "Nada foi feito",
  },
}[language];

const console_ = `${sandbox}/_sandbox/console`;
const settings = await (await fetch(`${sandbox}/_sandbox/settings`)).json();
const run = (...args) => execFileSync(program, args, { stdio: "pipe", encoding: "utf8" });
const key = readFileSync("key", "utf8").trim();
async function check() {
  const answer = await fetch(`${service}/v1/checks`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify({ kind: "location", id: settings.location_id }),
  });
  return answer.json();
}
const isGood = async () => {
  const found = await check();
  assert.equal(found.health, "operational", JSON.stringify(found));
};

// The service's pages and the consent page are others'.
const { context, page, troubles, look, end } = await begin({ origin: sandbox, ours: console_, language, screenshots });
page.setDefaultTimeout(20_000);

const button = (name) => page.getByRole("button", { name, exact: typeof name === "string" });
const rows = (id) => page.locator(`#${id} > *`);
const awaited = (locator) => locator.first().waitFor();
const verdict = (text) => awaited(page.getByRole("heading", { level: 1, name: text }));

// The sandbox's own address leads a browser to it.
await page.goto(`${sandbox}/`);
assert.equal(page.url(), console_);
assert.equal(await page.locator("html").getAttribute("lang"), language);
await verdict(words.good);

// Someone installs the app from the marketplace, and the service takes it in.
await page.locator("[name=redirect_uri]").fill(`${service}/oauth/callback`);
await button(words.consent).click();
assert.match(page.url(), /\/v2\/oauth\/chooselocation\?/);
await page.getByRole("button", { name: /Allow/ }).click();
await page.waitForURL((url) => url.href.startsWith(service));
await page.goto(console_);
const newest = rows("tokens").first();
await awaited(newest.getByText(words.issued));
await awaited(newest.getByText(words.code, { exact: true }));
const before = await newest.locator("small", { hasText: "…" }).allTextContents();
assert.equal(before.length, 2);

// A refresh uses the old one up. The page says so by itself.
run("refresh");
const old = rows("tokens").filter({ hasText: before[1] }).first();
await awaited(old.getByText(words.usedUp));
await awaited(newest.getByText("2", { exact: false }).filter({ hasText: words.issued }));
assert.notDeepEqual(await newest.locator("small", { hasText: "…" }).allTextContents(), before);

// A check is seen: its requests, its message; and a tag that a program sets stays on the contact.
await isGood();
await awaited(page.locator("#messages").getByText(words.message));

const access = run("token").trim();
const tagged = await fetch(`${sandbox}/contacts/${settings.contact_id}/tags`, {
  method: "POST",
  headers: { authorization: `Bearer ${access}`, version: "2021-07-28", "content-type": "application/json" },
  body: JSON.stringify({ tags: ["<b>vip</b>"] }),
});
assert.equal(tagged.status, 201);
await awaited(page.locator("#contacts").getByText("<b>vip</b>", { exact: true }));
await awaited(rows("requests").filter({ hasText: `POST /contacts/${settings.contact_id}/tags` }));

// HighLevel goes down by a button; the service's check fails, and is good again when it is taken back.
await page.getByText(words.single).click();
await button(words.down).click();
await awaited(page.getByText(words.thrown));
await verdict(words.trouble);
const failing = check();
await awaited(rows("requests").filter({ hasText: "503" }).filter({ hasText: "status" }));
await look("console-outage");
if (screenshots) {
  // The book's.
  await page.getByText(words.single).click();
  await page.screenshot({ path: `${screenshots}/sandbox-${language}-light-1440.png` });
  await page.getByText(words.single).click();
}
assert.notEqual((await failing).health, "operational");
await button(words.takeBack).click();
await verdict(words.good);
await isGood();

// The answer to a refresh is lost, and the refresh survives it: the same is asked for again.
await page.locator("[name=on]").selectOption({ label: words.refreshing });
await button(words.lost).click();
await verdict(words.trouble);
run("refresh");
await awaited(rows("tokens").filter({ hasText: words.again }));
await awaited(rows("requests").filter({ hasText: "lose_answer" }));
await verdict(words.good);

// Webhooks reach the service.
await page.getByLabel(words.whose).fill(`${service}/webhooks/highlevel`);
await button(words.set).first().click();
await button(words.update).click();
await awaited(rows("sent").filter({ hasText: "UPDATE" }).filter({ hasText: /20[0-9]/ }));

// A day goes by on HighLevel's side: what the service holds has ended there, and a refresh heals it.
await button(words.day).click();
await awaited(rows("tokens").filter({ hasText: before[0] }).getByText(words.ended));
assert.equal((await check()).code, "token_refused");
run("refresh");
await isGood();
await look("console", { schemes: screenshots ? ["light", "dark"] : ["light"] });

// By the keyboard alone: the first stop leads to the page itself, and whoever presses a button stays there.
await page.goto(console_);
await page.keyboard.press("Tab");
assert.equal(await page.evaluate(() => document.activeElement.getAttribute("href")), "#main");
const suspend = page.locator(`#pause-${settings.location_id}`);
await suspend.focus();
await page.keyboard.press("Enter");
await verdict(words.trouble);
await page.waitForFunction((id) => document.activeElement.id === id && document.activeElement.value === "resume", `pause-${settings.location_id}`);
await page.keyboard.press("Enter");
await verdict(words.good);

// Whatever was done has words for it, and so has what was not understood.
for (const done of ["thrown", "taken_back", "all_off", "moved", "changed", "told", "begun_again", "nothing"]) {
  await page.goto(`${console_}?done=${done}`);
  assert.ok((await page.locator("#said p").textContent()).length > 4, done);
}
await awaited(page.getByText(words.nothing));

// A sandbox that is gone is said to be, until it is there again.
await page.goto(console_);
await context.setOffline(true);
await awaited(page.getByText(words.gone));
await context.setOffline(false);
await page.getByText(words.gone).waitFor({ state: "hidden" });
// The browser notes what it could not load.
assert.deepEqual(troubles.splice(0).filter((trouble) => !trouble.includes("net::ERR_")), []);

// A page of another site throws nothing, in this very browser.
const evil = await context.newPage();
await evil.route("http://evil.example/**", (route) => route.fulfill({
  contentType: "text/html",
  body: `<form method="post" action="${console_}"><input name="deed" value="outage"><input name="outage" value="down"></form>`,
}));
await evil.goto("http://evil.example/");
await evil.evaluate((address) => fetch(`${address}/_sandbox/faults`, {
  method: "POST", mode: "no-cors", body: '{"fault":"lose_request"}',
}).catch(() => {}), sandbox);
await evil.locator("form").evaluate((form) => form.submit());
await evil.waitForURL((url) => !url.href.startsWith("http://evil.example")).catch(() => {});
await evil.close();
const waiting = async () => (await fetch(`${sandbox}/_sandbox/faults`)).json();
assert.deepEqual(await waiting(), []);
const form = { "content-type": "application/x-www-form-urlencoded" };
for (const headers of [{ origin: "http://evil.example" }, { origin: service }, { origin: "null" }, { origin: sandbox, "sec-fetch-site": "cross-site" }]) {
  const answer = await fetch(console_, { method: "POST", headers: { ...form, ...headers }, body: "deed=outage&outage=down", redirect: "manual" });
  assert.equal(answer.status, 403, JSON.stringify(headers));
}
assert.deepEqual(await waiting(), []);

// Without its script it works by loading anew.
const plain = await context.browser().newContext({ javaScriptEnabled: false, locale: language });
const still = await plain.newPage();
await still.goto(console_);
await still.getByRole("button", { name: words.down }).click();
await awaited(still.getByText(words.thrown));
await awaited(still.getByRole("heading", { level: 1, name: words.trouble }));
await still.getByRole("button", { name: words.allOff }).click();
await awaited(still.getByRole("heading", { level: 1, name: words.good }));
assert.deepEqual(await waiting(), []);

const read = await end();
console.log(`${language}: consented, refreshed, tagged, broke, survived, took back; ${read} looks, nothing serious`);
