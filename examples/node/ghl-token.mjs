// A token from the service, kept until shortly before its end. Node 18 or newer, no packages.

const keeper = process.env.GHL_AUTH_URL ?? "http://127.0.0.1:8787";
const highlevel = process.env.GHL_API_BASE_URL ?? "https://services.leadconnectorhq.com";
// A token that would end within this time is asked for anew.
const marginMs = 60_000;

const kept = new Map();

async function askKeeper(path, body) {
  const answer = await fetch(keeper + path, {
    method: body ? "POST" : "GET",
    headers: { authorization: `Bearer ${process.env.GHL_AUTH_API_KEY}`, "content-type": "application/json" },
    body: body && JSON.stringify(body),
  });
  const document = await answer.json();
  if (!answer.ok) throw new Error(`${document.code}: ${document.detail} ${document.action}`);
  return document;
}

/** The answer of the service, asked for once however many wait for it. */
export async function token(locationId) {
  const known = kept.get(locationId);
  if (known && Date.now() < known.goodUntil) return known.answer;
  return keep(locationId, askKeeper(`/v1/locations/${locationId}/token`));
}

/** HighLevel refused the token of this generation: the answer with the one that is good now. */
export async function refused(locationId, generation) {
  return keep(locationId, askKeeper(`/v1/locations/${locationId}/token/refused`, { generation }));
}

async function keep(locationId, asking) {
  // While it is being asked for, others wait for the same answer.
  kept.set(locationId, { answer: asking, goodUntil: Date.now() + 1000 });
  try {
    const answer = await asking;
    kept.set(locationId, { answer, goodUntil: Date.now() + answer.expires_in * 1000 - marginMs });
    return answer;
  } catch (error) {
    kept.delete(locationId);
    throw error;
  }
}

/** Reads `path` from HighLevel; a 401 is told to the service, and cured once. */
export async function get(locationId, path) {
  let answer = await token(locationId);
  for (let attempt = 0; ; attempt += 1) {
    const reply = await fetch(highlevel + path, {
      headers: { authorization: `Bearer ${answer.access_token}`, version: "2021-07-28" },
    });
    if (reply.status !== 401 || attempt === 1) return reply;
    answer = await refused(locationId, answer.generation);
  }
}

if (import.meta.url === `file://${process.argv[1]}`) {
  const location = process.env.GHL_LOCATION_ID;
  const reply = await get(location, `/locations/${location}`);
  console.log(`HighLevel answered ${reply.status}`);
  process.exitCode = reply.ok ? 0 : 1;
}
