// What the scripts beside this begin with: a browser in which nothing may be asked of anybody else and nothing may go wrong,
// and a reading of a page by axe in both colours and at two widths.

import assert from "node:assert/strict";
import { AxeBuilder } from "@axe-core/playwright";
import { chromium } from "playwright-core";

// ORIGIN is whom pages may ask; pages whose address begins with OURS are looked at, others are others'.
export async function begin({ origin, ours = origin, language, screenshots }) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox"],
  });
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, locale: language });
  const page = await context.newPage();
  const elsewhere = [];
  const troubles = [];
  const isOurs = () => page.url() === "about:blank" || page.url().startsWith(ours);
  page.on("request", (request) => {
    if (isOurs() && !request.isNavigationRequest() && !request.url().startsWith(origin)) elsewhere.push(request.url());
  });
  page.on("console", (message) => { if (isOurs() && message.type() === "error") troubles.push(message.text()); });
  page.on("pageerror", (error) => troubles.push(String(error)));

  let read = 0;
  async function look(name, { schemes = ["light", "dark"], asWell = async () => {} } = {}) {
    for (const colorScheme of schemes) {
      for (const width of [1440, 320]) {
        await page.emulateMedia({ colorScheme });
        await page.setViewportSize({ width, height: 900 });
        const { violations } = await new AxeBuilder({ page })
          .withTags(["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]).analyze();
        const serious = violations.map((one) => `${one.id}: ${one.help}\n  ${one.nodes.map((node) => node.html).join("\n  ")}`);
        assert.deepEqual(serious, [], `${name}, ${colorScheme}, ${width} px`);
        const tooWide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth
          ? [...document.querySelectorAll("body *")].filter((one) => one.getBoundingClientRect().right > innerWidth && !one.closest(".scroll"))
            .map((one) => one.outerHTML.slice(0, 120))
          : null);
        assert.equal(tooWide, null, `${name} is wider than ${width} px`);
        await asWell();
        if (screenshots) {
          await page.screenshot({ path: `${screenshots}/${name}-${language}-${colorScheme}-${width}.png`, fullPage: true });
        }
        read += 1;
      }
    }
    await page.emulateMedia({ colorScheme: "light" });
    await page.setViewportSize({ width: 1440, height: 900 });
  }

  // Ends it, and says how often a page was read.
  async function end() {
    assert.deepEqual(elsewhere, []);
    assert.deepEqual(troubles, []);
    await browser.close();
    return read;
  }
  return { context, page, elsewhere, troubles, look, end };
}
