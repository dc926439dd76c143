"""A plain client of the simulators, written without the pipeline's own: what the tests of them are written in."""

import base64

import httpx

from leadscrub_pipeline.simulators.contacts import Match, contact_of
from leadscrub_pipeline.simulators.persons import person_at
from leadscrub_pipeline.simulators.phones import CONTROL_NUMBERS, is_litigator

ALL_FIELDS = ["name", "phone", "email", "address", "isDead"]
PERSON = next(person_at(i, seed=1) for i in range(100) if contact_of(person_at(i, seed=1), seed=1).match is Match.ONE)

PHONES = [f"212555{line:04d}" for line in range(100, 190)]
LITIGATORS = {phone for phone in PHONES if is_litigator(phone, seed=1)}
BATCH = [*PHONES, CONTROL_NUMBERS[0]]


class Caller:
    def __init__(self, environment, *, timeout=2.0):
        self.env = environment
        self.http = httpx.Client(
            timeout=timeout, trust_env=False, limits=httpx.Limits(max_connections=100, max_keepalive_connections=100)
        )
        self.token = ""
        self.sent = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.http.close()

    def sign_in(self, *, secret=None, body=None):
        user, word = self.env["IDICORE_CLIENT_ID"], secret or self.env["IDICORE_CLIENT_SECRET"]
        basic = base64.b64encode(f"{user}:{word}".encode()).decode()
        answer = self.http.post(
            self.env["IDICORE_AUTH_URL"],
            headers={"Authorization": f"Basic {basic}"},
            json={"glba": "otheruse", "dppa": "none"} if body is None else body,
        )
        if answer.status_code == 200:
            self.token = answer.text
        return answer

    def search(self, person=PERSON, *, reference=None, token=None, **changes):
        self.sent += 1
        return self.http.post(
            self.env["IDICORE_SEARCH_URL"],
            headers={"Authorization": self.token if token is None else token},
            json=search_body(person, reference or f"r{self.sent}", **changes),
        )

    def scrub(self, phones, *, login=None, query="", **changes):
        return self.http.post(
            self.env["CCC_API_URL"] + query,
            headers={"loginId": self.env["CCC_API_KEY"] if login is None else login},
            json={"PhoneList": ",".join(phones), "OutputFormat": "JsonArray", **changes},
        )

    def publish(self, message, *, token=None):
        bearer = token or self.env["NTFY_TOKEN"]
        return self.http.post(self.env["NTFY_BASE_URL"], headers={"Authorization": f"Bearer {bearer}"}, json=message)


def search_body(person, reference, **changes):
    body = dict(zip(("firstName", "lastName", "address", "city", "state", "zip"), person, strict=True))
    return {**body, "referenceId": reference, "fields": ALL_FIELDS, **changes}
