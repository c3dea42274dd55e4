"""HighLevel's own SDK for Python, as it is published, through the gateway: contacts, tags, locations, pages.

    python sdk.py BASE KEY LOCATION SANDBOX      SANDBOX: whose access tokens are revoked in the middle

The SDK has no option for a base URL, but gives its HTTP client, whose address can be set; where it takes a private
integration's token, it is given a key of ghl-auth.
"""

import asyncio
import json
import sys
import urllib.request
from datetime import datetime

from highlevel import HighLevel
from highlevel.error import GHLError

base, key, location_id, sandbox = (sys.argv[1:] + [""])[:4]
ghl = HighLevel(private_integration_token=key)
ghl.get_http_client().base_url = base

PEOPLE = 250


def revoke():
    if not sandbox:
        return
    body = json.dumps({"location_id": location_id}).encode()
    with urllib.request.urlopen(f"{sandbox}/_sandbox/revoke_access", data=body) as answer:
        assert answer.status == 200


def millis(iso):
    return round(datetime.fromisoformat(iso.replace("Z", "+00:00")).timestamp() * 1000)


async def one_contact():
    email = "ana.python@example.org"
    made = await ghl.contacts.create_contact({"locationId": location_id, "firstName": "Ana", "email": email})
    contact_id = made["contact"]["id"]
    assert (await ghl.contacts.get_contact(contact_id))["contact"]["email"] == email
    revoke()  # the next call has a body, and is sent again with the new token
    updated = await ghl.contacts.update_contact(contact_id, {"lastName": "Souza"})
    assert updated["succeeded"] and updated["contact"]["lastName"] == "Souza"
    upserted = await ghl.contacts.upsert_contact({"locationId": location_id, "email": email, "city": "São Paulo"})
    assert (upserted["new"], upserted["contact"]["id"]) == (False, contact_id)
    assert upserted["contact"]["city"] == "São Paulo"
    duplicate = await ghl.contacts.get_duplicate_contact(location_id, email=email)
    assert duplicate["contact"]["id"] == contact_id

    added = await ghl.contacts.add_tags(contact_id, {"tags": ["vip", "novo"]})
    assert added["tags"] == ["vip", "novo"]
    revoke()  # and so is a DELETE with a body
    left = await ghl.contacts.remove_tags(contact_id, {"tags": ["novo"]})
    assert left["tags"] == ["vip"]

    assert (await ghl.contacts.delete_contact(contact_id))["succeeded"]
    try:
        await ghl.contacts.get_contact(contact_id)
    except GHLError as error:
        assert error.status_code == 400, error
    else:
        raise AssertionError("a contact that was deleted is read")


async def one_location():
    location = (await ghl.locations.get_location(location_id))["location"]
    assert location["id"] == location_id
    found = await ghl.locations.search_locations(company_id=location["companyId"], limit="10")
    assert [one["id"] for one in found["locations"]] == [location_id]
    tag = (await ghl.locations.create_tag(location_id, {"name": "from python"}))["tag"]
    revoke()
    tags = (await ghl.locations.get_location_tags(location_id))["tags"]
    assert any((one["id"], one["name"]) == (tag["id"], "from python") for one in tags)
    renamed = await ghl.locations.update_tag(location_id, tag["id"], {"name": "of python"})
    assert renamed["tag"]["name"] == "of python"
    await ghl.locations.delete_tag(location_id, tag["id"])


async def make(number):
    sent = {"locationId": location_id, "firstName": "Page", "email": f"python-{number}@example.org"}
    return (await ghl.contacts.create_contact(sent))["contact"]["id"]


async def search(**more):
    sent = {"locationId": location_id, "query": "python-", "pageLimit": 40, **more}
    return await ghl.contacts.search_contacts_advanced(sent)


async def every_contact():
    made = []
    for first in range(0, PEOPLE, 25):
        if first == 100:
            revoke()  # 25 calls at once meet it, and one refresh serves them all
        made += await asyncio.gather(*(make(number) for number in range(first, first + 25)))

    numbered, page = [], 1
    while contacts := (found := await search(page=page))["contacts"]:
        assert found["total"] == PEOPLE
        numbered += [contact["id"] for contact in contacts]
        page += 1
        if page == 3:
            revoke()
    assert sorted(numbered) == sorted(made)

    followed, after = [], {}
    while contacts := (await search(**after))["contacts"]:
        followed += [contact["id"] for contact in contacts]
        after = {"searchAfter": [millis(contacts[-1]["dateAdded"]), contacts[-1]["id"]]}
    assert sorted(followed) == sorted(made)


async def main():
    await one_contact()
    await one_location()
    await every_contact()
    await ghl.get_http_client().aclose()
    print("every call of the Python SDK succeeded")


asyncio.run(main())
