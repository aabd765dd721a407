"""What boto3 makes of an ACM: asks it what a test orders on standard input, and prints the answers as JSON.

An order is {"url", "ca", "region", "id", "secret", "token", "calls": [[operation, arguments], ...]}. Arguments that end in
`File` are files whose content is sent; in ListCertificates every page is read. `"sign"` holds a request, which is signed
once more by botocore.
"""

import hashlib
import json
import ssl
import sys

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

order = json.load(sys.stdin)
client = boto3.client(
    "acm",
    endpoint_url=order["url"],
    verify=order.get("ca") or False,
    region_name=order["region"],
    aws_access_key_id=order["id"],
    aws_secret_access_key=order["secret"],
    aws_session_token=order.get("token"),
    config=Config(retries={"total_max_attempts": 1}),
)


def ask(operation, arguments):
    for name in [name for name in arguments if name.endswith("File")]:
        with open(arguments.pop(name), "rb") as file:
            arguments[name.removesuffix("File")] = file.read()
    if operation == "list_certificates":
        pages = client.get_paginator(operation).paginate(**arguments)
        return {"CertificateArns": [summary["CertificateArn"] for page in pages for summary in page["CertificateSummaryList"]]}
    answer = getattr(client, operation)(**arguments)
    del answer["ResponseMetadata"]
    if "Certificate" in answer and isinstance(answer["Certificate"], str):
        der = ssl.PEM_cert_to_DER_cert(answer["Certificate"].split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----")
        answer["Fingerprint"] = hashlib.sha256(der).hexdigest()
    return answer


def answers():
    for operation, arguments in order["calls"]:
        try:
            yield ask(operation, arguments)
        except ClientError as error:
            yield {"Error": error.response["Error"]["Code"], "Message": error.response["Error"]["Message"]}


def signature(request):
    """Of the headers that it names as signed, and of nothing else."""
    headers = {name: value for name, value in request["headers"].items() if name in request["signed"]}
    again = AWSRequest("POST", request["url"], headers, data=request["body"].encode())
    again.context["timestamp"] = request["headers"]["x-amz-date"]
    auth = SigV4Auth(Credentials(order["id"], order["secret"], order.get("token")), "acm", order["region"])
    return auth.signature(auth.string_to_sign(again, auth.canonical_request(again)), again)


result = {"answers": list(answers())}
if "sign" in order:
    result["signature"] = signature(order["sign"])
json.dump(result, sys.stdout, default=str)
