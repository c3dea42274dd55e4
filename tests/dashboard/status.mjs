// The page for everybody and a badge, in a real browser: who has no key sees one word, ninety days, and nothing of anybody
// else's. The page is read by axe in both colours and at two widths, and asks nobody but us; the badge is drawn on another
// site's page.
//
//   node status.mjs SERVICE BADGE LANGUAGE SCREENSHOTS
//
// SERVICE shows its page with names; BADGE is the path of a badge of its.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { begin } from "./browser.mjs";

const [service, badge, language, screenshots] = process.argv.slice(2);
const words = {
  en: { states: { Up: "up", Late: "late" }, days: "The last 90 days", installations: "Installations" },
  "pt-BR": { states: { "No ar": "no ar", Atrasado: "atrasado" }, days: "Os últimos 90 dias", installations: "Instalações" },
}[language];

const { context, page, look, end } = await begin({ origin: service, language, screenshots });

const answer = await page.goto(`${service}/status`);
assert.equal(answer.status(), 200);
assert.equal(await page.locator("html").getAttribute("lang"), language);
const word = words.states[(await page.locator("h1").innerText()).trim()];
assert.ok(word, "it works, be it that something needs attention");
await page.getByRole("listitem").filter({ hasText: word }).waitFor();
await page.getByRole("heading", { name: words.days }).waitFor();
await page.getByRole("heading", { name: words.installations }).waitFor();
const blocks = page.getByRole("img");
assert.equal(await blocks.locator("rect").count(), 90);
assert.match(await blocks.getAttribute("aria-label"), /\d/);
assert.equal(await page.locator("script, form, a[href^=http]").count(), 0);
assert.deepEqual(await context.cookies(), []);

await look("status", {
  asWell: async () => {
    const drawn = await blocks.locator("rect.good").last().evaluate((rect) => getComputedStyle(rect).fill);
    assert.notEqual(drawn, "rgb(0, 0, 0)", "the blocks have their colours");
  },
});

// Another site's page shows the badge.
const other = createServer((_, answer) => {
  answer.setHeader("content-type", "text/html");
  answer.end(`<!doctype html><title>another site</title><img src="${service}${badge}" alt="ghl-auth">`);
});
await new Promise((listening) => other.listen(0, "127.0.0.1", listening));
const site = await context.newPage();
await site.goto(`http://127.0.0.1:${other.address().port}/`);
const image = site.locator("img");
await image.evaluate((image) => image.decode());
const [width, height] = await image.evaluate((image) => [image.naturalWidth, image.naturalHeight]);
assert.ok(width > 60 && width < 200 && height === 20, `${width} x ${height}`);
await site.close();
await new Promise((closed) => { other.close(closed); other.closeAllConnections(); });
await page.goto(service + badge);
assert.equal(await page.evaluate(() => document.title || document.querySelector("title").textContent), `ghl-auth: ${word}`);
const overflows = await page.evaluate(() => [...document.querySelectorAll("text")].some((text) => {
  const box = text.getBBox();
  return box.x < 0 || box.x + box.width > document.documentElement.width.baseVal.value;
}));
assert.ok(!overflows, "the words are within the badge");

const read = await end();
console.log(`${language}: the status page and a badge; ${read} looks, nothing serious`);
