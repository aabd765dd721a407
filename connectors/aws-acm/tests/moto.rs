//! Whole deployments to moto's ACM, a real server of somebody else's that many use in AWS's place. It is laxer than AWS: what it
//! takes proves the form of the requests, and what it refuses proves nothing. boto3 looks at what is there.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

mod boto3;

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use deploy_aws_acm::AwsAcm;
use deploy_core::secret::SecretBytes;
use deploy_core::{Certificate, Connector as _, Context, Job, Outcome, Registry, Report, deploy};
use deploy_testkit::pki::KeyKind;
use deploy_testkit::{Authority, Issued, Request, own_address, provider};
use serde_json::{Value, json};
use tempfile::TempDir;

const REGION: &str = "eu-central-1";
const KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

struct Moto {
    address: SocketAddr,
    server: Child,
    root: TempDir,
    authority: Authority,
}

impl Moto {
    fn start() -> Self {
        let (address, root) = (own_address(), TempDir::new().unwrap());
        let secret = root.path().join("secret");
        fs::write(&secret, SECRET).unwrap();
        fs::set_permissions(secret, fs::Permissions::from_mode(0o600)).unwrap();
        let log = fs::File::create(root.path().join("log")).unwrap();
        let server = Command::new(boto3::python())
            .args(["-m", "moto.server", "-H", &address.ip().to_string(), "-p", &address.port().to_string()])
            .env_clear()
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut moto = Self { address, server, root, authority: Authority::new() };
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(address).is_err() {
            let log = || fs::read_to_string(moto.root.path().join("log")).unwrap();
            assert!(moto.server.try_wait().unwrap().is_none() && Instant::now() < deadline, "{}", log());
            std::thread::sleep(Duration::from_millis(10));
        }
        moto
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn issue(&self, kind: KeyKind) -> Issued {
        self.authority.issue(&Request::new(&["www.example.test"]).key(kind))
    }

    async fn deploy(&self, target: &str, more: Value, issued: &Issued) -> Report {
        let mut settings = json!({
            "endpoint": self.url(),
            "access_key": { "id": KEY_ID, "secret": format!("file:{}", self.root.path().join("secret").display()) },
        });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let built = Registry::new().with::<AwsAcm>().get(AwsAcm::KIND).unwrap().build(target, settings).unwrap();
        let key = SecretBytes::from(issued.key_pem.as_bytes());
        let certificate = Certificate::from_pem(issued.fullchain_pem.as_bytes(), &key).unwrap();
        let context = Context::new(self.root.path().join("state"), provider());
        let report = deploy(&[Job::new(target, AwsAcm::KIND, Arc::from(built), Arc::new(certificate))], &context).await.remove(0);
        assert!(report.error.is_none(), "{report:?}");
        report
    }

    fn ask(&self, calls: &Value) -> Vec<Value> {
        let order = json!({ "url": self.url(), "region": REGION, "id": KEY_ID, "secret": SECRET, "calls": calls });
        boto3::ask(&order)["answers"].as_array().unwrap().clone()
    }

    /// What boto3 sees: the ARN of the only certificate, its leaf, and its tags in order.
    fn only(&self) -> (String, String, Value) {
        let all = json!({ "Includes": { "keyTypes": ["RSA_2048", "EC_prime256v1"] } });
        let listed = self.ask(&json!([["list_certificates", all]]));
        let arns = listed[0]["CertificateArns"].as_array().unwrap();
        assert_eq!(arns.len(), 1, "{arns:?}");
        let by_arn = json!({ "CertificateArn": arns[0] });
        let seen = self.ask(&json!([["get_certificate", by_arn], ["list_tags_for_certificate", by_arn]]));
        let tags = seen[1]["Tags"].as_array().unwrap();
        let tags = tags.iter().map(|tag| (tag["Key"].as_str().unwrap().to_owned(), tag["Value"].clone())).collect();
        (arns[0].as_str().unwrap().to_owned(), seen[0]["Fingerprint"].as_str().unwrap().to_owned(), Value::Object(tags))
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_moto_takes_a_first_import_renewals_and_tags() {
    let moto = Moto::start();
    let mut issued = moto.issue(KeyKind::Rsa2048);
    let settings = json!({ "region": REGION, "tags": { "Owner": "web team" } });
    assert_eq!(moto.deploy("front", settings.clone(), &issued).await.outcome, Outcome::Changed);
    let (arn, leaf, tags) = moto.only();
    assert_eq!((leaf, &tags), (issued.fingerprint.clone(), &json!({ "Owner": "web team", "certdeploy-target": "front" })));
    assert_eq!(moto.deploy("front", settings.clone(), &issued).await.outcome, Outcome::Unchanged);

    // moto forgets the tags of a certificate that is imported again. AWS keeps them. It is the same one all the same.
    issued = moto.issue(KeyKind::Rsa2048);
    assert_eq!(moto.deploy("front", settings.clone(), &issued).await.outcome, Outcome::Changed);
    assert_eq!(moto.only(), (arn.clone(), issued.fingerprint.clone(), json!({})));
    assert_eq!(moto.deploy("front", settings.clone(), &issued).await.outcome, Outcome::Changed);
    assert_eq!(moto.only().2, tags);
    assert_eq!(moto.deploy("front", settings.clone(), &issued).await.outcome, Outcome::Unchanged);

    // By the ARN that was noted, by the tag once the note is lost, and by the ARN of the settings.
    let by_arn = json!({ "arn": arn, "tags": { "Stage": "test" } });
    for (target, settings, forgets) in [("front", &settings, false), ("front", &settings, true), ("other", &by_arn, false)] {
        if forgets {
            fs::remove_dir_all(moto.root.path().join("state")).unwrap();
        }
        issued = moto.issue(KeyKind::Rsa2048);
        assert_eq!(moto.deploy(target, settings.clone(), &issued).await.outcome, Outcome::Changed);
        let (same, leaf, tags) = moto.only();
        assert_eq!((same, leaf), (arn.clone(), issued.fingerprint.clone()));
        assert_eq!(tags, json!({}));
        let tags = json!([{ "Key": "certdeploy-target", "Value": "front" }, { "Key": "Owner", "Value": "web team" }]);
        moto.ask(&json!([["add_tags_to_certificate", { "CertificateArn": arn, "Tags": tags }]]));
    }
    // So that the tag of the settings is added by itself, and the certificate is not sent again.
    assert_eq!(moto.deploy("other", by_arn.clone(), &issued).await.outcome, Outcome::Changed);
    assert_eq!(moto.only().2, json!({ "Owner": "web team", "Stage": "test", "certdeploy-target": "front" }));
    assert_eq!(moto.deploy("other", by_arn, &issued).await.outcome, Outcome::Unchanged);
}
