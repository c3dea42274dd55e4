// HighLevel's own SDK for Node, as it is published, through the gateway: contacts, tags, locations, pages.
//
//   node sdk.mjs BASE KEY LOCATION SANDBOX      SANDBOX: whose access tokens are revoked in the middle
//
// The SDK has no option for a base URL. Its README shows how to add an interceptor of one's own, so that is the way in;
// where it takes a private integration's token, it is given a key of ghl-auth.
import assert from 'node:assert/strict'
import { HighLevel } from '@gohighlevel/api-client'

const [base, key, locationId, sandbox] = process.argv.slice(2)
const ghl = new HighLevel({ privateIntegrationToken: key })
ghl.addRequestInterceptor({ onFulfilled: config => ({ ...config, baseURL: base }) })

const PEOPLE = 250
const byId = (a, b) => (a.id < b.id ? -1 : 1)

async function revoke () {
  if (!sandbox) return
  const body = JSON.stringify({ location_id: locationId })
  const answer = await fetch(`${sandbox}/_sandbox/revoke_access`, { method: 'POST', body })
  assert.equal(answer.status, 200)
}

async function oneContact () {
  const email = 'ana.node@example.org'
  const { contact: made } = await ghl.contacts.createContact({ locationId, firstName: 'Ana', email })
  const contactId = made.id
  const { contact: read } = await ghl.contacts.getContact({ contactId })
  assert.equal(read.email, email)
  await revoke() // the next call has a body, and is sent again with the new token
  const updated = await ghl.contacts.updateContact({ contactId }, { lastName: 'Souza' })
  assert.deepEqual([updated.succeeded ?? updated.succeded, updated.contact.lastName], [true, 'Souza'])
  const upserted = await ghl.contacts.upsertContact({ locationId, email, city: 'São Paulo' })
  assert.deepEqual([upserted.new, upserted.contact.id, upserted.contact.city], [false, contactId, 'São Paulo'])
  const duplicate = await ghl.contacts.getDuplicateContact({ locationId, email })
  assert.equal(duplicate.contact.id, contactId)

  const added = await ghl.contacts.addTags({ contactId }, { tags: ['vip', 'novo'] })
  assert.deepEqual(added.tags, ['vip', 'novo'])
  await revoke() // and so is a DELETE with a body
  const left = await ghl.contacts.removeTags({ contactId }, { tags: ['novo'] })
  assert.deepEqual(left.tags, ['vip'])

  const deleted = await ghl.contacts.deleteContact({ contactId })
  assert.equal(deleted.succeeded ?? deleted.succeded, true)
  await assert.rejects(ghl.contacts.getContact({ contactId }), error => error.statusCode === 400)
}

async function oneLocation () {
  const { location } = await ghl.locations.getLocation({ locationId })
  assert.equal(location.id, locationId)
  const { locations } = await ghl.locations.searchLocations({ companyId: location.companyId, limit: '10' })
  assert.deepEqual(locations.map(found => found.id), [locationId])
  const { tag } = await ghl.locations.createTag({ locationId }, { name: 'from node' })
  await revoke()
  const { tags } = await ghl.locations.getLocationTags({ locationId })
  assert.ok(tags.some(other => other.id === tag.id && other.name === 'from node'))
  const renamed = await ghl.locations.updateTag({ locationId, tagId: tag.id }, { name: 'of node' })
  assert.equal(renamed.tag.name, 'of node')
  await ghl.locations.deleteTag({ locationId, tagId: tag.id })
}

async function everyContact () {
  const made = []
  for (let first = 0; first < PEOPLE; first += 25) {
    if (first === 100) await revoke() // 25 calls at once meet it, and one refresh serves them all
    made.push(...await Promise.all(Array.from({ length: 25 }, async (_, index) => {
      const email = `node-${first + index}@example.org`
      return (await ghl.contacts.createContact({ locationId, firstName: 'Page', email })).contact
    })))
  }
  const search = body => ghl.contacts.searchContactsAdvanced({ locationId, query: 'node-', pageLimit: 40, ...body })

  const numbered = []
  for (let page = 1; ; page++) {
    const { contacts, total } = await search({ page })
    assert.equal(total, PEOPLE)
    if (contacts.length === 0) break
    numbered.push(...contacts)
    if (page === 3) await revoke()
  }
  assert.deepEqual(numbered.map(found => found.id).sort(), made.map(contact => contact.id).sort())

  const followed = []
  for (let searchAfter; ;) {
    const { contacts } = await search({ searchAfter })
    if (contacts.length === 0) break
    followed.push(...contacts)
    searchAfter = [Date.parse(contacts.at(-1).dateAdded), contacts.at(-1).id]
  }
  assert.deepEqual(followed.sort(byId), numbered.sort(byId))

  const listed = []
  for (let after = {}; ;) {
    const { contacts } = await ghl.contacts.getContacts({ locationId, limit: 100, ...after })
    if (contacts.length === 0) break
    listed.push(...contacts)
    after = { startAfter: Date.parse(contacts.at(-1).dateAdded), startAfterId: contacts.at(-1).id }
  }
  assert.equal(new Set(listed.map(contact => contact.id)).size, listed.length)
  const ours = listed.filter(contact => contact.email.startsWith('node-'))
  assert.deepEqual(ours.map(contact => contact.id).sort(), made.map(contact => contact.id).sort())
}

await oneContact()
await oneLocation()
await everyContact()
console.log('every call of the Node SDK succeeded')
