//! The stand-in for ACM, checked by boto3: it answers AWS's own client as ACM does, and boto3 sees what the connector has done.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

mod acm;
mod boto3;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use deploy_aws_acm::AwsAcm;
use deploy_core::secret::SecretBytes;
use deploy_core::{Certificate, Connector as _, Context, Job, Outcome, Registry, deploy};
use deploy_testkit::pki::KeyKind;
use deploy_testkit::{Authority, Issued, Request, provider};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::acm::signature::Key;
use crate::acm::{ACCOUNT, Acm, KEY_ID, REGION, SECRET};

const NAME: &str = "www.example.test";

struct World {
    root: TempDir,
    authority: Authority,
    acm: Acm,
}

impl World {
    fn start() -> Self {
        let (root, acm) = (TempDir::new().unwrap(), Acm::start());
        let world = Self { root, authority: Authority::new(), acm };
        world.file("ca.pem", &world.acm.root_pem);
        world.file("secret", SECRET);
        world
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.root.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn issue(&self, name: &str, kind: KeyKind) -> Issued {
        self.authority.issue(&Request::new(&[name]).key(kind))
    }

    fn order(&self, calls: &Value) -> Value {
        let ca = self.root.path().join("ca.pem");
        json!({ "url": self.acm.url(), "ca": ca, "region": REGION, "id": KEY_ID, "secret": SECRET, "calls": calls })
    }

    fn ask(&self, calls: &Value) -> Vec<Value> {
        boto3::ask(&self.order(calls))["answers"].as_array().unwrap().clone()
    }

    /// The arguments of an import of these three.
    fn pair(&self, leaf: &str, chain: &str, key: &str) -> Value {
        let file = |text: &str| self.file(&deploy_testkit::pki::fingerprint(text.as_bytes())[..16], text);
        json!({ "CertificateFile": file(leaf), "CertificateChainFile": file(chain), "PrivateKeyFile": file(key) })
    }
}

fn with(mut arguments: Value, name: &str, value: Value) -> Value {
    arguments[name] = value;
    arguments
}

#[test]
fn stand_in_answers_boto3_as_acm_does() {
    let world = World::start();
    let (old, new, rsa) = (
        world.issue(NAME, KeyKind::EcP256),
        world.issue(NAME, KeyKind::EcP256),
        world.issue("rsa.example.test", KeyKind::Rsa2048),
    );
    let pair = |issued: &Issued| world.pair(&issued.leaf_pem, &issued.chain_pem, &issued.key_pem);
    let tags = json!([{ "Key": "team", "Value": "edge" }]);
    let arns = world.ask(&json!([
        ["import_certificate", with(pair(&old), "Tags", tags.clone())],
        ["import_certificate", pair(&rsa)],
        ["import_certificate", pair(&old)],
    ]));
    let arns: Vec<&Value> = arns.iter().map(|answer| &answer["CertificateArn"]).collect();
    assert_ne!(arns[0], arns[2], "each import without an ARN makes a certificate");
    let [arn, other] = [json!({ "CertificateArn": arns[0] }), json!({ "CertificateArn": arns[1] })];

    let onto = |issued: &Issued| with(pair(issued), "CertificateArn", arns[0].clone());
    let all = json!({ "Includes": { "keyTypes": ["EC_prime256v1", "RSA_2048"] }, "PaginationConfig": { "PageSize": 1 } });
    let stranger = Authority::new().issue(&Request::new(&["x.example.test"]));
    let p384 = world.issue(NAME, KeyKind::EcP384);
    let answers = world.ask(&json!([
        ["get_certificate", arn],
        ["describe_certificate", arn],
        ["list_tags_for_certificate", arn],
        ["list_certificates", {}],
        ["list_certificates", all],
        ["add_tags_to_certificate", with(arn.clone(), "Tags", json!([{ "Key": "Stage", "Value": "test" }]))],
        ["import_certificate", onto(&new)],
        ["get_certificate", arn],
        ["list_tags_for_certificate", arn],
        ["import_certificate", with(onto(&new), "Tags", tags)],
        ["import_certificate", onto(&p384)],
        ["import_certificate", onto(&rsa)],
        ["import_certificate", world.pair(&new.leaf_pem, &new.chain_pem, &old.key_pem)],
        ["import_certificate", world.pair(&new.leaf_pem, &stranger.chain_pem, &new.key_pem)],
        ["import_certificate", world.pair(&new.leaf_pem, &new.fullchain_pem, &new.key_pem)],
        ["import_certificate", world.pair(&new.fullchain_pem, &new.chain_pem, &new.key_pem)],
        ["import_certificate", world.pair("garbage", &new.chain_pem, &new.key_pem)],
        ["describe_certificate", { "CertificateArn": format!("arn:aws:acm:{REGION}:{ACCOUNT}:certificate/none") }],
        ["delete_certificate", other],
        ["get_certificate", other],
    ]));
    assert_eq!(answers[0]["Fingerprint"], json!(old.fingerprint));
    let certificate = &answers[1]["Certificate"];
    assert_eq!((&certificate["Type"], &certificate["Status"]), (&json!("IMPORTED"), &json!("ISSUED")));
    assert_eq!((&certificate["SubjectAlternativeNames"], &certificate["InUseBy"]), (&json!([NAME]), &json!([])));
    assert_eq!(answers[2]["Tags"], json!([{ "Key": "team", "Value": "edge" }]));
    assert_eq!(answers[3]["CertificateArns"], json!([arns[1]]), "a list has RSA alone, unless it is asked for more");
    assert_eq!(answers[4]["CertificateArns"].as_array().unwrap().len(), 3, "on three pages");
    assert_eq!(answers[6]["CertificateArn"], *arns[0]);
    assert_eq!(answers[7]["Fingerprint"], json!(new.fingerprint));
    assert_eq!(answers[8]["Tags"].as_array().unwrap().len(), 2, "they stay");
    for (index, said) in [
        (9, "Tagging is not permitted on re-import"),
        (10, "key type and size cannot be changed"),
        (11, "key type and size cannot be changed"),
        (12, "private key does not match"),
        (13, "Could not validate the certificate with the certificate chain"),
        (14, "itself is in its chain"),
        (15, "more than one certificate"),
        (16, "not valid"),
    ] {
        let refused = &answers[index];
        assert_eq!(refused["Error"], json!("ValidationException"), "{index}: {refused}");
        assert!(refused["Message"].as_str().unwrap().contains(said), "{index}: {refused}");
    }
    assert_eq!(answers[17]["Error"], json!("ResourceNotFoundException"));
    assert_eq!((&answers[18], &answers[19]["Error"]), (&json!({}), &json!("ResourceNotFoundException")));
}

#[test]
fn stand_in_knows_who_signs() {
    let world = World::start();
    let token = Key { id: "ASIATEMPORARY".to_owned(), secret: SECRET.to_owned(), token: Some("a token".to_owned()) };
    world.acm.with(|state| state.keys.push(token));
    let list = world.order(&json!([["list_certificates", {}]]));
    for (changes, expected) in [
        (json!({}), None),
        (json!({ "secret": "another" }), Some("InvalidSignatureException")),
        (json!({ "id": "AKIAUNKNOWN" }), Some("UnrecognizedClientException")),
        (json!({ "region": "us-east-1" }), Some("InvalidSignatureException")),
        (json!({ "id": "ASIATEMPORARY", "token": "a token" }), None),
        (json!({ "id": "ASIATEMPORARY", "token": "another" }), Some("UnrecognizedClientException")),
    ] {
        let mut order = list.clone();
        order.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let answer = boto3::ask(&order)["answers"][0].clone();
        assert_eq!(answer["Error"].as_str(), expected, "{changes}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_sees_in_the_stand_in_what_the_connector_has_done_and_signs_as_it_does() {
    let world = World::start();
    let settings = json!({
        "region": REGION,
        "endpoint": world.acm.url(),
        "ca_file": world.root.path().join("ca.pem"),
        "access_key": { "id": KEY_ID, "secret": format!("file:{}", world.root.path().join("secret").display()) },
        "tags": { "Owner": "web team" },
    });
    let mut arn = Value::Null;
    for _ in 0..2 {
        let issued = world.issue(NAME, KeyKind::EcP256);
        let key = SecretBytes::from(issued.key_pem.as_bytes());
        let certificate = Certificate::from_pem(issued.fullchain_pem.as_bytes(), &key).unwrap();
        let target = Registry::new().with::<AwsAcm>().get(AwsAcm::KIND).unwrap().build("front", settings.clone()).unwrap();
        let context = Context::new(world.root.path().join("state"), provider());
        let report =
            deploy(&[Job::new("front", AwsAcm::KIND, Arc::from(target), Arc::new(certificate))], &context).await.remove(0);
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");

        let listed = world.ask(&json!([["list_certificates", { "Includes": { "keyTypes": ["EC_prime256v1"] } }]]));
        assert_eq!(listed[0]["CertificateArns"].as_array().unwrap().len(), 1);
        assert!(arn.is_null() || arn == listed[0]["CertificateArns"][0], "it is the same one");
        arn = listed[0]["CertificateArns"][0].clone();
        let by_arn = json!({ "CertificateArn": arn });
        let seen = world.ask(&json!([["get_certificate", by_arn], ["list_tags_for_certificate", by_arn]]));
        assert_eq!(seen[0]["Fingerprint"], json!(issued.fingerprint));
        assert_eq!(seen[0]["CertificateChain"].as_str().unwrap().replace("\r\n", "\n"), issued.chain_pem.replace("\r\n", "\n"));
        let tags: BTreeMap<_, _> = seen[1]["Tags"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tag| (tag["Key"].as_str().unwrap(), tag["Value"].as_str().unwrap()))
            .collect();
        assert_eq!(tags, BTreeMap::from([("Owner", "web team"), ("certdeploy-target", "front")]));
    }

    // What the connector sent, signed once more.
    let exchanges = world.acm.record().exchanges();
    let ours = exchanges
        .iter()
        .map(|exchange| &exchange.request)
        .find(|request| acm::operation(request) == "ImportCertificate")
        .unwrap();
    let authorization = ours.header("authorization").unwrap();
    let part = |name: &str| authorization.split(&format!("{name}=")).nth(1).unwrap().split(", ").next().unwrap().to_owned();
    let mut order = world.order(&json!([]));
    order["sign"] = json!({
        "url": format!("{}/", world.acm.url()),
        "headers": ours.headers.iter().cloned().collect::<BTreeMap<String, String>>(),
        "signed": part("SignedHeaders").split(';').collect::<Vec<_>>(),
        "body": String::from_utf8(ours.body.clone()).unwrap(),
    });
    assert_eq!(boto3::ask(&order)["signature"], json!(part("Signature")));
}
