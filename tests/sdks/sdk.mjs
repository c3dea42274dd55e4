// HighLevel's own SDK for Node, as it is published, with its calls sent through the gateway: contacts, tags,
// locations, and every page of 250 contacts, while access tokens are revoked under it.
//
//   node sdk.mjs GATEWAY KEY LOCATION COMPANY SANDBOX CLOCK
//
// CLOCK is the file by which the service's clock is moved ahead: +SECONDS.

import assert from 'node:assert/strict';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import sdk from '@gohighlevel/api-client';

const [gateway, key, locationId, companyId, sandbox, clock] = process.argv.slice(2);
const everyone = 250;

const ghl = new sdk.HighLevel({ privateIntegrationToken: key });
// The constructor takes no address; its README names this way to what sends the requests.
ghl.getHttpClient().defaults.baseURL = gateway;
const { contacts, locations } = ghl;

const ask = async (path, body) => {
    const method = body === undefined ? 'GET' : 'POST';
    const answer = await fetch(`${sandbox}/_sandbox/${path}`, { method, body: body && JSON.stringify(body) });
    assert.equal(answer.status, 200, path);
    return answer.json();
};
const { refreshes } = await ask('counts');
let revoked = 0;
// A service that was refused a moment ago believes it; so it becomes two minutes later first.
const revoke = async () => {
    writeFileSync(`${clock}.next`, `+${Number(readFileSync(clock)) + 120}`);
    renameSync(`${clock}.next`, clock);
    await ask('revoke_access', { location_id: locationId });
    revoked += 1;
};

const inTurns = async (items, act) => {
    for (let at = 0; at < items.length; at += 25) {
        await Promise.all(items.slice(at, at + 25).map(act));
    }
};

// One contact, all the way.
const { contact } = await contacts.createContact({
    locationId, firstName: 'Ana', lastName: 'Souza', email: 'ana@sdk.example', phone: '+5511955507000',
});
assert.equal(contact.firstName, 'Ana');
await revoke();
assert.equal((await contacts.getContact({ contactId: contact.id })).contact.email, 'ana@sdk.example');
await contacts.updateContact({ contactId: contact.id }, { lastName: 'Lima' });
assert.equal((await contacts.getContact({ contactId: contact.id })).contact.lastName, 'Lima');
const again = await contacts.upsertContact({ locationId, email: 'ana@sdk.example', firstName: 'Ana Clara' });
assert.deepEqual([again.new, again.contact.id], [false, contact.id]);
const fresh = await contacts.upsertContact({ locationId, email: 'rui@sdk.example', firstName: 'Rui' });
assert.equal(fresh.new, true);
const found = await contacts.searchContactsAdvanced({ locationId, page: 1, pageLimit: 20, query: 'ana@sdk' });
assert.deepEqual(found.contacts.map(({ id }) => id), [contact.id]);

// Tags: a POST, and a DELETE with a body. The token that is revoked in between is refreshed for a POST.
await revoke();
assert.deepEqual((await contacts.addTags({ contactId: contact.id }, { tags: ['one', 'two'] })).tags, ['one', 'two']);
assert.deepEqual((await contacts.removeTags({ contactId: contact.id }, { tags: ['one'] })).tags, ['two']);

// The location, and tags of its own.
assert.equal((await locations.getLocation({ locationId })).location.id, locationId);
const visible = await locations.searchLocations({ companyId, limit: '10' }, { headers: { 'x-location-id': locationId } });
assert.deepEqual(visible.locations.map(({ id }) => id), [locationId]);
const { tag } = await locations.createTag({ locationId }, { name: 'Customer' });
assert.ok((await locations.getLocationTags({ locationId })).tags.some(({ id }) => id === tag.id));
await locations.deleteTag({ locationId, tagId: tag.id });

// As many contacts as make 250, many at once; a token is revoked while they are on their way.
const made = [contact.id, fresh.contact.id];
const numbers = [...Array(everyone - 1 - made.length).keys()];
await inTurns(numbers, async (number) => {
    if (number === 110) await revoke();
    const { contact } = await contacts.createContact({ locationId, firstName: `N${number}`, email: `n${number}@sdk.example` });
    made.push(contact.id);
});

const eachOnce = (ids, how) => {
    assert.equal(ids.length, everyone, how);
    assert.equal(new Set(ids).size, everyone, how);
};
const listed = [];
for (let last; ;) {
    const after = last && { startAfterId: last.id, startAfter: Date.parse(last.dateAdded) };
    const page = (await contacts.getContacts({ locationId, limit: 100, ...after })).contacts;
    if (page.length === 0) break;
    listed.push(...page.map(({ id }) => id));
    last = page.at(-1);
    if (listed.length === 100) await revoke();
}
eachOnce(listed, 'startAfterId');
const searched = [];
for (let page = 1; ; page += 1) {
    const found = (await contacts.searchContactsAdvanced({ locationId, page, pageLimit: 60 })).contacts;
    if (found.length === 0) break;
    searched.push(...found.map(({ id }) => id));
}
eachOnce(searched, 'page');

await inTurns(made, (contactId) => contacts.deleteContact({ contactId }));
assert.equal((await contacts.searchContactsAdvanced({ locationId, page: 1, pageLimit: 20 })).total, 1);

const after = await ask('counts');
assert.equal(after.refreshes - refreshes, revoked, 'one refresh for each token that was revoked');
console.log(`Node: ${everyone} contacts once each; ${revoked} access tokens revoked, as many refreshes, nothing failed`);
