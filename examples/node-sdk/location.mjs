// Reads a location through HighLevel's official SDK: `node location.mjs [HOW-MANY-TIMES-AT-ONCE]`.
// The three lines that a program of yours gets are marked.

import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import { HighLevel } from "@gohighlevel/api-client";
import { KeeperSessionStorage } from "./keeper-session-storage.cjs"; // 1

const sessionStorage = new KeeperSessionStorage({
  url: process.env.GHL_AUTH_URL,
  apiKey: process.env.GHL_AUTH_API_KEY,
});
const ghl = new HighLevel({
  // The SDK insists on both. Neither is used any more: the secret need not be here.
  clientId: "kept-by-ghl-auth",
  clientSecret: "kept-by-ghl-auth",
  sessionStorage, // 2
  // At any other level, the SDK prints failed calls with the token they were made with.
  logLevel: "none",
});
sessionStorage.cure(ghl); // 3

// Another HighLevel, such as the sandbox. The address in the SDK is private; its HTTP client is not.
if (process.env.GHL_API_BASE_URL) ghl.getHttpClient().defaults.baseURL = process.env.GHL_API_BASE_URL;
// However many calls are made at once, so many connections share them.
ghl.getHttpClient().defaults.httpAgent = new HttpAgent({ keepAlive: true, maxSockets: 64 });
ghl.getHttpClient().defaults.httpsAgent = new HttpsAgent({ keepAlive: true, maxSockets: 64 });

const locationId = process.env.GHL_LOCATION_ID;
const howMany = Number(process.argv[2] ?? 1);
const reads = Array.from({ length: howMany }, () => ghl.locations.getLocation({ locationId }));
const ends = await Promise.allSettled(reads);
const failed = ends.filter((end) => end.status === "rejected");
for (const why of new Set(failed.map((end) => end.reason.message))) console.error(why);
console.log(`HighLevel answered ${howMany - failed.length} of ${howMany}`);
process.exit(failed.length ? 1 : 0);
