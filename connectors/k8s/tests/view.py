"""What a Secret holds, as the Kubernetes client for Python sees it: python view.py KUBECONFIG NAMESPACE NAME"""

import base64
import hashlib
import json
import ssl
import sys

from kubernetes import client, config

kubeconfig, namespace, name = sys.argv[1:4]
config.load_kube_config(config_file=kubeconfig)
secret = client.CoreV1Api().read_namespaced_secret(name, namespace)
entries = {key: base64.b64decode(value).decode() for key, value in secret.data.items()}
leaf = entries["tls.crt"].split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
owned = {entry.manager: entry.operation for entry in secret.metadata.managed_fields}
print(
    json.dumps(
        {
            "type": secret.type,
            "entries": sorted(entries),
            "fingerprint": hashlib.sha256(ssl.PEM_cert_to_DER_cert(leaf)).hexdigest(),
            "key": "BEGIN" in entries["tls.key"],
            "managers": owned,
        }
    )
)
