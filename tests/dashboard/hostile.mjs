// Three hundred names that would do something if they were more than text, as names of installations and of keys, as
// what HighLevel said, and as where a key was used from: in a real browser none of them does anything, and each is read
// as it is.
//
//   node hostile.mjs SERVICE LINK NAMES LOCATION

import { readFileSync } from "node:fs";
import assert from "node:assert/strict";
import { begin } from "./browser.mjs";

const [service, link, file, location] = process.argv.slice(2);
const names = JSON.parse(readFileSync(file, "utf8"));
const { page, troubles, end } = await begin({ origin: service, language: "en" });
page.on("dialog", (dialog) => { troubles.push(`a dialog: ${dialog.message()}`); dialog.dismiss(); });
page.on("request", (request) => { if (!request.url().startsWith(service)) troubles.push(`asked ${request.url()}`); });
// What the policy of the pages refuses is told there.
await page.addInitScript(() => document.addEventListener("securitypolicyviolation", (event) => console.error(`refused: ${event.violatedDirective}`)));

await page.goto(link);
await page.getByRole("button").first().click();
await page.locator("h1.verdict").waitFor();

// A browser leaves out the character 0, and knows no lone carriage return.
const asRead = (name) => name.replaceAll("\0", "").replace(/\r\n?/g, "\n");
let read = 0;
for (const [path, what] of [
  ["/installations?limit=1000", "tbody th a"],
  ["/keys", "tbody th"],
  ["/notices", ".list p"],
  [`/installations/location/${location}`, ".list p"],
  ["/", ".list p"],
]) {
  await page.goto(service + path);
  const texts = new Set((await page.locator(what).allTextContents()).flatMap((text) => [text, text.trim()]));
  const found = names.filter((name) => [...texts].some((text) => text.includes(asRead(name))));
  if (path.startsWith("/installations?") || path === "/keys") assert.equal(found.length, names.length, path);
  assert.ok(found.length > 0, path);
  read += found.length;
  assert.equal(await page.locator("script").count(), 1, `${path}: our own script alone`);
  assert.equal(await page.locator("iframe, base, img, style, object, embed, meta[http-equiv]").count(), 0, path);
  const leads = await page.locator("a[href], form[action]").evaluateAll((all) => all.map((one) => one.href ?? one.action));
  assert.ok(leads.every((href) => href.startsWith(service)), path);
  // Whoever moves over them or presses them does nothing but that.
  await page.mouse.move(200, 300);
}
await end();
console.log(`${names.length} hostile names, read ${read} times: no dialog, nothing refused, nobody else asked`);
