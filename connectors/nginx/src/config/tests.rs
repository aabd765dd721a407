use std::time::Duration;

use deploy_core::settings::{CommandSetting, Mode};
use deploy_core::{Layout, LinkPolicy, Registry, SettingError};
use serde_json::{Value, json};

use crate::{Nginx, NginxSettings};

fn build(settings: Value) -> Result<(), SettingError> {
    let registry = Registry::new().with::<Nginx>();
    registry.get("nginx").unwrap().build("front", settings).map(drop)
}

/// The refusal of two good files and one more setting.
fn refused(field: &str, value: Value) -> (String, String) {
    let mut settings = json!({ "fullchain": "/t/www.crt", "key": "/t/www.key" });
    settings[field] = value;
    let error = build(settings).unwrap_err();
    (error.path, error.message)
}

#[test]
fn two_paths_are_enough_and_the_rest_has_its_documented_default() {
    let settings: NginxSettings = toml::from_str("fullchain = \"/t/www.crt\"\nkey = \"/t/www.key\"").unwrap();
    assert_eq!(settings, NginxSettings::new("/t/www.crt", "/t/www.key"));
    assert_eq!(settings.validate, CommandSetting::new(&["nginx", "-t"]));
    assert_eq!(serde_json::to_value(&settings.reload).unwrap(), json!(["nginx", "-s", "reload"]));
    assert_eq!(
        (settings.restart, settings.owner, settings.group, settings.mode, settings.key_mode),
        (None, None, None, None, None)
    );
    assert_eq!((settings.links, settings.allow_unsafe_parent, settings.backups), (LinkPolicy::Follow, false, 3));
    assert_eq!(settings.layout, Layout::Replace);
    assert_eq!((settings.verify, settings.verify_timeout.duration()), (None, Duration::from_secs(15)));
}

#[test]
fn every_setting_is_read() {
    let settings: NginxSettings = toml::from_str(
        r#"
        fullchain = "/t/www.crt"
        key = "/t/www.key"
        trusted_chain = "/t/www.chain"
        validate = { command = ["nginx", "-t", "-c", "/srv/nginx.conf"], timeout = "5s" }
        reload = { systemd = "nginx" }
        restart = ["systemctl", "restart", "nginx"]
        owner = "root"
        group = "33"
        mode = "0640"
        key_mode = "0400"
        links = "refuse"
        layout = "replace"
        allow_unsafe_parent = true
        backups = 0
        verify = []
        verify_timeout = "1m"
        "#,
    )
    .unwrap();
    settings.check().unwrap();
    assert_eq!(settings.validate.command().unwrap().timeout, Duration::from_secs(5));
    assert_eq!((settings.owner.as_deref(), settings.group.as_deref()), (Some("root"), Some("33")));
    assert_eq!((settings.mode, settings.key_mode), (Some(Mode::new(0o640)), Some(Mode::new(0o400))));
    assert_eq!((settings.links, settings.allow_unsafe_parent, settings.backups), (LinkPolicy::Refuse, true, 0));
    assert_eq!((settings.verify, settings.verify_timeout.duration()), (Some(vec![]), Duration::from_secs(60)));
}

#[test]
fn settings_survive_being_written_and_read() {
    let mut settings = NginxSettings::new("/t/www.crt", "/t/www.key");
    settings.group = Some("ssl-cert".to_owned());
    settings.key_mode = Some(Mode::new(0o640));
    let text = serde_json::to_string(&settings).unwrap();
    assert_eq!(serde_json::from_str::<NginxSettings>(&text).unwrap(), settings);
}

#[test]
fn f19_relative_paths_and_directories_are_refused_with_their_field() {
    for field in ["fullchain", "key", "trusted_chain"] {
        assert_eq!(
            refused(field, json!("www.pem")),
            (field.into(), "`www.pem` is not an absolute path; it must start with /".into())
        );
        for directory in ["/t/", "/t/.", "/t/.."] {
            assert_eq!(refused(field, json!(directory)).0, field);
        }
        assert_eq!(refused(field, json!("")), (field.into(), "is empty".into()));
        assert_eq!(refused(field, json!("/t/a\0b")), (field.into(), "contains a zero byte".into()));
    }
}

#[test]
fn f18_two_settings_that_name_one_file_are_refused() {
    assert_eq!(
        refused("key", json!("/t/./www.crt")),
        ("key".into(), "is the same file as `fullchain`: each needs a file of its own".into())
    );
    assert_eq!(refused("trusted_chain", json!("/t//www.key")).0, "trusted_chain");
}

#[test]
fn with_generations_every_file_is_directly_in_current() {
    let settings = |fullchain: &str, key: &str, directory: &str| {
        build(json!({ "fullchain": fullchain, "key": key, "layout": { "generation": directory } }))
    };
    settings("/t/www/current/www.crt", "/t/www/current/www.key", "/t/www").unwrap();
    settings("/t/www/current/www.crt", "/t//www/./current/www.key", "/t/www/").unwrap();
    for key in ["/t/www/www.key", "/t/www/current/keys/www.key", "/t/www.key", "/t/other/current/www.key"] {
        let error = settings("/t/www/current/www.crt", key, "/t/www").unwrap_err();
        assert_eq!(error.path, "key");
        assert!(error.message.contains("is not directly in `/t/www/current`"), "{}", error.message);
    }
    for directory in ["t/www", "/", "", "/t/../t/www"] {
        let error = settings("/t/www/current/www.crt", "/t/www/current/www.key", directory).unwrap_err();
        assert!(error.message.contains("cannot be a directory of generations"), "{}", error.message);
    }
}

#[test]
fn layouts_are_replace_and_generation() {
    for wrong in [json!("generation"), json!("link"), json!({ "generations": "/t" }), json!({ "generation": "/t", "keep": 3 })] {
        let (path, message) = refused("layout", wrong);
        assert_eq!(path, "layout");
        assert!(message.contains("{ generation = "), "{message}");
    }
    let mut settings = NginxSettings::new("/t/www/current/www.crt", "/t/www/current/www.key");
    settings.layout = Layout::Generation("/t/www".into());
    let text = serde_json::to_string(&settings).unwrap();
    assert_eq!(serde_json::from_str::<NginxSettings>(&text).unwrap(), settings);
}

#[test]
fn a7_an_unknown_field_is_refused() {
    let (path, message) = refused("fulchain", json!("/t/www.crt"));
    assert!(path.is_empty() || path == "fulchain", "{path}");
    assert!(message.contains("unknown field `fulchain`"), "{message}");
}

#[test]
fn commands_may_be_empty_and_programs_may_not() {
    for field in ["validate", "reload", "restart"] {
        let mut settings = json!({ "fullchain": "/t/www.crt", "key": "/t/www.key" });
        settings[field] = json!([]);
        build(settings).unwrap();
        assert_eq!(refused(field, json!([""])).0, field);
        assert_eq!(refused(field, json!("nginx -t")).0, field);
    }
    assert_eq!(refused("reload", json!({ "systemd": " " })).0, "reload.systemd");
    assert_eq!(refused("reload", json!({ "signal": "HUP", "pid_file": "run/nginx.pid" })).0, "reload.pid_file");
}

#[test]
fn owners_are_names_or_numbers() {
    assert_eq!(refused("owner", json!("")).0, "owner");
    assert_eq!(refused("group", json!(" ")).0, "group");
    assert!(refused("owner", json!("root:www-data")).1.contains("two settings"));
}

#[test]
fn s2_a_key_open_to_all_is_refused() {
    assert_eq!(refused("key_mode", json!("0644")).0, "key_mode");
    assert_eq!(refused("key_mode", json!("0602")).0, "key_mode");
    assert_eq!(refused("key_mode", json!("rw-------")).0, "key_mode");
    let mut settings = NginxSettings::new("/t/www.crt", "/t/www.key");
    settings.key_mode = Some(Mode::new(0o640));
    settings.check().unwrap();
}

#[test]
fn a_bad_endpoint_is_named_by_its_place_in_the_list() {
    let (path, message) = refused("verify", json!([{ "connect": "127.0.0.1:443" }, { "connect": "" }]));
    assert_eq!(path, "verify[1]");
    assert!(!message.is_empty());
}

#[test]
fn every_setting_has_a_documented_meaning_and_an_example() {
    let schema = serde_json::to_value(schemars::schema_for!(NginxSettings)).unwrap();
    let properties = schema["properties"].as_object().unwrap();
    assert_eq!(properties.len(), 18);
    for (name, property) in properties {
        let text = property["description"].as_str().unwrap_or_else(|| panic!("`{name}` has no description"));
        let first = text.split("\n\n").next().unwrap();
        assert!(first.len() <= 110 && first.ends_with('.'), "`{name}` does not begin with one short sentence: {first}");
        assert!(text.contains("Required.") || text.contains("Default: "), "`{name}` does not say its default");
        assert!(text.contains(&format!("`{name} = ")), "`{name}` has no example");
    }
    assert_eq!(schema["required"], json!(["fullchain", "key"]));
    assert_eq!(schema["additionalProperties"], json!(false));
}

/// The examples of the reference page are TOML that is accepted.
#[test]
fn the_examples_in_the_documentation_are_accepted() {
    let schema = serde_json::to_value(schemars::schema_for!(NginxSettings)).unwrap();
    for (name, property) in schema["properties"].as_object().unwrap() {
        let text = property["description"].as_str().unwrap();
        let examples: Vec<&str> = text.split('`').filter(|part| part.starts_with(&format!("{name} = "))).collect();
        assert!(!examples.is_empty(), "`{name}` has no example");
        for example in examples {
            let mut table: toml::Table = toml::from_str("fullchain = \"/t/www.crt\"\nkey = \"/t/www.key\"").unwrap();
            if example.contains("generation") {
                table = toml::from_str(
                    "fullchain = \"/etc/nginx/tls/www/current/www.crt\"\nkey = \"/etc/nginx/tls/www/current/www.key\"",
                )
                .unwrap();
            }
            table.extend(toml::from_str::<toml::Table>(example).unwrap_or_else(|error| panic!("{example}: {error}")));
            let settings: NginxSettings = table.try_into().unwrap_or_else(|error| panic!("{example}: {error}"));
            settings.check().unwrap_or_else(|error| panic!("{example}: {error}"));
        }
    }
}
