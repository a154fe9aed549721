"""Terraform's provider, replayed: how it asks, waits and compares. As read in terraform-provider-oci 8.28.0."""

import oci
import requests

from region import wait_until

BASE = "/20160918"
AGENT = "Terraform/1.9 (contract of terraform-provider-oci/8.28.0)"


class Provider:
    def __init__(self, region):
        config = oci.config.from_file(region.environment["OCI_CONFIG_FILE"])
        signed = (config[part] for part in ("tenancy", "user", "fingerprint", "key_file"))
        self.url, self.session = region.url + BASE, requests.Session()
        self.session.auth = oci.signer.Signer(*signed)
        self.session.verify, self.session.trust_env = str(region.authority), False
        self.session.headers["user-agent"] = AGENT

    def ask(self, method, path, body=None, **query):
        return self.session.request(method, f"{self.url}/{path}", json=body, params=query, timeout=60)

    def get(self, path, **query):
        answer = self.ask("GET", path, **query)
        assert answer.status_code == 200, f"{path}: {answer.text}"
        return answer.json()

    def all(self, path, **query):
        """A list as data sources read it: page by page."""
        found, page = [], {}
        while page is not None:
            answer = self.ask("GET", path, **query, **page, limit=1)
            assert answer.status_code == 200, f"{path}: {answer.text}"
            found += answer.json()
            token = answer.headers.get("opc-next-page")
            page = token and {"page": token}
        return found

    def await_state(self, path, pending, target):
        def arrived():
            found = self.get(path)
            assert found["lifecycleState"] in (*pending, target), f"unexpected state: {found}"
            return found["lifecycleState"] == target and found
        return wait_until(arrived, f"{path} is {target}", seconds=300, interval=0.2)

    def await_end(self, path, pending, target):
        def ended():
            answer = self.ask("GET", path)
            if answer.status_code == 404:
                return True
            state = answer.json()["lifecycleState"]
            assert state in (*pending, target), f"unexpected state: {state}"
            return state == target
        wait_until(ended, f"{path} has ended", seconds=300, interval=0.2)

    def follow(self, answer, entity, action):
        """The identifier that a work request names; the provider fails without one."""
        request = f"workRequests/{answer.headers['opc-work-request-id'].split(',')[0]}"

        def finished():
            found = self.get(request)
            return found["status"] in ("SUCCEEDED", "FAILED", "CANCELED") and found["timeFinished"] and found

        done = wait_until(finished, f"{request} is over", seconds=300, interval=0.2)
        assert done["status"] == "SUCCEEDED", self.get(f"{request}/errors")
        return next(one["identifier"] for one in done["resources"]
                    if entity in one["entityType"].lower() and one["actionType"] == action)


def filled(value, words):
    if isinstance(value, dict):
        return {name: filled(one, words) for name, one in value.items()}
    if isinstance(value, list):
        return [filled(one, words) for one in value]
    return value.format(**words) if isinstance(value, str) else value


def differences(sent, read):
    """The attributes of a configuration that a plan would want to change."""
    def differs(wanted, found):
        if isinstance(wanted, dict) and isinstance(found, dict):
            return any(differs(value, found.get(name)) for name, value in wanted.items())
        if isinstance(wanted, list) and isinstance(found, list):
            return len(wanted) != len(found) or any(map(differs, wanted, found))
        return wanted != found
    return {name: (value, read.get(name)) for name, value in sent.items() if differs(value, read.get(name))}
