//! The stand-in checked by a client of somebody else's: F5's own SDK for Python.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, with a world of its own; the SDK is a process")]

mod big_ip;
mod world;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use deploy_core::Outcome;
use deploy_testkit::{Issued, installed};
use serde_json::{Value, json};

use crate::big_ip::{ADMINISTRATOR, PASSWORD};
use crate::world::{WWW, World};

#[tokio::test(flavor = "multi_thread")]
async fn stand_in_is_one_for_the_sdk_of_f5_too() {
    let python = installed("f5/bin/python").unwrap();
    let (world, settings, old, issued) = World::renewed(World::settings).await;
    let (first, second) = (world.issue(), world.issue());
    write_pair(&world.root.path().join("first"), &first);
    write_pair(&world.root.path().join("second"), &second);
    let given = json!({
        "port": world.big_ip.port(), "username": ADMINISTRATOR, "password": PASSWORD, "ca_file": world.big_ip.ca_file,
        "first": world.root.path().join("first"), "second": world.root.path().join("second"),
    });
    let mut sdk = Command::new(python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/f5_sdk.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    sdk.stdin.take().unwrap().write_all(given.to_string().as_bytes()).unwrap();
    let output = sdk.wait_with_output().unwrap();
    let record = world.big_ip.stand_in().record().lines();
    assert!(output.status.success(), "{}\n{record:#?}", String::from_utf8_lossy(&output.stderr));
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();

    // It sees what the connector has deployed, under the names that the connector gave.
    assert_eq!(seen["version"], "17.1.0");
    assert_eq!(seen["fingerprint"], old.fingerprint);
    assert_eq!(seen["deployed"]["cert"], format!("/Common/certdeploy-front-{}.crt", old.fingerprint));
    assert_eq!(seen["deployed"]["key"], format!("/Common/certdeploy-front-{}.key", old.fingerprint));
    let ours = seen["names"].as_array().unwrap().iter().filter(|name| name.as_str().unwrap().starts_with("certdeploy-front-"));
    assert_eq!(ours.count(), 3, "certificate, intermediates, and that of another target: {seen:#}");

    // What it does has an effect where it should have one.
    let entry = |name: &str| json!([{ "name": "default", "cert": format!("/Common/{name}.crt"), "key": format!("/Common/{name}.key"), "chain": "none" }]);
    assert_eq!((&seen["switched"], &seen["checked only"]), (&entry("sdk"), &entry("sdk")));
    assert_eq!(world.big_ip.served_fingerprint(WWW), second.fingerprint);
    assert_eq!(world.big_ip.with(|device| device.saved.clone()), world.big_ip.config());

    // What is refused is refused in words that it understands.
    for (what, status, message) in [
        ("again", 409, "01020066:3"),
        ("in use", 400, "01071349:3"),
        ("mismatch", 400, "transaction failed:01070317:3"),
        ("empty", 400, "transaction"),
        ("partition", 404, "01020036:3"),
        ("range", 400, "Chunk byte count 2 different from received buffer length 3"),
        ("unit", 400, "Content-Range is missing or malformed"),
        ("gap", 400, "abc"),
        ("overlap", 400, "cde"),
        ("long", 400, "the chunk is too long"),
        ("type", 400, "Content-Type has to be application/octet-stream"),
        ("name", 400, "the file name is invalid"),
        ("outside", 400, "this stand-in takes no change of a profile outside of the transaction that is open"),
        ("too long", 406, "Auth-token absolute timeout (36000 seconds) exceeded"),
        ("ended", 401, "X-F5-Auth-Token has expired."),
        ("password", 401, "Authentication failed"),
    ] {
        assert_eq!(seen[what][0], status, "{what}: {seen:#}");
        assert!(seen[what][1].as_str().unwrap().starts_with(message) || what == "empty", "{what}: {seen:#}");
    }
    assert!(seen["rm"].as_str().unwrap().contains("No such file"), "{seen:#}");
    assert_eq!(seen["uploads"], json!(["first.crt", "first.key", "second.crt", "second.key"]));
    assert_eq!((&seen["cleaned up"], &seen["sync"], &seen["longer"]), (&json!([]), &json!("Standalone"), &json!(36_000)));

    // And the connector takes over what the SDK has left.
    let report = world.deploy(&settings, &issued).await;
    assert_eq!((report.outcome, world.big_ip.served_fingerprint(WWW)), (Outcome::Changed, issued.fingerprint), "{report:?}");
}

/// As `PATH.crt` and `PATH.key`.
fn write_pair(path: &Path, issued: &Issued) {
    std::fs::write(path.with_extension("crt"), &issued.fullchain_pem).unwrap();
    std::fs::write(path.with_extension("key"), &issued.key_pem).unwrap();
}
