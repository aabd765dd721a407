"""Talks to the stand-ins with Microsoft's own clients: azure-identity and azure-keyvault-certificates.

What to do comes as JSON on standard input, and what was seen goes as JSON to standard output.
"""

import json
import logging
import os
import sys

from azure.core.exceptions import HttpResponseError
from azure.identity import ClientSecretCredential, ManagedIdentityCredential, WorkloadIdentityCredential
from azure.keyvault.certificates import CertificateClient, CertificateContentType, CertificatePolicy
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs12

logging.disable(logging.CRITICAL)
order = json.load(sys.stdin)
os.environ["AZURE_POD_IDENTITY_AUTHORITY_HOST"] = order["metadata"]
trust = {"connection_verify": order["ca_file"], "retry_total": 0}
login = {"authority": order["login"], "disable_instance_discovery": True, **trust}


def client(credential):
    return CertificateClient(order["vault"], credential, verify_challenge_resource=False, **trust)


def seen(certificate):
    return {
        "fingerprint": x509.load_der_x509_certificate(bytes(certificate.cer)).fingerprint(hashes.SHA256()).hex(),
        "content_type": certificate.policy.content_type.value,
        "exportable": certificate.policy.exportable,
        "key_type": certificate.policy.key_type.value,
        "enabled": certificate.properties.enabled,
        "tags": certificate.properties.tags,
    }


def refused(work):
    try:
        work()
    except HttpResponseError as error:
        return [error.status_code, (error.error.innererror or {}).get("code") or error.error.code]


def store(pair, password, modern):
    key = serialization.load_pem_private_key(pair["key"].encode(), None)
    leaf, *chain = x509.load_pem_x509_certificates(pair["fullchain"].encode())
    if modern:
        encryption = serialization.BestAvailableEncryption(password)
    else:
        builder = serialization.PrivateFormat.PKCS12.encryption_builder()
        encryption = (
            builder.kdf_rounds(2048)
            .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
            .hmac_hash(hashes.SHA1())
            .build(password)
        )
    return pkcs12.serialize_key_and_certificates(b"www", key, leaf, chain, encryption)


def main():
    name, pair = order["name"], order["pair"]
    vault = client(ClientSecretCredential(order["tenant"], order["client_id"], order["secret"], **login))
    told = {"deployed": seen(vault.get_certificate(name))}
    told["by_machine"] = seen(client(ManagedIdentityCredential()).get_certificate(name))["fingerprint"]
    federated = WorkloadIdentityCredential(
        tenant_id=order["tenant"], client_id=order["client_id"], token_file_path=order["token_file"], **login
    )
    told["by_workload"] = seen(client(federated).get_certificate(name))["fingerprint"]

    pem = CertificatePolicy(issuer_name="Unknown", content_type=CertificateContentType.pem)
    text = (pair["key"] + pair["fullchain"]).encode()
    told["in_pem"] = seen(vault.import_certificate("in-pem", text, policy=pem, preserve_order=True))
    password = "of the test"
    told["pem_as_pkcs12"] = refused(lambda: vault.import_certificate("bad", text))
    modern = store(pair, password.encode(), True)
    told["modern"] = refused(lambda: vault.import_certificate("bad", modern, password=password))
    legacy = store(pair, password.encode(), False)
    told["in_pkcs12"] = seen(vault.import_certificate(name, legacy, password=password, tags={"team": "edge"}))
    told["versions"] = len(list(vault.list_properties_of_certificate_versions(name)))
    told["policy"] = vault.get_certificate_policy(name).content_type.value

    wrong = client(ClientSecretCredential(order["tenant"], order["client_id"], "not the secret", **login))
    try:
        wrong.get_certificate(name)
    except Exception as error:
        told["wrong_secret"] = "AADSTS7000215" in str(error)

    vault.begin_delete_certificate("in-pem").result()
    told["deleted"] = refused(lambda: vault.get_certificate("in-pem"))
    told["taken"] = refused(lambda: vault.import_certificate("in-pem", text, policy=pem))
    told["recovered"] = vault.begin_recover_deleted_certificate("in-pem").result().name
    json.dump(told, sys.stdout)


main()
