// A session storage for HighLevel's official Node SDK (@gohighlevel/api-client) that keeps no session:
// it asks the service (`ghl-auth serve`) for access tokens. The service refreshes; no refresh token comes
// here, so the SDK has nothing to refresh with and never tries. For CommonJS and ES modules.

const { SessionStorage } = require("@gohighlevel/api-client");

// A token that would end within this time is asked for anew.
const MARGIN_MS = 60_000;

class KeeperSessionStorage extends SessionStorage {
  #url;
  #apiKey;
  /** By id: what is being asked for or was answered, and until when it is good. */
  #kept = new Map();
  /** By access token: whose it is and which, for when HighLevel refuses it. */
  #issued = new Map();
  /** By id: the question that is on its way after a 401. */
  #refusing = new Map();
  /** By id: `locations` or `companies`; the SDK does not say which an id is of. */
  #kinds = new Map();

  /** @param {{ url?: string, apiKey: string }} keeper The service, and a key of `ghl-auth keys create`. */
  constructor({ url = "http://127.0.0.1:8787", apiKey }) {
    super();
    this.#url = url;
    this.#apiKey = apiKey;
  }

  /** Lets a 401 be told to the service, and the call be made once more with the token that is good then. */
  cure(ghl) {
    ghl.addResponseInterceptor({
      onFulfilled: (answer) => answer,
      onRejected: async (error) => {
        const call = error.request;
        const used = error.statusCode === 401 && this.#issued.get(tokenOf(call));
        if (!used || call.triedAgain) throw error;
        const good = await this.#refused(used).catch((trouble) => {
          this.logger.warn(trouble.message);
          throw error;
        });
        // A stream that was sent is used up: who called has to make the call again.
        if (typeof call.data?.pipe === "function") throw error;
        const headers = { ...call.headers, Authorization: `Bearer ${good.access_token}` };
        return ghl.request({ ...call, headers, triedAgain: true });
      },
    });
  }

  // What the SDK asks.

  async getSession(id) {
    const token = await this.#token(id);
    // Neither `refresh_token` nor `expire_at`: the SDK is not to refresh by itself.
    return {
      access_token: token.access_token,
      token_type: token.token_type,
      scope: token.scope,
      userType: token.user_type,
      locationId: token.location_id ?? undefined,
      companyId: token.company_id ?? undefined,
    };
  }

  async getAccessToken(id) {
    return (await this.#token(id)).access_token;
  }

  async getRefreshToken() {
    return null;
  }

  async setSession(id) {
    throw new Error(`ghl-auth keeps the sessions: authorise ${id} there (\`ghl-auth login\` or /oauth/start)`);
  }

  async deleteSession(id) {
    this.#kept.delete(id);
  }

  // What it does for storages of another kind.

  setClientId() {}
  async init() {}
  async disconnect() {
    this.#kept.clear();
  }
  async createCollection() {}
  async getCollection() {}

  // How the service is asked.

  /** The answer with the token, asked for once however many wait for it. */
  #token(id) {
    const known = this.#kept.get(id);
    if (known && Date.now() < known.goodUntil) return known.answer;
    const asking = this.#ask(id, "token").then((answer) => this.#keep(id, answer));
    this.#kept.set(id, { answer: asking, goodUntil: Infinity });
    asking.catch(() => this.#kept.delete(id));
    return asking;
  }

  /** HighLevel refused this token: the answer with the one that is good now, asked for once. */
  #refused({ id, generation }) {
    const newer = this.#kept.get(id);
    if (newer?.generation > generation && Date.now() < newer.goodUntil) return newer.answer;
    const onItsWay = this.#refusing.get(id);
    if (onItsWay) return onItsWay;
    // The kept token stays meanwhile: a 401 can be about what one call may not do.
    const asking = this.#ask(id, "token/refused", { generation }).then((answer) => this.#keep(id, answer));
    this.#refusing.set(id, asking);
    const over = () => this.#refusing.delete(id);
    asking.then(over, over);
    return asking;
  }

  #keep(id, answer) {
    const { access_token, expires_in, generation } = answer;
    const endsAt = Date.now() + expires_in * 1000;
    this.#kept.set(id, { answer: Promise.resolve(answer), goodUntil: endsAt - MARGIN_MS, generation });
    for (const [token, { endsAt }] of this.#issued) if (endsAt < Date.now()) this.#issued.delete(token);
    this.#issued.set(access_token, { id, generation, endsAt });
    return answer;
  }

  /** Asks about a location, and about a company when it is none. */
  async #ask(id, what, body) {
    const kinds = this.#kinds.has(id) ? [this.#kinds.get(id)] : ["locations", "companies"];
    let problem;
    for (const kind of kinds) {
      const answer = await fetch(`${this.#url}/v1/${kind}/${encodeURIComponent(id)}/${what}`, {
        method: body ? "POST" : "GET",
        headers: { authorization: `Bearer ${this.#apiKey}`, "content-type": "application/json" },
        body: body && JSON.stringify(body),
        // A refresh takes at most half of this.
        signal: AbortSignal.timeout(60_000),
      });
      const document = await answer.json();
      if (answer.ok) {
        this.#kinds.set(id, kind);
        return document;
      }
      // Unknown, or out of the key's reach: what was said of it as a location is what counts at the end.
      const unknown = answer.status === 404 || answer.status === 403;
      if (!problem || !unknown) problem = document;
      if (!unknown) break;
    }
    throw new Error(`ghl-auth: ${problem.code}: ${problem.detail} ${problem.action}`);
  }
}

/** The token that a call was made with. */
function tokenOf(call) {
  return String(call?.headers?.Authorization ?? "").replace(/^Bearer /, "");
}

exports.KeeperSessionStorage = KeeperSessionStorage;
