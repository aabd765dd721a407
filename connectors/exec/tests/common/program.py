#!/usr/bin/env python3
"""A program that speaks the protocol, to a remote that is a directory. `before` and `instead` in its settings make it fail."""

import base64
import json
import os
import pathlib
import sys

request = json.load(sys.stdin)
settings, operation = request["settings"], request["operation"]
remote = pathlib.Path(settings["remote"])
live, certificates = remote / "live", remote / "certificates"
certificates.mkdir(exist_ok=True)


def answer(**parts):
    sys.stdout.write(json.dumps({"protocol": 1, **parts}))
    sys.stdout.flush()


def result(**values):
    answer(result=values)


def fail(kind, message="as the test wants it", **more):
    answer(error={"kind": kind, "message": message, **more})
    sys.exit(0)


def describe():
    result(name="fake", version="1.0", protocols=[1], capabilities={"validate": True, "prune": True})


def observe():
    result(fingerprint=live.read_text() if live.exists() else None, revision="7")


def validate():
    result(checked="configuration")


def snapshot():
    name = live.read_text() if live.exists() else ""
    result(version=3, data=base64.b64encode(name.encode()).decode())


def upload():
    new = request["certificate"]
    (certificates / new["fingerprint"]).write_text(new["fullchain"] + new["key"])
    result()


def activate():
    switch()
    result()


def switch():
    fingerprint = request["certificate"]["fingerprint"]
    assert (certificates / fingerprint).exists(), "activated before it was uploaded"
    live.write_text(fingerprint)


def restore():
    assert request["snapshot"]["version"] == 3
    name = base64.b64decode(request["snapshot"]["data"]).decode()
    live.write_text(name) if name else live.unlink(missing_ok=True)
    result()


def prune():
    for path in certificates.iterdir():
        if not live.exists() or path.name != live.read_text():
            path.unlink()
    result()


with open(remote / "calls", "a") as calls:
    calls.write(operation + "\n")
exec(settings.get("before", {}).get(operation, ""))
exec(settings.get("instead", {}).get(operation, operation + "()"))
