// A person at the dashboard, in a real browser: signs in by the terminal's link, connects a location, does whatever can
// be done, and leaves. Each page is read by axe in both colours and at two widths, and asks nobody but us.
//
//   node dashboard.mjs SERVICE LINK COMMAND LANGUAGE SCREENSHOTS
//
// COMMAND is a shell's, by which a program checks the location behind the page's back.

import { execSync } from "node:child_process";
import assert from "node:assert/strict";
import { begin } from "./browser.mjs";

const [service, link, behindItsBack, language, screenshots] = process.argv.slice(2);
const words = {
  en: {
    signIn: "Sign in", connect: "Connect a location", go: "Go to HighLevel", allow: "Allow",
    check: "Check now", checked: "It was checked.", refresh: "Refresh the token", refreshed: "It has a new token.",
    forget: "Forget", restore: "Serve it again", restored: "It is served again.", revoke: "Revoke", revoked: "Revoked",
    out: "Sign out", keys: "API keys", notices: "Notices", installations: "Installations", overview: "Overview", show: "Show",
    used: "This link was used already", pause: "Pause", paused: "It is paused.", resume: "Go on",
    resumed: "It is checked again.", settings: "Settings", other: "Português (Brasil)", everywhere: "Sign out everywhere",
    toOverview: "To the overview",
  },
  "pt-BR": {
    signIn: "Entrar", connect: "Conectar uma location", go: "Ir para o HighLevel", allow: "Allow",
    check: "Verificar agora", checked: "Foi verificada.", refresh: "Renovar o token", refreshed: "Tem um token novo.",
    forget: "Esquecer", restore: "Servir de novo", restored: "Voltou a ser servida.", revoke: "Revogar", revoked: "Revogada",
    out: "Sair", keys: "Chaves de API", notices: "Avisos", installations: "Instalações", overview: "Visão geral", show: "Mostrar",
    used: "Este link já foi usado", pause: "Pausar", paused: "Está em pausa.", resume: "Retomar",
    resumed: "Voltou a ser verificada.", settings: "Configurações", other: "English", everywhere: "Sair em todos os lugares",
    toOverview: "Para a visão geral",
  },
}[language];

const { context, page, troubles, look, end } = await begin({ origin: service, language, screenshots });
let question;
page.on("dialog", (dialog) => { question = dialog.message(); dialog.accept(); });

const button = (name) => page.getByRole("button", { name, exact: true });
const shown = (text) => page.getByText(text).first().waitFor({ timeout: 10_000 });
const visit = (path) => page.goto(service + path);

// In.
await visit("/keys");
assert.match(page.url(), /\/sign-in\?to=%2Fkeys$/);
await look("sign-in");
await page.goto(link);
await button(words.signIn).click();
await page.locator("h1.verdict").waitFor();
assert.equal(new URL(page.url()).pathname, "/");
assert.equal(await page.locator("html").getAttribute("lang"), language);
await page.goto(link);
await button(words.signIn).click();
await shown(words.used);
// The browser notes the 403.
assert.equal(troubles.splice(0).length, 1);
await visit("/");
await look("overview");

// A location is connected, by way of HighLevel.
await page.getByRole("link", { name: words.connect }).first().click();
await look("connect");
await button(words.go).click();
await page.waitForURL((url) => !url.href.startsWith(service));
await page.getByRole("button", { name: words.allow }).click();
await page.waitForURL((url) => url.href.startsWith(service));
assert.match(page.url(), /\/oauth\/callback\?/);

// All that can be done about it.
await visit("/installations");
await look("installations");
await page.getByRole("searchbox").fill("no-such-name");
await button(words.show).click();
assert.equal(await page.locator("tbody tr").count(), 0);
await visit("/installations");
await page.locator("tbody a").first().click();
const path = new URL(page.url()).pathname;
await button(words.check).click();
await shown(words.checked);
await button(words.refresh).click();
await shown(words.refreshed);
await look("installation");

// Whatever happens elsewhere shows by itself.
const bars = () => page.locator(".chart rect").count();
const before = await bars();
execSync(behindItsBack, { stdio: "ignore" });
await page.waitForFunction((before) => document.querySelectorAll(".chart rect").length > before, before, { timeout: 15_000 });

await button(words.pause).click();
await shown(words.paused);
await look("paused");
await button(words.resume).click();
await shown(words.resumed);

await page.getByRole("link", { name: words.forget, exact: true }).click();
await look("forget");
await button(words.forget).click();
await look("removed");
await button(words.restore).click();
await shown(words.restored);
assert.equal(new URL(page.url()).pathname, path);

await page.getByRole("link", { name: words.notices, exact: true }).click();
await look("notices");
await page.getByRole("link", { name: words.keys, exact: true }).click();
await look("keys");
const row = page.locator("tr", { hasText: `to-be-revoked-${language}` });
await row.getByRole("button", { name: words.revoke }).click();
await row.getByRole("cell", { name: words.revoked }).waitFor();
assert.match(question, /to-be-revoked-/);

await page.getByRole("link", { name: words.settings, exact: true }).click();
await look("settings");

// What is not there is a page, too, and the way back.
await visit("/nowhere");
assert.equal(troubles.splice(0).length, 1);
await look("problem");
await page.getByRole("link", { name: words.toOverview }).click();
await page.locator("h1.verdict").waitFor();

// Whoever reads another language better chooses it, and stays where they are.
await visit("/keys");
await button(words.other).click();
await page.waitForURL(service + "/keys");
assert.notEqual(await page.locator("html").getAttribute("lang"), language);
await page.locator("footer button").click();
await page.waitForURL(service + "/keys");
assert.equal(await page.locator("html").getAttribute("lang"), language);

// By the keyboard alone: the first stop leads past the way around.
await visit("/");
await page.keyboard.press("Tab");
assert.equal(await page.evaluate(() => document.activeElement.getAttribute("href")), "#main");

// Forms that are not ours are not acted on, whoever is signed in.
const cookies = await context.cookies();
const cookie = cookies.map(({ name, value }) => `${name}=${value}`).join("; ");
const ours = cookies.find((one) => one.name === "ghl-auth-session");
assert.ok(ours.httpOnly && ours.sameSite === "Strict");
const csrf = await page.locator("input[name=csrf]").first().inputValue();
const form = { "content-type": "application/x-www-form-urlencoded", cookie };
const attempts = {
  "without the token": [{ ...form, origin: service }, ""],
  "with another token": [{ ...form, origin: service }, `csrf=${csrf.slice(0, -1)}_`],
  "from elsewhere": [{ ...form, origin: "http://evil.example" }, `csrf=${csrf}`],
  "from nowhere": [{ ...form, origin: "null" }, `csrf=${csrf}`],
  "as text": [{ ...form, origin: service, "content-type": "text/plain" }, `csrf=${csrf}`],
  "by another site, as the browser says": [{ ...form, origin: service, "sec-fetch-site": "cross-site" }, `csrf=${csrf}`],
};
for (const action of [`${path}/check`, `${path}/refresh`, `${path}/pause`, `${path}/resume`, `${path}/approve`, `${path}/dismiss`, `${path}/forget`, `${path}/restore`, "/keys/x/revoke", "/connect", "/sign-out"]) {
  for (const [how, [headers, body]] of Object.entries(attempts)) {
    const answer = await fetch(service + action, { method: "POST", headers, body, redirect: "manual" });
    assert.equal(answer.status, 403, `${action} ${how}`);
  }
}

// Out, and the cookie of before is good for nothing.
await visit("/settings");
await button(words.everywhere).click();
await page.waitForURL(/\/sign-in$/);
const answer = await fetch(service + "/", { headers: { cookie }, redirect: "manual" });
assert.equal(answer.status, 303);

const read = await end();
console.log(`${language}: signed in, connected, checked, refreshed, paused, forgot, restored, revoked, signed out; ${read} looks, nothing serious`);
