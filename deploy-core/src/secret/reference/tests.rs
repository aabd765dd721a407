#![expect(clippy::disallowed_methods, reason = "the tests write the secret files that an operator would")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::command::CommandOutput;

const CANARY: &str = "canary-7f3a";

fn context() -> Context {
    Context::new("/nonexistent", Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
}

fn file(bytes: impl AsRef<[u8]>, mode: u32) -> (tempfile::TempDir, SecretRef) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    (directory, SecretRef::File(path))
}

fn shell(script: &str) -> SecretRef {
    SecretRef::Exec(["/bin/sh", "-c", script].map(str::to_owned).to_vec())
}

/// The error with all its causes, in both renderings.
fn shown(error: &SecretRefError) -> String {
    let mut text = format!("{error} {error:?}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text += &format!(" {error} {error:?}");
        cause = error.source();
    }
    text
}

#[test]
fn references_are_read_and_written_as_in_configuration() {
    for (text, reference) in [
        ("\"file:/run/secrets/token\"", SecretRef::File(PathBuf::from("/run/secrets/token"))),
        ("\"env:API_TOKEN\"", SecretRef::Env("API_TOKEN".to_owned())),
        ("\"exec:pass-token\"", SecretRef::Exec(vec!["pass-token".to_owned()])),
        ("{\"exec\":[\"pass\",\"show\",\"f5\"]}", SecretRef::Exec(["pass", "show", "f5"].map(str::to_owned).to_vec())),
    ] {
        assert_eq!(serde_json::from_str::<SecretRef>(text).unwrap(), reference);
        assert_eq!(serde_json::to_string(&reference).unwrap(), text);
    }
    assert_eq!(serde_json::from_str::<SecretRef>("{\"exec\":[\"/bin/token\"]}").unwrap(), "exec:/bin/token".parse().unwrap());
}

#[test]
fn a_program_gets_the_variables_that_it_is_given() {
    let environment = BTreeMap::from([("ASKED_FOR".to_owned(), "by the caller".to_owned())]);
    let secret = shell("printf %s \"$ASKED_FOR\"").resolve_with(&environment, &context()).unwrap();
    assert_eq!(secret.expose(), "by the caller");
}

#[test]
fn s1_an_inline_value_is_refused_without_showing_it() {
    for text in [
        format!("\"{CANARY}\""),
        format!("\"vault:{CANARY}\""),
        format!("{{\"value\":\"{CANARY}\"}}"),
        format!("{{\"exec\":\"{CANARY}\"}}"),
        format!("{{\"exec\":[\"a\"],\"{CANARY}\":1}}"),
        format!("[\"{CANARY}\"]"),
        format!("\"file:{CANARY}\""),
        format!("\"env:{CANARY}!\""),
        format!("\"exec:echo {CANARY}\""),
        "73218841".to_owned(),
        "-73218841".to_owned(),
        "7321.8841".to_owned(),
        "true".to_owned(),
    ] {
        let error = serde_json::from_str::<SecretRef>(&text).unwrap_err().to_string();
        assert!(!error.contains(CANARY) && !error.contains("7321") && !error.contains("true"), "{error}");
        assert!(error.contains("secret reference") || error.contains("a secret must be a reference"), "{error}");
    }
}

#[test]
fn a7_placeholders_are_refused() {
    for text in
        ["********", "changeme", "CHANGE-ME", "<token>", "xxxx", "file:<path>", "env:<NAME>", "exec:<program>", "file:********"]
    {
        assert_eq!(text.parse::<SecretRef>(), Err(InvalidSecretRef::Placeholder), "{text}");
    }
    for text in ["file:", "file:relative", "file:/directory/", "env:", "env:A B", "exec:"] {
        assert_eq!(text.parse::<SecretRef>(), Err(InvalidSecretRef::Incomplete), "{text}");
    }
    let (_directory, reference) = file("changeme\n", 0o600);
    assert!(matches!(reference.resolve(&context()), Err(SecretRefError::Placeholder { .. })));
}

#[test]
fn a_file_is_read_without_its_last_line_break() {
    for (bytes, expected) in [("a b\n", "a b"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a", " a")] {
        let (_directory, reference) = file(bytes, 0o640);
        assert_eq!(reference.resolve(&context()).unwrap().expose(), expected);
    }
}

#[test]
fn s5_a_file_that_everybody_can_read_or_write_is_refused() {
    for mode in [0o644, 0o602] {
        let (_directory, reference) = file(CANARY, mode);
        let error = reference.resolve(&context()).unwrap_err();
        assert!(matches!(error, SecretRefError::Exposed { mode: found, .. } if found == mode), "{error:?}");
        assert!(error.next_step().unwrap().starts_with("chmod 0600 /"));
        assert!(!shown(&error).contains(CANARY));
    }
}

#[test]
fn files_that_hold_no_secret_are_refused() {
    let (_directory, reference) = file("\n", 0o600);
    assert!(matches!(reference.resolve(&context()), Err(SecretRefError::Empty { .. })));
    let (_directory, reference) = file("", 0o600);
    assert!(matches!(reference.resolve(&context()), Err(SecretRefError::File(SourceFileError::Empty { .. }))));
    let (_directory, reference) = file([0xff, 0xfe], 0o600);
    assert!(matches!(reference.resolve(&context()), Err(SecretRefError::NotText { .. })));
    let (_directory, reference) = file(vec![b'a'; OUTPUT_LIMIT + 1], 0o600);
    assert!(matches!(reference.resolve(&context()), Err(SecretRefError::File(SourceFileError::TooLarge { .. }))));
    let (directory, _) = file("a", 0o600);
    let missing = SecretRef::File(directory.path().join("missing"));
    assert!(matches!(missing.resolve(&context()), Err(SecretRefError::File(SourceFileError::Missing { .. }))));
}

#[test]
fn a_variable_comes_from_the_context() {
    let context = context().with_variables(|name| match name {
        "TOKEN" => Some(SecretString::from(CANARY.to_owned())),
        "EMPTY" => Some(SecretString::default()),
        _ => None,
    });
    let resolve = |name: &str| SecretRef::Env(name.to_owned()).resolve(&context);
    assert_eq!(resolve("TOKEN").unwrap().expose(), CANARY);
    assert!(matches!(resolve("EMPTY"), Err(SecretRefError::Empty { .. })));
    assert_eq!(resolve("OTHER").unwrap_err().to_string(), "the variable OTHER is not set");
}

#[test]
fn a_program_prints_the_secret() {
    assert_eq!(shell("echo canary-7f3a").resolve(&context()).unwrap().expose(), CANARY);
    assert!(matches!(shell("true").resolve(&context()), Err(SecretRefError::Empty { .. })));
}

#[test]
fn s1_a_program_that_fails_shows_its_standard_error_only() {
    let error = shell("echo canary-7f3a; echo locked >&2; exit 3").resolve(&context()).unwrap_err();
    assert_eq!(error.to_string(), "exec:/bin/sh ended with exit status 3: locked");
    // The script itself holds the canary: arguments are not shown either.
    assert!(!shown(&error).contains(CANARY), "{}", shown(&error));
    let error = shell("exit 1").resolve(&context()).unwrap_err();
    assert_eq!(error.to_string(), "exec:/bin/sh ended with exit status 1");
}

#[test]
fn a_program_that_prints_too_much_or_is_not_there_is_an_error() {
    let error = shell("head -c 70000 /dev/zero | tr '\\0' a").resolve(&context()).unwrap_err();
    assert!(matches!(error, SecretRefError::TooLarge { .. }), "{error:?}");
    let error = SecretRef::Exec(vec!["/nonexistent/program".to_owned()]).resolve(&context()).unwrap_err();
    assert!(matches!(error, SecretRefError::Run { .. }), "{error:?}");
}

#[test]
fn s1_output_of_a_program_that_hangs_is_dropped() {
    let output = Box::new(CommandOutput { stdout: CANARY.as_bytes().to_vec(), ..CommandOutput::default() });
    match without_output(CommandError::Timeout { after: Duration::from_secs(30), output }) {
        CommandError::Timeout { output, .. } => assert_eq!(output.stdout, b""),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_schema_accepts_text_and_a_table() {
    let schema = serde_json::to_value(schemars::schema_for!(SecretRef)).unwrap();
    assert_eq!(schema["anyOf"][0]["type"], "string");
    assert_eq!(schema["anyOf"][1]["properties"]["exec"]["type"], "array");
}

#[test]
fn the_error_of_the_crate_says_whether_to_try_again() {
    let error = crate::Error::from(shell("exit 1").resolve(&context()).unwrap_err());
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Unavailable, Retry::Later));
    let (_directory, reference) = file(CANARY, 0o644);
    let error = crate::Error::from(reference.resolve(&context()).unwrap_err());
    assert_eq!((error.kind(), error.retry()), (ErrorKind::ConfigurationInvalid, Retry::Never));
    assert!(error.next_step().starts_with("chmod"));
}
