// An authorisation server that forgives nothing: each refresh token works once, and whoever shows one a
// second time loses the grant. It knows one app and one person who has agreed.
//
//   node judge.mjs        prints one line of JSON: its address, and the code that the person's agreement gave
//
// What it has seen: GET /seen. It ends when its standard input does.
import Provider from 'oidc-provider'

const CLIENT = {
  client_id: 'judged-app',
  client_secret: 'a-secret-between-the-app-and-its-judge',
  redirect_uris: ['http://127.0.0.1:8788/oauth/callback'],
  grant_types: ['authorization_code', 'refresh_token'],
  response_types: ['code'],
  token_endpoint_auth_method: 'client_secret_post'
}
const SCOPE = 'openid offline_access'
const YEAR = 365 * 24 * 60 * 60

// Everything that was ever issued; the package's own storage would forget the oldest.
const kept = new Map()
class Memory {
  constructor (kind) { this.kind = kind }
  key (id) { return `${this.kind}:${id}` }
  async upsert (id, payload) { kept.set(this.key(id), payload) }
  async find (id) { return kept.get(this.key(id)) }
  async findByUid () {}
  async findByUserCode () {}
  async consume (id) { kept.get(this.key(id)).consumed = Math.floor(Date.now() / 1000) }
  async destroy (id) { kept.delete(this.key(id)) }
  async revokeByGrantId (grant) {
    for (const [key, payload] of kept) if (payload.grantId === grant) kept.delete(key)
  }
}

const provider = new Provider('http://127.0.0.1', {
  adapter: Memory,
  clients: [CLIENT],
  routes: { token: '/oauth/token' },
  pkce: { required: () => false },
  features: { devInteractions: { enabled: false }, userinfo: { enabled: false } },
  findAccount: async (_, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
  issueRefreshToken: async () => true,
  rotateRefreshToken: true,
  ttl: { AccessToken: 3600, AuthorizationCode: 600, Grant: YEAR, IdToken: 3600, RefreshToken: YEAR }
})

const seen = { rotations: 0, refused: 0, reuses: 0, revoked: 0, requests: 0 }
provider.on('grant.success', context => {
  if (context.oidc.params.grant_type === 'refresh_token') seen.rotations += 1
})
provider.on('grant.error', (_, error) => {
  seen.refused += 1
  if (error.error_detail === 'refresh token already used') seen.reuses += 1
})
provider.on('grant.revoked', () => { seen.revoked += 1 })

provider.use(async (context, next) => {
  if (context.path === '/seen') {
    context.body = seen
    return
  }
  seen.requests += 1
  await next()
  // HighLevel says in its reply whose tokens they are.
  if (context.path === '/oauth/token' && context.status === 200) {
    Object.assign(context.body, { userType: 'Location', locationId: 'JudgedLocation000001', companyId: 'JudgedCompany0000001' })
  }
})

const client = await provider.Client.find(CLIENT.client_id)
const grant = new provider.Grant({ accountId: 'person', clientId: CLIENT.client_id })
grant.addOIDCScope(SCOPE)
const code = new provider.AuthorizationCode({
  accountId: 'person',
  client,
  grantId: await grant.save(),
  gty: 'authorization_code',
  redirectUri: CLIENT.redirect_uris[0],
  scope: SCOPE
})

const server = provider.listen(0, '127.0.0.1', async () => {
  const address = `http://127.0.0.1:${server.address().port}`
  const { client_id: id, client_secret: secret, redirect_uris: [redirect] } = CLIENT
  console.log(JSON.stringify({ address, code: await code.save(), id, secret, redirect }))
})
process.stdin.resume().on('end', () => process.exit())
