//! boto3, AWS's own client in Python, from the environment that `cargo xtask servers` makes.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use deploy_testkit::installed;
use serde_json::Value;

/// The interpreter that has boto3 and moto.
pub(crate) fn python() -> std::path::PathBuf {
    installed("aws/bin/python").unwrap_or_else(|error| panic!("{error}"))
}

/// Asks for what `boto3_client.py` describes.
pub(crate) fn ask(order: &Value) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boto3_client.py");
    let mut child = Command::new(python())
        .arg("-W")
        .arg("ignore")
        .arg(script)
        .env_clear()
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(order.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
