#!/usr/bin/env python3
"""A world for folder.py in certdeploy's conformance suite: a TLS server that serves what is active in the folder.

It is told what to do in lines of JSON on standard input and answers each with a line. See the page on the protocol.
"""

import base64
import json
import os
import socket
import ssl
import sys
import threading


class World:
    def __init__(self, directory):
        self.folder = os.path.join(directory, "folder")
        self.frozen = None

    def describe(self, _):
        return {"faults": ["ignored"]}

    def start(self, request):
        self.name = request["name"]
        os.mkdir(self.folder, 0o700)
        with open(os.path.join(self.folder, "README"), "w") as file:
            file.write("this belongs to somebody else\n")
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.serve, daemon=True).start()
        address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        return {"settings": {"folder": self.folder}, "connect": address, "keeps_keys_in": [self.folder]}

    def serve(self):
        while True:
            connection, _ = self.listener.accept()
            with connection:
                connection.settimeout(10)
                try:
                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                    pair = self.frozen or os.path.realpath(self.active())
                    context.load_cert_chain(os.path.join(pair, "fullchain.pem"), os.path.join(pair, "key.pem"))
                    context.wrap_socket(connection, server_side=True).close()
                except OSError:
                    pass  # Nothing is active, or the client went away.

    def served(self, _):
        """As a client sees it, and not as the folder has it: the leaf is asked for, the rest is read."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with socket.create_connection(self.listener.getsockname(), timeout=10) as connection:
                with context.wrap_socket(connection, server_hostname=self.name) as tls:
                    leaf = tls.getpeercert(binary_form=True)
        except OSError:
            return {"chain": []}
        for pair in (self.frozen or "", self.active()):
            chain = read_chain(os.path.join(pair, "fullchain.pem"))
            if chain and chain[0] == leaf:
                return {"chain": [base64.b64encode(der).decode() for der in chain]}
        return {"chain": [base64.b64encode(leaf).decode()]}

    def state(self, _):
        objects, foreign = {}, {}
        for name in sorted(os.listdir(self.folder)):
            path = os.path.join(self.folder, name)
            if os.path.islink(path):
                objects[name] = os.readlink(path)
            elif os.path.isdir(path):
                objects[name] = repr(sorted(os.listdir(path)))
            else:
                foreign[name] = open(path).read()
        return {"objects": objects, "foreign": foreign}

    def break_(self, _):
        self.frozen = os.path.realpath(self.active())
        return {}

    def heal(self, _):
        self.frozen = None
        return {}

    def active(self):
        return os.path.join(self.folder, "active")


def read_chain(path):
    try:
        text = open(path).read()
    except OSError:
        return []
    end = "-----END CERTIFICATE-----"
    return [ssl.PEM_cert_to_DER_cert((part + end).strip()) for part in text.split(end) if "BEGIN" in part]


def main():
    world = World(sys.argv[1])
    steps = {"describe": world.describe, "start": world.start, "served": world.served, "state": world.state,
             "break": world.break_, "heal": world.heal}
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(steps[request["do"]](request)), flush=True)


if __name__ == "__main__":
    main()
