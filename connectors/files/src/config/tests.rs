use std::time::Duration;

use deploy_core::certificate::Block;
use deploy_core::settings::Mode;
use deploy_core::{Layout, LinkPolicy, Registry, SettingError};
use serde_json::{Value, json};

use crate::{FileContent, FileSetting, Files, FilesSettings};

fn build(settings: Value) -> Result<(), SettingError> {
    let registry = Registry::new().with::<Files>();
    registry.get("files").unwrap().build("front", settings).map(drop)
}

/// The refusal of a good file and one more setting of the target.
fn refused(field: &str, value: Value) -> (String, String) {
    let mut settings = json!({ "files": [{ "path": "/t/www.crt", "content": "fullchain" }] });
    settings[field] = value;
    let error = build(settings).unwrap_err();
    (error.path, error.message)
}

/// The refusal of this file, after a good one.
fn refused_file(file: &Value) -> (String, String) {
    refused("files", json!([{ "path": "/t/www.crt", "content": "fullchain" }, file]))
}

#[test]
fn a_file_is_enough_and_the_rest_has_its_documented_default() {
    let settings: FilesSettings = toml::from_str("files = [{ path = \"/t/www.pem\", content = \"combined\" }]").unwrap();
    assert_eq!(settings, FilesSettings::new([FileSetting::new("/t/www.pem", FileContent::Combined)]));
    assert_eq!((settings.validate.command(), settings.restart), (None, None));
    assert!(settings.reload.reload().is_none());
    assert_eq!((settings.links, settings.allow_unsafe_parent, settings.backups), (LinkPolicy::Follow, false, 3));
    assert_eq!(settings.layout, Layout::Replace);
    assert_eq!((settings.verify, settings.verify_timeout.duration()), (None, Duration::from_secs(15)));
}

#[test]
fn every_setting_is_read_and_survives_being_written() {
    let settings: FilesSettings = toml::from_str(
        r#"
        validate = { command = ["exim4", "-bV"], timeout = "5s" }
        reload = { systemd = "exim4" }
        restart = ["systemctl", "restart", "exim4"]
        links = "refuse"
        layout = { generation = "/t/www" }
        allow_unsafe_parent = true
        backups = 0
        verify = []
        verify_timeout = "1m"

        [[files]]
        path = "/t/www/current/www.pem"
        content = "combined"
        order = ["leaf", "key"]
        owner = "root"
        group = "33"
        mode = "0640"
        "#,
    )
    .unwrap();
    settings.check().unwrap();
    let file = &settings.files[0];
    assert_eq!(file.order.as_deref(), Some(&[Block::Leaf, Block::Key][..]));
    assert_eq!((file.owner.as_deref(), file.group.as_deref(), file.mode), (Some("root"), Some("33"), Some(Mode::new(0o640))));
    assert_eq!(settings.validate.command().unwrap().timeout, Duration::from_secs(5));
    assert_eq!((settings.links, settings.allow_unsafe_parent, settings.backups), (LinkPolicy::Refuse, true, 0));
    let text = serde_json::to_string(&settings).unwrap();
    assert_eq!(serde_json::from_str::<FilesSettings>(&text).unwrap(), settings);
}

#[test]
fn a_target_has_at_least_one_file() {
    assert_eq!(refused("files", json!([])), ("files".into(), "names no file; there is nothing to deploy".into()));
    assert!(build(json!({})).unwrap_err().message.contains("missing field `files`"));
}

#[test]
fn f19_relative_paths_and_directories_are_refused_with_their_place() {
    for path in ["www.pem", "/t/", "/t/.", "/t/..", "", "/t/a\0b"] {
        assert_eq!(refused_file(&json!({ "path": path, "content": "key" })).0, "files[1].path", "{path}");
    }
}

#[test]
fn f18_two_files_with_one_path_are_refused() {
    assert_eq!(
        refused_file(&json!({ "path": "/t/./www.crt", "content": "key" })),
        ("files[1].path".into(), "is the same file as `files[0].path`: each needs a file of its own".into())
    );
}

#[test]
fn with_generations_every_file_is_directly_in_current() {
    assert_eq!(refused("layout", json!({ "generation": "/t" })).0, "files[0].path");
}

#[test]
fn a7_an_unknown_field_is_refused() {
    assert!(refused("file", json!([])).1.contains("unknown field `file`"));
    let (path, message) = refused_file(&json!({ "path": "/t/www.key", "content": "key", "key_mode": "0600" }));
    assert!(path.starts_with("files[1]") && message.contains("unknown field `key_mode`"), "{path}: {message}");
    assert_eq!(refused_file(&json!({ "path": "/t/www.key", "content": "pem" })).0, "files[1].content");
}

#[test]
fn s2_a_file_with_the_key_is_closed_to_others() {
    for content in ["key", "combined"] {
        for open in ["0644", "0602", "0601"] {
            assert_eq!(refused_file(&json!({ "path": "/t/www.key", "content": content, "mode": open })).0, "files[1].mode");
        }
        build(json!({ "files": [{ "path": "/t/www.key", "content": content, "mode": "0640" }] })).unwrap();
    }
    for content in ["leaf", "chain", "fullchain"] {
        build(json!({ "files": [{ "path": "/t/www.crt", "content": content, "mode": "0644" }] })).unwrap();
    }
}

#[test]
fn an_order_has_the_key_and_the_leaf_before_its_chain() {
    let order =
        |content: &str, order: &[&str]| build(json!({ "files": [{ "path": "/t/www.pem", "content": content, "order": order }] }));
    let good: [&[&str]; 5] =
        [&["key", "leaf"], &["leaf", "key"], &["leaf", "chain", "key"], &["leaf", "key", "chain"], &["key", "leaf", "chain"]];
    for good in good {
        order("combined", good).unwrap();
    }
    let bad: [(&[&str], &str); 5] = [
        (&["key", "chain", "leaf"], "`chain` before `leaf`"),
        (&["key", "chain"], "lacks"),
        (&["leaf", "chain"], "lacks"),
        (&[], "lacks"),
        (&["key", "leaf", "key"], "twice"),
    ];
    for (bad, why) in bad {
        let error = order("combined", bad).unwrap_err();
        assert!(error.path == "files[0].order" && error.message.contains(why), "{bad:?}: {error:?}");
    }
    let error = order("fullchain", &["key", "leaf"]).unwrap_err();
    assert!(error.message.contains("`content = \"combined\"` alone"), "{error}");
}

#[test]
fn slips_in_commands_principals_and_endpoints_are_named_by_their_place() {
    for field in ["validate", "reload", "restart"] {
        assert_eq!(refused(field, json!([""])).0, field);
        assert_eq!(refused(field, json!("true")).0, field);
    }
    assert_eq!(refused("reload", json!({ "systemd": " " })).0, "reload.systemd");
    assert_eq!(refused("reload", json!({ "signal": "HUP", "pid_file": "run/it.pid" })).0, "reload.pid_file");
    for field in ["owner", "group"] {
        let file = json!({ "path": "/t/www.key", "content": "key", field: "root:root" });
        assert_eq!(refused_file(&file).0, format!("files[1].{field}"));
    }
    assert_eq!(refused("verify", json!([{ "connect": "127.0.0.1:443" }, { "connect": "" }])).0, "verify[1]");
}

/// The examples of the reference page are TOML that is accepted.
#[test]
fn every_setting_has_a_documented_meaning_and_examples_that_are_accepted() {
    let schema = serde_json::to_value(schemars::schema_for!(FilesSettings)).unwrap();
    let properties = schema["properties"].as_object().unwrap();
    assert_eq!(properties.len(), 11);
    for (name, property) in properties {
        let text = property["description"].as_str().unwrap_or_else(|| panic!("`{name}` has no description"));
        assert!(text.contains("Required.") || text.contains("Default: "), "`{name}` does not say its default");
        let examples: Vec<&str> = text.split('`').filter(|part| part.starts_with(&format!("{name} = "))).collect();
        assert!(!examples.is_empty(), "`{name}` has no example");
        for example in examples {
            let path = "/etc/mosquitto/certs/www/current/www.crt";
            let mut table: toml::Table =
                toml::from_str(&format!("files = [{{ path = \"{path}\", content = \"fullchain\" }}]")).unwrap();
            table.extend(toml::from_str::<toml::Table>(example).unwrap_or_else(|error| panic!("{example}: {error}")));
            let settings: FilesSettings = table.try_into().unwrap_or_else(|error| panic!("{example}: {error}"));
            settings.check().unwrap_or_else(|error| panic!("{example}: {error}"));
        }
    }
    assert_eq!(schema["required"], json!(["files"]));
    assert_eq!(schema["additionalProperties"], json!(false));
    let documented = &schema["$defs"]["FileSetting"]["properties"];
    assert!(documented.as_object().unwrap().values().all(|field| field["description"].is_string()), "{documented}");
}
