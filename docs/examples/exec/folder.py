#!/usr/bin/env python3
"""Deploys certificates to a folder that another machine serves from, for certdeploy's connector `exec`.

Settings: `folder`. It gets a directory for each certificate, named by its fingerprint, and the symbolic link `active`, which is
switched by a rename. Needs Python 3.9 and nothing else. It shows the least that a program has to do.
"""

import base64
import json
import os
import shutil
import sys


def main():
    request = json.load(sys.stdin)
    try:
        answer = {"protocol": 1, "result": carry_out(request)}
    except OSError as error:
        kind = "permission_denied" if isinstance(error, PermissionError) else "unavailable"
        answer = {"protocol": 1, "error": {"kind": kind, "message": str(error), "retry": "never"}}
    json.dump(answer, sys.stdout)


def carry_out(request):
    if request["operation"] == "describe":
        # It has no dry run; what is not used any more it removes.
        return {"name": "folder.py", "version": "1.0", "protocols": [1], "capabilities": {"validate": False, "prune": True}}
    folder = Folder(request["settings"]["folder"])
    certificate = request.get("certificate") or {}
    steps = {
        "observe": lambda: {"fingerprint": folder.active()},
        "snapshot": lambda: {"version": 1, "data": base64.b64encode((folder.active() or "").encode()).decode()},
        "upload": lambda: folder.upload(certificate),
        "activate": lambda: folder.switch(certificate["fingerprint"]),
        "restore": lambda: folder.switch(base64.b64decode(request["snapshot"]["data"]).decode()),
        "prune": folder.prune,
    }
    return steps[request["operation"]]() or {}


class Folder:
    def __init__(self, path):
        self.path = path

    def active(self):
        try:
            return os.readlink(self.at("active"))
        except FileNotFoundError:
            return None

    def upload(self, certificate):
        """Whole or not at all: a directory that was begun by an earlier try is made anew."""
        final, begun = self.at(certificate["fingerprint"]), self.at("begun-" + certificate["fingerprint"])
        if os.path.isdir(final):
            return
        shutil.rmtree(begun, ignore_errors=True)
        os.mkdir(begun, 0o700)
        for name in ("fullchain", "key"):
            descriptor = os.open(os.path.join(begun, name + ".pem"), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(certificate[name])
                file.flush()
                os.fsync(file.fileno())
        os.rename(begun, final)

    def switch(self, fingerprint):
        if not fingerprint:
            return self.remove("active")
        self.remove("next")
        os.symlink(fingerprint, self.at("next"))
        os.rename(self.at("next"), self.at("active"))

    def prune(self):
        active = self.active()
        for name in os.listdir(self.path):
            if len(name.removeprefix("begun-")) == 64 and name != active:
                shutil.rmtree(self.at(name))

    def remove(self, name):
        try:
            os.unlink(self.at(name))
        except FileNotFoundError:
            pass

    def at(self, name):
        return os.path.join(self.path, name)


if __name__ == "__main__":
    main()
