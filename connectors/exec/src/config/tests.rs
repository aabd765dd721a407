use std::time::Duration;

use deploy_core::settings::CommandSetting;
use deploy_core::{Registry, SettingError, Verify};
use serde_json::{Value, json};

use crate::{Exec, ExecSettings};

fn build(settings: Value) -> Result<(), SettingError> {
    let registry = Registry::new().with::<Exec>();
    registry.get("exec").unwrap().build("front", settings).map(drop)
}

#[test]
fn a_command_is_enough_and_the_rest_has_its_documented_default() {
    let settings: ExecSettings = toml::from_str("command = [\"/usr/local/bin/shelf\"]").unwrap();
    assert_eq!(settings, ExecSettings::new(CommandSetting::new(&["/usr/local/bin/shelf"])));
    assert!(settings.settings.is_empty() && settings.secrets.is_empty());
    assert_eq!((settings.verify(), settings.verify_timeout.duration()), (Verify::NotConfigured, Duration::from_secs(15)));
    assert_eq!(settings.command.command().unwrap().timeout, Duration::from_secs(30));
    settings.check().unwrap();
}

#[test]
fn every_setting_is_read() {
    let settings: ExecSettings = toml::from_str(
        r#"
        command = { command = ["shelf", "-v"], timeout = "5s" }
        settings = { url = "https://shelf.example.com", tries = 3, list = ["a"] }
        secrets = { token = "file:/etc/certdeploy/token", other = { exec = ["pass", "show", "x"] } }
        verify = [{ connect = "127.0.0.1:443" }]
        verify_timeout = "2m"
        "#,
    )
    .unwrap();
    settings.check().unwrap();
    assert_eq!(Value::from(settings.settings.clone()), json!({ "url": "https://shelf.example.com", "tries": 3, "list": ["a"] }));
    let Verify::Endpoints { endpoints, timeout } = settings.verify() else { panic!("{settings:?}") };
    assert_eq!((endpoints.len(), timeout), (1, Duration::from_secs(120)));
    let again: ExecSettings = serde_json::from_value(serde_json::to_value(&settings).unwrap()).unwrap();
    assert_eq!(again, settings);
}

#[test]
fn what_cannot_be_right_is_refused_where_it_stands() {
    for (settings, path, part) in [
        (json!({}), "", "command"),
        (json!({ "command": [] }), "command", "names no program"),
        (json!({ "command": [""] }), "command", "names no program"),
        (json!({ "command": ["./shelf"] }), "command", "absolute path"),
        (json!({ "command": ["bin/shelf"] }), "command", "absolute path"),
        (json!({ "command": ["shelf"], "secrets": { "": "file:/t" } }), "secrets", "empty name"),
        (json!({ "command": ["shelf"], "verify": [{ "connect": "nowhere" }] }), "verify[0]", "port"),
        (json!({ "command": ["shelf"], "setings": {} }), "setings", "unknown field"),
    ] {
        let error = build(settings.clone()).unwrap_err();
        assert!(error.path == path && error.message.contains(part), "{settings}: {error:?}");
    }
}

#[test]
fn s1_a_secret_that_is_written_out_is_refused_and_not_repeated() {
    let error = build(json!({ "command": ["shelf"], "secrets": { "token": "canary-written-out" } })).unwrap_err();
    assert_eq!(error.path, "secrets.token");
    assert!(error.message.contains("must be a reference") && !error.message.contains("canary"), "{error:?}");
}
