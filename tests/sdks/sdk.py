"""HighLevel's own SDK for Python, as it is published, with its calls sent through the gateway: contacts, tags,
locations, and every page of 250 contacts, while access tokens are revoked under it.

  python sdk.py GATEWAY KEY LOCATION COMPANY SANDBOX CLOCK

CLOCK is the file by which the service's clock is moved ahead: +SECONDS.
"""

import asyncio
import json
import sys
import urllib.request
from datetime import datetime
from pathlib import Path

from highlevel import HighLevel

gateway, key, location_id, company_id, sandbox, clock = sys.argv[1:]
EVERYONE = 250


class ThroughGateway(HighLevel):
    """The constructor takes no address: it reads this constant of its class."""

    BASE_URL = gateway


def ask(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(f"{sandbox}/_sandbox/{path}", data) as answer:
        return json.load(answer)


def equal(found, expected, what=""):
    if found != expected:
        raise AssertionError(f"{what}: {found!r} instead of {expected!r}")


def each_once(ids, how):
    equal((len(ids), len(set(ids))), (EVERYONE, EVERYONE), how)


async def in_turns(items, act):
    for at in range(0, len(items), 25):
        await asyncio.gather(*(act(item) for item in items[at : at + 25]))


async def story():
    ghl = ThroughGateway(private_integration_token=key)
    contacts, locations = ghl.contacts, ghl.locations
    refreshes = ask("counts")["refreshes"]
    revoked = 0

    def revoke():
        nonlocal revoked
        # A service that was refused a moment ago believes it; so it becomes two minutes later first.
        later = Path(f"{clock}.next")
        later.write_text(f"+{int(Path(clock).read_text()) + 120}")
        later.rename(clock)
        ask("revoke_access", {"location_id": location_id})
        revoked += 1

    # One contact, all the way.
    ana = {"locationId": location_id, "firstName": "Ana", "lastName": "Souza", "email": "ana@sdk.example"}
    contact_id = (await contacts.create_contact(ana))["contact"]["id"]
    revoke()
    equal((await contacts.get_contact(contact_id))["contact"]["email"], "ana@sdk.example")
    await contacts.update_contact(contact_id, {"lastName": "Lima"})
    equal((await contacts.get_contact(contact_id))["contact"]["lastName"], "Lima")
    again = await contacts.upsert_contact({**ana, "firstName": "Ana Clara"})
    equal((again["new"], again["contact"]["id"]), (False, contact_id))
    rui = {"locationId": location_id, "email": "rui@sdk.example", "firstName": "Rui"}
    fresh = await contacts.upsert_contact(rui)
    equal(fresh["new"], True)
    wanted = {"locationId": location_id, "page": 1, "pageLimit": 20, "query": "ana@sdk"}
    found = await contacts.search_contacts_advanced(wanted)
    equal([contact["id"] for contact in found["contacts"]], [contact_id])

    # Tags: a POST, and a DELETE with a body. The token that is revoked before is refreshed for a POST.
    revoke()
    equal((await contacts.add_tags(contact_id, {"tags": ["one", "two"]}))["tags"], ["one", "two"])
    equal((await contacts.remove_tags(contact_id, {"tags": ["one"]}))["tags"], ["two"])

    # The location, and tags of its own.
    equal((await locations.get_location(location_id))["location"]["id"], location_id)
    of_location = {"headers": {"x-location-id": location_id}}
    visible = await locations.search_locations(company_id=company_id, limit="10", options=of_location)
    equal([location["id"] for location in visible["locations"]], [location_id])
    tag = (await locations.create_tag(location_id, {"name": "Customer"}))["tag"]
    tags = (await locations.get_location_tags(location_id))["tags"]
    equal(tag["id"] in [tag["id"] for tag in tags], True)
    await locations.delete_tag(location_id, tag["id"])

    # As many contacts as make 250, many at once; a token is revoked while they are on their way.
    made = [contact_id, fresh["contact"]["id"]]

    async def make(number):
        if number == 110:
            await asyncio.to_thread(revoke)
        sent = {"locationId": location_id, "firstName": f"N{number}", "email": f"n{number}@sdk.example"}
        made.append((await contacts.create_contact(sent))["contact"]["id"])

    await in_turns(list(range(EVERYONE - 1 - len(made))), make)

    paged, page = [], 1
    while found := (
        await contacts.search_contacts_advanced({"locationId": location_id, "page": page, "pageLimit": 60})
    )["contacts"]:
        paged += [contact["id"] for contact in found]
        page += 1
        if page == 3:
            revoke()
    each_once(paged, "page")
    followed, after = [], {}
    while found := (
        await contacts.search_contacts_advanced({"locationId": location_id, "pageLimit": 100, **after})
    )["contacts"]:
        followed += [contact["id"] for contact in found]
        added_at = datetime.fromisoformat(found[-1]["dateAdded"].replace("Z", "+00:00"))
        after = {"searchAfter": [round(added_at.timestamp() * 1000), found[-1]["id"]]}
    each_once(followed, "searchAfter")

    await in_turns(made, contacts.delete_contact)
    left = await contacts.search_contacts_advanced({"locationId": location_id, "page": 1, "pageLimit": 20})
    equal(left["total"], 1)

    equal(ask("counts")["refreshes"] - refreshes, revoked, "refreshes, one for each token that was revoked")
    print(
        f"Python: {EVERYONE} contacts once each; {revoked} access tokens revoked, as many refreshes, nothing failed"
    )


asyncio.run(story())
