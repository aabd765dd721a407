"""Talks to the stand-in as its own author would: requests for HTTP, hmac for signatures, cryptography for certificates.

What to do comes as JSON on standard input, and what was seen goes as JSON to standard output.
"""

import hashlib
import hmac
import json
import sys
import time

import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization


def leaf(pem):
    return x509.load_pem_x509_certificates(pem.encode())[0]


def sha256(pem):
    return leaf(pem).fingerprint(hashes.SHA256()).hex()


def signature(key, timestamp, body):
    return "sha256=" + hmac.new(key.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def public(key):
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def judged(sent, signing_key):
    """What somebody else's receiver makes of a request that the connector sent."""
    body = sent["body"].encode()
    fields = json.loads(body)
    key = serialization.load_pem_private_key(fields["private_key"].encode(), None)
    return {
        "signed": hmac.compare_digest(sent["signature"], signature(signing_key, sent["timestamp"], body)),
        "fingerprint": sha256(fields["certificate"]),
        "matches": public(key.public_key()) == public(leaf(fields["certificate"]).public_key()),
        "names": fields["names"],
    }


def main():
    order = json.load(sys.stdin)
    url = order["url"] + "/api/certificates/front"

    def ask(method, body=b"", **more):
        now = str(int(time.time()))
        headers = {
            "Authorization": "Bearer " + order["token"],
            "X-Timestamp": now,
            "X-Signature": signature(order["signing_key"], now, body),
            **more,
        }
        return requests.request(method, url, data=body, headers=headers, verify=order["ca_file"], timeout=10)

    seen = ask("GET")
    forged = requests.get(url, headers={"Authorization": "Bearer " + order["token"]}, verify=order["ca_file"], timeout=10)
    pair = order["pair"]
    body = {**pair, "sha256": sha256(pair["certificate"]), "names": ["www.example.test"]}
    headers = {"Content-Type": "application/json", "Idempotency-Key": "by-hand", "If-Match": seen.headers["ETag"]}
    put = ask("PUT", json.dumps(body).encode(), **headers)
    json.dump(
        {
            "sent": judged(order["sent"], order["signing_key"]),
            "seen": seen.json()["sha256"],
            "seen_pem": sha256(seen.json()["pem"]),
            "forged": forged.status_code,
            "put": put.status_code,
            "now": ask("GET").json()["sha256"],
        },
        sys.stdout,
    )


main()
