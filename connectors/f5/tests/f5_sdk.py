"""What F5's own SDK sees of the stand-in, and what it can do there. Settings come as JSON on standard input."""

import json
import sys

from f5.bigip import ManagementRoot
from f5.bigip.contexts import TransactionContextManager
from f5.sdk_exception import TransactionSubmitException, UtilError
from icontrol.exceptions import iControlUnexpectedHTTPError

DOWNLOADS = "/var/config/rest/downloads/"
settings = json.load(sys.stdin)
seen = {}


def connect(**more):
    given = {"port": settings["port"], "token": True, "verify": settings["ca_file"], **more}
    return ManagementRoot("127.0.0.1", settings["username"], settings["password"], **given)


def refused(action):
    """Status and message of a refusal; an action that is taken is a failure."""
    try:
        action()
    except iControlUnexpectedHTTPError as error:
        return [error.response.status_code, said(error.response)]
    except TransactionSubmitException as error:
        response = error.args[0].response
        return [response.status_code, said(response)]
    raise AssertionError("it was taken")


def said(response):
    is_json = response.headers.get("Content-Type", "").startswith("application/json")
    return response.json()["message"] if is_json else response.text


def profile(name="www"):
    return mgmt.tm.ltm.profile.client_ssls.client_ssl.load(name=name, partition="Common")


def shown():
    return [{field: entry[field] for field in ("name", "cert", "key", "chain")} for entry in profile().certKeyChain]


def upload(pair):
    """In parts of 100 bytes."""
    for ending in ("crt", "key"):
        mgmt.shared.file_transfer.uploads.upload_file(settings[pair] + "." + ending, chunk_size=100)


def install(api, pair, name):
    for collection, ending in ((api.tm.sys.file.ssl_certs.ssl_cert, "crt"), (api.tm.sys.file.ssl_keys.ssl_key, "key")):
        path = "file:" + DOWNLOADS + settings[pair].rsplit("/", 1)[1] + "." + ending
        collection.create(name=name + "." + ending, partition="Common", sourcePath=path)


def uploads():
    listed = mgmt.tm.util.unix_ls.exec_cmd("run", utilCmdArgs=DOWNLOADS.rstrip("/"))
    return sorted(vars(listed).get("commandResult", "").split())


def entry(cert, key):
    return [{"name": "default", "cert": "/Common/%s.crt" % cert, "key": "/Common/%s.key" % key, "chain": "none"}]


mgmt = connect()
seen["version"] = mgmt.tmos_version

# What the connector has deployed.
deployed = shown()[0]
seen["deployed"] = deployed
partition, name = deployed["cert"].strip("/").split("/")
certificate = mgmt.tm.sys.file.ssl_certs.ssl_cert.load(partition=partition, name=name)
seen["fingerprint"] = certificate.fingerprint.replace("SHA256/", "").replace(":", "").lower()
seen["names"] = sorted(one.name for one in mgmt.tm.sys.file.ssl_certs.get_collection())

# Objects and profile in one transaction, with the SDK's own context manager.
upload("first")
www = profile()
with TransactionContextManager(mgmt.tm.transactions.transaction) as api:
    install(api, "first", "sdk")
    www.modify(certKeyChain=entry("sdk", "sdk"))
seen["switched"] = shown()

# The same once more is refused, and so is what is in use.
seen["again"] = refused(lambda: install(mgmt, "first", "sdk"))
seen["in use"] = refused(mgmt.tm.sys.file.ssl_keys.ssl_key.load(partition="Common", name="sdk.key").delete)

# A second pair, of which the key is taken with the certificate of the first.
upload("second")
install(mgmt, "second", "sdk2")


def transaction(change, **more):
    def run():
        with TransactionContextManager(mgmt.tm.transactions.transaction, **more):
            change()
    return run


www = profile()
seen["mismatch"] = refused(transaction(lambda: www.modify(certKeyChain=entry("sdk", "sdk2"))))
www = profile()
transaction(lambda: www.modify(certKeyChain=entry("sdk2", "sdk2")), validate_only=True)()
seen["checked only"] = shown()
seen["empty"] = refused(transaction(lambda: None))

# Outside of a transaction, where it can be.
www = profile()
www.modify(certKeyChain=entry("sdk2", "sdk2"))
mgmt.tm.sys.file.ssl_keys.ssl_key.load(partition="Common", name="sdk.key").delete()
seen["partition"] = refused(lambda: mgmt.tm.sys.file.ssl_certs.ssl_cert.create(
    name="a.crt", partition="Nowhere", sourcePath="file:" + DOWNLOADS + settings["second"].rsplit("/", 1)[1] + ".crt"))

# What an upload can be wrong in.
session = mgmt._meta_data["icr_session"]


def part(content, content_range, content_type="application/octet-stream", name="part"):
    uri = mgmt._meta_data["uri"] + "shared/file-transfer/uploads/" + name
    return lambda: session.post(uri, data=content, headers={"Content-Range": content_range, "Content-Type": content_type})


seen["range"] = refused(part(b"abc", "0-1/3"))
seen["unit"] = refused(part(b"abc", "bytes 0-2/3"))
seen["gap"] = refused(part(b"abc", "2-4/5"))
part(b"abc", "0-2/6")()
seen["overlap"] = refused(part(b"cde", "2-4/6"))
seen["long"] = refused(part(b"a" * (1048576 + 1), "0-1048576/1048577"))
seen["type"] = refused(part(b"abc", "0-2/3", content_type="application/json"))
seen["name"] = refused(part(b"abc", "0-2/3", name="a:b"))

# A profile cannot be changed beside a transaction.
waiting = mgmt.tm.transactions.transaction.create()
www = profile()
seen["outside"] = refused(lambda: www.modify(certKeyChain=entry("sdk", "sdk")))
waiting.delete()

# Clean-up, saving, synchronising.
seen["uploads"] = uploads()
for pair in ("first", "second"):
    for ending in ("crt", "key"):
        mgmt.tm.util.unix_rm.exec_cmd("run", utilCmdArgs=DOWNLOADS + settings[pair].rsplit("/", 1)[1] + "." + ending)
try:
    mgmt.tm.util.unix_rm.exec_cmd("run", utilCmdArgs=DOWNLOADS + "missing")
except UtilError as error:
    seen["rm"] = str(error)
seen["cleaned up"] = uploads()
mgmt.tm.sys.config.exec_cmd("save")
status = mgmt.tm.cm.sync_status
status.refresh()
entries = status.entries["https://localhost/mgmt/tm/cm/sync-status/0"]["nestedStats"]["entries"]
seen["sync"] = entries["status"]["description"]

# The end of a session, and whom it does not know.
token = mgmt._meta_data["uri"] + "shared/authz/tokens/" + session.session.auth.token
seen["longer"] = session.patch(token, json={"timeout": 36000}).json()["timeout"]
seen["too long"] = refused(lambda: session.patch(token, json={"timeout": 36001}))
session.delete(token)
seen["ended"] = refused(profile)
settings["password"] = "wrong"
seen["password"] = refused(connect)
json.dump(seen, sys.stdout)
