"""A service with one location whose token needs no OAuth, for the benchmarks of the gateway."""

import datetime
import json
import random
import string

from measure import HOST, Service, free_port, run

LOCATION = "AbCdEfGhIjKlMnOpQrSt"
KEY = "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k="
TOKEN = "".join(random.Random(5).choices(string.ascii_letters + string.digits + "-_", k=5000))


class House:
    """The service in a folder of its own, in front of a HighLevel."""

    def __init__(self, binary, folder, base_url, **more):
        folder.mkdir()
        self.binary, self.folder, self.port = binary, folder, free_port()
        lines = {
            "GHL_CLIENT_ID": "0123456789abcdef01234567-abcd1234", "GHL_CLIENT_SECRET": "00000000-0000-4000-8000-000000000000",
            "GHL_REDIRECT_URI": "http://127.0.0.1:8788/oauth/callback", "GHL_LOCATION_ID": LOCATION,
            "GHL_API_BASE_URL": base_url, "GHL_STORE": "sqlite:tokens.db", "GHL_AUTH_KEY": KEY,
            "GHL_AUTH_LISTEN": f"{HOST}:{self.port}", "GHL_AUTH_LOG": "warn", **more,
        }
        (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        ends = (datetime.datetime.now() + datetime.timedelta(hours=23)).isoformat()
        grant = {
            "access_token": TOKEN, "token_type": "Bearer", "expires_in": 86399, "refresh_token": "r" * 60,
            "scope": "locations.readonly contacts.readonly", "userType": "Location", "companyId": "company",
            "userId": "user", "locationId": LOCATION, "expiry_timestamp": ends,
        }
        (folder / "grant.json").write_text(json.dumps(grant))
        for name in (".env", "grant.json"):
            (folder / name).chmod(0o600)
        run([binary, "import", "grant.json"], cwd=folder)
        self.key = run([binary, "keys", "create", "--name", "bench", "--all", "--verb", "gateway"], cwd=folder).split()[-1]

    def open(self, before=()):
        service = Service(self.binary, self.folder, self.port, before)
        self.process, self.url = service.process, service.url
        return self

    @property
    def headers(self):
        return [f"Authorization: Bearer {self.key}", f"X-Location-Id: {LOCATION}"]

    @property
    def pid(self):
        return self.process.pid
