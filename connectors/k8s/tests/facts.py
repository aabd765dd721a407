"""What a cluster does with Secrets, asked with the Kubernetes client for Python.

The connector relies on each of these facts. They hold for the stand-in of the tests, and for a real API server where there is one:

    python facts.py KUBECONFIG NAMESPACE

prints one line for each fact, as JSON: its name, and what came of it. Secrets are made in NAMESPACE, and deleted again.
"""

import base64
import json
import sys

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"

kubeconfig, NAMESPACE = sys.argv[1:3]
config.load_kube_config(config_file=kubeconfig)
core = client.CoreV1Api()
reviews = client.AuthorizationV1Api()


def outcome(call):
    """The status, or code, reason, and what is named as the cause."""
    try:
        _, status, _ = call()
        return {"code": status}
    except ApiException as error:
        body = json.loads(error.body)
        causes = (body.get("details") or {}).get("causes") or []
        return {
            "code": error.status,
            "reason": body.get("reason"),
            "causes": sorted({(cause.get("reason"), cause.get("field")) for cause in causes}),
        }


def secret(name, kind="Opaque", data=None, **more):
    metadata = {"name": name, **more.pop("metadata", {})}
    encoded = {key: base64.b64encode(value).decode() for key, value in (data or {}).items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind, "data": encoded, **more}


def create(body, namespace=NAMESPACE, **more):
    return core.create_namespaced_secret_with_http_info(namespace, body, field_manager="somebody", **more)


def replace(body, **more):
    return core.replace_namespaced_secret_with_http_info(body["metadata"]["name"], NAMESPACE, body, **more)


def patch(body, content_type, **more):
    name = body["metadata"]["name"]
    return core.patch_namespaced_secret_with_http_info(name, NAMESPACE, body, _content_type=content_type, **more)


def apply(body, **more):
    more = {"field_manager": "certdeploy", "field_validation": "Strict", **more}
    return patch(body, APPLY, **{name: value for name, value in more.items() if value is not None})


def read(name):
    return core.read_namespaced_secret(name, NAMESPACE)


def delete(name, **preconditions):
    body = client.V1DeleteOptions(preconditions=client.V1Preconditions(**preconditions))
    return core.delete_namespaced_secret_with_http_info(name, NAMESPACE, body=body)


def revision(name):
    return read(name).metadata.resource_version


def on(body, **metadata):
    return {**body, "metadata": {**body["metadata"], **metadata}}


def managers(name):
    owned = {}
    for entry in read(name).metadata.managed_fields or []:
        entries = (entry.fields_v1 or {}).get("f:data", {})
        owned[f"{entry.manager} {entry.operation}"] = sorted(set(entries) - {"."})
    return owned


FACTS = {}


def fact(work):
    FACTS[work.__name__] = work
    return work


@fact
def what_is_there_is_not_made_again():
    made = outcome(lambda: create(secret("facts-a", data={"a": b"1"})))
    return [made, outcome(lambda: create(secret("facts-a", data={"a": b"2"})))]


@fact
def a_revision_that_is_over_is_refused():
    old = on(secret("facts-a", data={"a": b"3"}), resourceVersion=revision("facts-a"))
    replaced = outcome(lambda: replace(secret("facts-a", data={"a": b"4"})))
    return [replaced, outcome(lambda: replace(old)), outcome(lambda: apply(old, force=True))]


@fact
def what_is_the_same_keeps_its_revision():
    before = revision("facts-a")
    same = outcome(lambda: replace(secret("facts-a", data={"a": b"4"})))
    return [same, revision("facts-a") == before]


@fact
def apply_wants_a_manager():
    return outcome(lambda: apply(secret("facts-b", data={"a": b"1"}), field_manager=None))


@fact
def a_dry_run_makes_nothing():
    tried = outcome(lambda: apply(secret("facts-b", data={"a": b"1"}), dry_run="All"))
    return [tried, outcome(lambda: core.read_namespaced_secret_with_http_info("facts-b", NAMESPACE))]


@fact
def apply_makes_what_is_missing_and_owns_it():
    made = outcome(lambda: apply(secret("facts-b", data={"a": b"1", "b": b"1"})))
    again = outcome(lambda: apply(secret("facts-b", data={"a": b"2"})))
    return [made, again, sorted(read("facts-b").data), managers("facts-b")]


@fact
def apply_of_what_somebody_else_owns_is_refused_until_it_is_forced():
    create(secret("facts-c", data={"a": b"1", "theirs": b"1"}))
    ours = secret("facts-c", data={"a": b"2"})
    refused, forced = outcome(lambda: apply(ours)), outcome(lambda: apply(ours, force=True))
    return [refused, forced, sorted(read("facts-c").data), managers("facts-c")]


@fact
def apply_of_the_value_that_is_there_is_no_conflict():
    create(secret("facts-d", data={"a": b"1"}))
    return outcome(lambda: apply(secret("facts-d", data={"a": b"1"})))


@fact
def a_manager_conflicts_with_itself_by_another_kind_of_request():
    core.create_namespaced_secret(NAMESPACE, secret("facts-e", data={"a": b"1"}), field_manager="certdeploy")
    return [outcome(lambda: apply(secret("facts-e", data={"a": b"2"}))), managers("facts-e")]


@fact
def the_type_cannot_be_changed():
    body = secret("facts-a", "kubernetes.io/tls", data={"tls.crt": b"1", "tls.key": b"1"})
    return [outcome(lambda: replace(body)), outcome(lambda: apply(body, force=True))]


@fact
def tls_wants_both_entries_and_looks_at_neither():
    half = secret("facts-f", "kubernetes.io/tls", data={"tls.crt": b"junk"})
    junk = secret("facts-f", "kubernetes.io/tls", data={"tls.crt": b"junk", "tls.key": b"junk"})
    return [outcome(lambda: create(half)), outcome(lambda: create(junk))]


@fact
def one_that_is_immutable_changes_its_labels_only():
    create(secret("facts-g", data={"a": b"1"}, immutable=True))
    labels = outcome(lambda: patch(secret_patch("facts-g", labels={"team": "edge"}), MERGE))
    data = secret("facts-g", data={"a": b"2"}, immutable=True)
    unset = secret("facts-g", data={"a": b"1"})
    changes = [outcome(lambda: replace(data)), outcome(lambda: apply(data, force=True)), outcome(lambda: replace(unset))]
    return [labels, changes, outcome(lambda: delete("facts-g", uid=read("facts-g").metadata.uid))]


def secret_patch(name, **metadata):
    return {"metadata": {"name": name, **metadata}}


@fact
def too_much_is_refused():
    return outcome(lambda: create(secret("facts-h", data={"a": bytes(1 << 20), "b": b"1"})))


@fact
def only_the_one_that_is_meant_is_deleted():
    wrong = outcome(lambda: delete("facts-a", uid="00000000-0000-4000-8000-999999999999"))
    old = outcome(lambda: delete("facts-a", uid=read("facts-a").metadata.uid, resource_version="1"))
    right = outcome(lambda: delete("facts-a", uid=read("facts-a").metadata.uid, resource_version=revision("facts-a")))
    return [wrong, old, right]


@fact
def what_was_deleted_is_not_applied_to():
    body = on(secret("facts-a", data={"a": b"1"}), uid="00000000-0000-4000-8000-999999999999", resourceVersion="1")
    return outcome(lambda: apply(body))


@fact
def a_namespace_that_is_missing_is_named():
    return outcome(lambda: create(secret("facts-a"), namespace="facts-no-such-namespace"))


@fact
def permissions_can_be_asked_for():
    attributes = {"verb": "patch", "resource": "secrets", "namespace": NAMESPACE, "name": "facts-a"}
    kind = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
    body = {**kind, "spec": {"resourceAttributes": attributes}}
    return reviews.create_self_subject_access_review(body).status.allowed


def clean():
    for name in "abcdefgh":
        try:
            core.delete_namespaced_secret(f"facts-{name}", NAMESPACE)
        except ApiException as error:
            if error.status != 404:
                raise


clean()
try:
    for name, work in FACTS.items():
        print(json.dumps([name, work()]))
finally:
    clean()
