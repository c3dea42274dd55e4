"""A token from the service, kept until shortly before its end. Standard library only."""

import json
import os
import time
import urllib.error
import urllib.request

KEEPER = os.environ.get("GHL_AUTH_URL", "http://127.0.0.1:8787")
HIGHLEVEL = os.environ.get("GHL_API_BASE_URL", "https://services.leadconnectorhq.com")
# A token that would end within this many seconds is asked for anew.
MARGIN = 60

_kept = {}


def _ask_keeper(path, body=None):
    request = urllib.request.Request(
        KEEPER + path,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {os.environ['GHL_AUTH_API_KEY']}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=45) as answer:
        return json.load(answer)


def _keep(location_id, answer):
    _kept[location_id] = (answer, time.monotonic() + answer["expires_in"] - MARGIN)
    return answer


def token(location_id):
    """The answer of the service: `access_token`, `generation` and the rest."""
    answer, good_until = _kept.get(location_id, (None, 0))
    if answer is not None and time.monotonic() < good_until:
        return answer
    return _keep(location_id, _ask_keeper(f"/v1/locations/{location_id}/token"))


def refused(location_id, generation):
    """HighLevel refused the token of this generation: the answer with the one that is good now."""
    body = {"generation": generation}
    return _keep(location_id, _ask_keeper(f"/v1/locations/{location_id}/token/refused", body))


def get(location_id, path):
    """Reads `path` from HighLevel; a 401 is told to the service, and cured once."""
    answer = token(location_id)
    for attempt in range(2):
        request = urllib.request.Request(
            HIGHLEVEL + path,
            headers={"Authorization": f"Bearer {answer['access_token']}", "Version": "2021-07-28"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            if error.code != 401 or attempt == 1:
                raise
            answer = refused(location_id, answer["generation"])


if __name__ == "__main__":
    location = os.environ["GHL_LOCATION_ID"]
    get(location, f"/locations/{location}")
    print("HighLevel answered 200")
