#!/usr/bin/env python3
"""Deploys certificates to a shelf, for certdeploy's connector `exec`. Needs Python 3.8 and nothing else.

Settings: `url` (https), `listener`, and `ca_file` where the shelf's certificate is not signed by a public authority.
Secrets: `token`.

What is uploaded is named `certdeploy-FINGERPRINT` and labelled with the name of the target, so that it is found again after
a lost answer, and so that nothing else is ever removed.
"""

import base64
import email.utils
import http.client
import json
import socket
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

PROTOCOL = 1
BODY_LIMIT = 1 << 20


class Failure(Exception):
    """What the engine is told instead of a result."""

    def __init__(self, kind, message, retry="never", next_step=None):
        super().__init__(message)
        self.error = {"kind": kind, "message": message, "retry": retry}
        if next_step:
            self.error["next_step"] = next_step


def main():
    request = json.load(sys.stdin)
    try:
        answer = {"protocol": PROTOCOL, "result": carry_out(request)}
    except Failure as failure:
        answer = {"protocol": PROTOCOL, "error": failure.error}
    json.dump(answer, sys.stdout)


def carry_out(request):
    operation = request["operation"]
    if operation == "describe":
        capabilities = {"validate": True, "prune": True}
        return {"name": "shelf.py", "version": "1.0", "protocols": [PROTOCOL], "capabilities": capabilities}
    deployment = Deployment(request)
    steps = {
        "observe": deployment.observe,
        "validate": deployment.validate,
        "snapshot": deployment.snapshot,
        "upload": deployment.upload,
        "activate": deployment.activate,
        "restore": deployment.restore,
        "prune": deployment.prune,
    }
    if operation not in steps:
        raise Failure("plan_invalid", f"the operation {operation} is not known here")
    return steps[operation]()


class Deployment:
    """One operation on one listener."""

    def __init__(self, request):
        self.request = request
        self.target = request["target"]
        self.new = request.get("certificate")
        self.api = Api(request)
        listener = request["settings"].get("listener")
        if not isinstance(listener, str) or not listener:
            raise Failure("configuration_invalid", "`settings.listener` is missing", next_step="name the listener in `settings`")
        self.listener = "/v1/listeners/" + urllib.parse.quote(listener, safe="")

    def observe(self):
        live, revision = self.live()
        if live is None:
            return {"fingerprint": None, "revision": revision}
        found = self.certificates().get(live)
        if found is None:
            raise Failure("conflict", f"the certificate {live} went away while the shelf was looked at")
        return {"fingerprint": found["fingerprint"], "revision": revision}

    def validate(self):
        pair = {"fullchain": self.new["fullchain"], "key": self.new["key"]}
        self.api.call("POST", "/v1/check", json=pair, refusals={422: "validate_failed"})
        return {"checked": "pair"}

    def snapshot(self):
        # The shelf keeps the certificate and its key; its name is enough to go back.
        live, _ = self.live()
        return {"version": 1, "data": base64.b64encode(json.dumps({"certificate": live}).encode()).decode()}

    def upload(self):
        path = "/v1/certificates/" + self.name()
        found = self.certificates().get(self.name())
        refusals = {422: "material_rejected"}
        if found is None:
            labels = {"managed-by": "certdeploy", "target": self.target}
            self.api.call("PUT", path, json={"fullchain": self.new["fullchain"], "labels": labels}, refusals=refusals)
        elif found["fingerprint"] != self.new["fingerprint"]:
            raise Failure("plan_invalid", f"another certificate has the name {self.name()}", next_step="remove it from the shelf")
        # An upload that ended between its two requests is completed here.
        if found is None or not found["complete"]:
            self.api.call("PUT", path + "/key", text=self.new["key"], refusals=refusals)
        return {}

    def activate(self):
        revision = self.request.get("revision") or self.live()[1]
        try:
            self.switch(self.name(), revision)
        except Failure as failure:
            # An earlier try may have switched, and its answer was lost.
            if failure.error["kind"] != "conflict" or self.live()[0] != self.name():
                raise
        return {}

    def restore(self):
        before = json.loads(base64.b64decode(self.request["snapshot"]["data"]))["certificate"]
        live, revision = self.live()
        if live == before:
            return {}
        if live is not None and not self.is_ours(self.certificates().get(live)):
            raise Failure("conflict", f"somebody else has switched the listener to {live}, and that is left as it is")
        self.switch(before, revision)
        return {}

    def prune(self):
        live, _ = self.live()
        for name, certificate in self.certificates().items():
            if name != live and self.is_ours(certificate):
                # 409: another listener uses it. 404: somebody else was faster.
                self.api.call("DELETE", "/v1/certificates/" + urllib.parse.quote(name, safe=""), accepted={404, 409})
        return {}

    def name(self):
        return "certdeploy-" + self.new["fingerprint"]

    def is_ours(self, certificate):
        labels = (certificate or {}).get("labels", {})
        return labels.get("managed-by") == "certdeploy" and labels.get("target") == self.target

    def live(self):
        """The name of the live certificate, and the listener's revision."""
        headers, body = self.api.call("GET", self.listener, refusals={404: "plan_invalid"})
        return body["certificate"], headers["ETag"]

    def certificates(self):
        _, body = self.api.call("GET", "/v1/certificates")
        return {certificate["id"]: certificate for certificate in body}

    def switch(self, name, revision):
        self.api.call("PUT", self.listener, json={"certificate": name}, headers={"If-Match": revision})


class Api:
    """Requests, and what their failures mean."""

    KINDS = {401: "unauthenticated", 403: "permission_denied", 409: "conflict", 412: "conflict", 429: "rate_limited"}

    def __init__(self, request):
        settings = request["settings"]
        self.url = str(settings.get("url", "")).rstrip("/")
        if not self.url.startswith("https://"):
            raise Failure("configuration_invalid", "`settings.url` does not start with https://")
        self.token = request.get("secrets", {}).get("token", "")
        if not self.token or not self.token.isascii() or not self.token.isprintable():
            raise Failure("configuration_invalid", "the secret `token` is missing, or has characters that no token has")
        try:
            tls = ssl.create_default_context(cafile=settings.get("ca_file"))
        except (OSError, ssl.SSLError) as error:
            raise Failure("configuration_invalid", f"`settings.ca_file` cannot be used: {error}") from error
        self.opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=tls), NoRedirects())
        # A little is left for saying that the time is over.
        self.deadline = time.monotonic() + request["deadline_seconds"] * 0.9

    def call(self, method, path, json=None, text=None, headers=None, refusals=None, accepted=()):
        """Headers and body of the answer. `refusals` says what a status means here, `accepted` which are as good as success."""
        try:
            return self.send(self.built(method, path, json, text, headers or {}))
        except urllib.error.HTTPError as error:
            if error.code in accepted:
                return error.headers, None
            raise self.refusal(error, f"{method} {path}", refusals or {}) from None
        except (OSError, http.client.HTTPException) as error:
            raise self.no_answer(error, f"{method} {path}") from error

    def built(self, method, path, body, text, headers):
        headers = {"Authorization": "Bearer " + self.token, **headers}
        data = None
        if body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        elif text is not None:
            data, headers["Content-Type"] = text.encode(), "text/plain"
        return urllib.request.Request(self.url + path, data=data, headers=headers, method=method)

    def send(self, request):
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise socket.timeout("no time is left")
        with self.opener.open(request, timeout=left) as answer:
            body = answer.read(BODY_LIMIT)
            try:
                return answer.headers, json.loads(body) if body else None
            except ValueError as error:
                raise Failure("unavailable", f"{request.full_url} answers something else than JSON") from error

    def refusal(self, error, what, refusals):
        kind = refusals.get(error.code) or self.KINDS.get(error.code) or ("unavailable" if error.code >= 500 else "plan_invalid")
        said = said_by(error)
        message = f"{what}: {error.code} {said.get('error', error.reason)}"
        next_step = None
        if error.code == 403 and said.get("permission"):
            message += f" (the token lacks {said['permission']})"
            next_step = f"give the token the permission {said['permission']}"
        passes = error.code == 429 or error.code >= 500
        return Failure(kind, message, retry_after(error.headers) if passes else "never", next_step)

    def no_answer(self, error, what):
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, ssl.SSLCertVerificationError):
            next_step = "see whether `settings.url` is right, and whether `settings.ca_file` names the authority of the shelf"
            return Failure("unavailable", f"{what}: the shelf is not who it should be: {reason.verify_message}", "never", next_step)
        if isinstance(reason, socket.timeout):
            return Failure("timeout", f"{what}: no answer in time", "later")
        # It may have been carried out: everything here can be said twice.
        return Failure("unavailable", f"{what}: no answer: {reason}", "later")


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """The token is for this server only."""

    def redirect_request(self, *_):
        return None


def said_by(error):
    """The body of a refusal, where it is one."""
    try:
        said = json.loads(error.read(BODY_LIMIT))
    except (OSError, ValueError, http.client.HTTPException):
        return {}
    return said if isinstance(said, dict) else {}


def retry_after(headers):
    """`Retry-After` has seconds or a date (RFC 9110, section 10.2.3)."""
    value = headers.get("Retry-After", "")
    if value.isascii() and value.isdigit():
        return {"after_seconds": min(int(value), 86400)}
    try:
        seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
    except (TypeError, ValueError):
        return "later"
    return {"after_seconds": min(max(0, round(seconds)), 86400)}


main()
