use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use deploy_core::probe::Endpoint;
use deploy_core::secret::SecretBytes;
use deploy_core::settings::{CommandSetting, Mode, Period};
use deploy_core::{Certificate, Content, ErrorKind, Layout, LinkPolicy, Plan, Recovery, Reload, Target as _, Verify};
use deploy_testkit::{Authority, Issued, Request};

use super::NginxTarget;
use crate::NginxSettings;

fn issue() -> Issued {
    Authority::new().issue(&Request::new(&["www.example.test"]))
}

fn certificate(issued: &Issued) -> Certificate {
    Certificate::from_pem(issued.fullchain_pem.as_bytes(), &SecretBytes::from(issued.key_pem.as_bytes())).unwrap()
}

fn plan(settings: &NginxSettings) -> Plan {
    settings.check().unwrap();
    NginxTarget::new("front", settings.clone()).plan(&certificate(&issue())).unwrap()
}

fn settings() -> NginxSettings {
    NginxSettings::new("/etc/nginx/tls/www.crt", "/etc/nginx/tls/www.key")
}

/// A plan as lines, without the contents.
fn rendered(plan: &Plan) -> String {
    let mut text = String::new();
    for file in &plan.files {
        let access = (file.owner.as_deref(), file.group.as_deref(), file.mode.map(|mode| mode.to_string()));
        writeln!(text, "{:?} {} {access:?}", file.role, file.path.display()).unwrap();
    }
    let hooks = &plan.hooks;
    let validate = hooks.validate.as_ref();
    writeln!(text, "validate {:?}", validate.map(|validate| validate.command.display())).unwrap();
    writeln!(
        text,
        "minimal {:?}",
        validate.and_then(|validate| validate.minimal.as_ref()).map(|minimal| minimal.command.display())
    )
    .unwrap();
    match &hooks.reload {
        Some(Reload::Command(command)) => writeln!(text, "reload {}", command.display()).unwrap(),
        other => writeln!(text, "reload {other:?}").unwrap(),
    }
    writeln!(text, "restart {:?}", hooks.restart.as_ref().map(|restart| restart.display())).unwrap();
    match &hooks.verify {
        Verify::Endpoints { endpoints, timeout } => {
            writeln!(text, "verify {:?} {timeout:?}", endpoints.iter().map(|endpoint| &endpoint.connect).collect::<Vec<_>>())
                .unwrap();
        }
        other => writeln!(text, "verify {other:?}").unwrap(),
    }
    writeln!(text, "backups {} links {:?} unsafe_parent {}", plan.backups, plan.links, plan.allow_unsafe_parent).unwrap();
    text
}

#[test]
fn the_plan_of_two_paths() {
    let plan = plan(&settings());
    assert_eq!(plan.name, "front");
    assert_eq!(
        rendered(&plan),
        r#"Fullchain /etc/nginx/tls/www.crt (None, None, None)
Key /etc/nginx/tls/www.key (None, None, None)
validate Some("nginx -t")
minimal Some("nginx -t -c \"{configuration}\" -p \"{scratch}\"")
reload nginx -s reload
restart None
verify NotConfigured
backups 3 links Follow unsafe_parent false
"#
    );
}

#[test]
fn the_plan_of_all_settings() {
    let mut settings = settings();
    settings.trusted_chain = Some("/etc/nginx/tls/www.chain.crt".into());
    settings.validate = CommandSetting::new(&["docker", "exec", "web", "nginx", "-t"]);
    settings.restart = Some(CommandSetting::new(&["systemctl", "restart", "nginx"]));
    settings.owner = Some("root".into());
    settings.group = Some("ssl-cert".into());
    settings.mode = Some(Mode::new(0o640));
    settings.key_mode = Some(Mode::new(0o440));
    settings.links = LinkPolicy::Refuse;
    settings.allow_unsafe_parent = true;
    settings.backups = 0;
    settings.verify = Some(vec![Endpoint::new("127.0.0.1:443"), Endpoint::new("[::1]:443")]);
    settings.verify_timeout = Period::new(Duration::from_secs(30));
    assert_eq!(
        rendered(&plan(&settings)),
        r#"Chain /etc/nginx/tls/www.chain.crt (Some("root"), Some("ssl-cert"), Some("0640"))
Fullchain /etc/nginx/tls/www.crt (Some("root"), Some("ssl-cert"), Some("0640"))
Key /etc/nginx/tls/www.key (Some("root"), Some("ssl-cert"), Some("0440"))
validate Some("docker exec web nginx -t")
minimal None
reload nginx -s reload
restart Some("systemctl restart nginx")
verify ["127.0.0.1:443", "[::1]:443"] 30s
backups 0 links Refuse unsafe_parent true
"#
    );
}

#[test]
fn m6_the_certificate_file_holds_the_leaf_and_its_intermediates_and_the_chain_file_the_intermediates() {
    let issued = issue();
    let certificate = certificate(&issued);
    let mut settings = settings();
    settings.trusted_chain = Some("/etc/nginx/tls/www.chain.crt".into());
    let plan = NginxTarget::new("front", settings).plan(&certificate).unwrap();
    let contents: Vec<&Content> = plan.files.iter().map(|file| &file.content).collect();
    let expected = [
        Content::Bytes(certificate.chain_pem().into()),
        Content::Bytes(certificate.fullchain_pem().into()),
        Content::Bytes(certificate.key_pem()),
    ];
    assert_eq!(contents, expected.iter().collect::<Vec<_>>());
    assert_eq!(certificate.fullchain_pem().windows(10).filter(|window| window == b"-----BEGIN").count(), 2);
}

#[test]
fn a_trusted_chain_of_nothing_is_refused_because_nginx_refuses_it() {
    let issued = issue();
    let key = SecretBytes::from(issued.key_pem.as_bytes());
    let alone = Certificate::from_pem(issued.leaf_pem.as_bytes(), &key).unwrap();
    let mut settings = settings();
    let refusal =
        |settings: &NginxSettings| NginxTarget::new("front", settings.clone()).plan(&alone).err().map(|error| error.kind());
    assert_eq!(refusal(&settings), None);
    settings.trusted_chain = Some("/etc/nginx/tls/www.chain.crt".into());
    assert_eq!(refusal(&settings), Some(ErrorKind::MaterialRejected));
}

#[test]
fn the_minimal_configuration_loads_each_staged_file_by_its_number_in_the_plan() {
    let mut settings = settings();
    settings.trusted_chain = Some("/etc/nginx/tls/www.chain.crt".into());
    let minimal = plan(&settings).hooks.validate.unwrap().minimal.unwrap();
    for line in [
        r#"ssl_trusted_certificate "{staged:0}";"#,
        r#"ssl_certificate "{staged:1}";"#,
        r#"ssl_certificate_key "{staged:2}";"#,
        "listen unix:nginx.sock ssl;",
        r#"pid "{scratch}/nginx.pid";"#,
    ] {
        assert!(minimal.configuration.contains(line), "{line} is not in\n{}", minimal.configuration);
    }
}

#[test]
fn the_minimal_configuration_is_checked_by_the_configured_program_within_its_timeout() {
    let mut settings = settings();
    let json =
        r#"{ "command": ["/usr/local/openresty/bin/openresty", "-t", "-q"], "timeout": "7s", "environment": { "A": "b" } }"#;
    settings.validate = serde_json::from_str(json).unwrap();
    let minimal = plan(&settings).hooks.validate.unwrap().minimal.unwrap();
    assert_eq!(minimal.command.display(), "/usr/local/openresty/bin/openresty -t -c \"{configuration}\" -p \"{scratch}\"");
    assert_eq!(minimal.command.timeout, Duration::from_secs(7));
    assert_eq!(minimal.command.environment["A"], "b");
}

#[test]
fn there_is_no_minimal_configuration_for_a_path_that_nginx_would_take_for_a_variable() {
    for directory in ["/etc/$tls", "/etc/\"tls", "/etc/t\\ls", "/etc/tls\n"] {
        let settings = NginxSettings::new(format!("{directory}/www.crt"), "/etc/www.key");
        assert_eq!(plan(&settings).hooks.validate.unwrap().minimal, None, "{directory}");
    }
    let settings = NginxSettings::new("/etc/my tls; {}/www.crt", "/etc/www.key");
    assert!(plan(&settings).hooks.validate.unwrap().minimal.is_some());
}

#[test]
fn with_generations_the_plan_has_their_layout_and_the_directory_is_a_destination() {
    let mut settings = NginxSettings::new("/t/www/current/www.crt", "/t/www/current/www.key");
    settings.layout = Layout::Generation("/t/www".into());
    assert_eq!(plan(&settings).layout, settings.layout);
    let destinations = NginxTarget::new("front", settings).destinations();
    assert_eq!(destinations, ["/t/www", "/t/www/current/www.crt", "/t/www/current/www.key"].map(PathBuf::from));
}

#[test]
fn empty_commands_run_nothing() {
    let mut settings = settings();
    settings.validate = CommandSetting::new(&[]);
    settings.reload = serde_json::from_str("[]").unwrap();
    settings.verify = Some(vec![]);
    let plan = plan(&settings);
    assert!(plan.hooks.validate.is_none() && plan.hooks.reload.is_none());
    assert_eq!(plan.hooks.verify, Verify::Waived);
}

#[test]
fn recovery_has_the_hooks_that_are_configured_now_and_needs_no_certificate() {
    let target = NginxTarget::new("front", settings());
    let Recovery::Files(hooks) = target.recovery() else { panic!("nginx is files") };
    assert_eq!(hooks.validate, plan(&settings()).hooks.validate);
    assert!(matches!(hooks.reload, Some(Reload::Command(command)) if command.display() == "nginx -s reload"));
}
