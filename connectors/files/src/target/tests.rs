use std::path::PathBuf;

use deploy_core::certificate::Block;
use deploy_core::probe::Endpoint;
use deploy_core::secret::SecretBytes;
use deploy_core::settings::{CommandSetting, Mode, ReloadSetting, SystemdReload};
use deploy_core::{Certificate, Content, ErrorKind, Layout, Plan, Target as _};
use deploy_testkit::{Authority, Issued, Request, plan_text};

use super::FilesTarget;
use crate::{FileContent, FileSetting, FilesSettings};

fn issue() -> Issued {
    Authority::new().issue(&Request::new(&["www.example.test"]))
}

fn certificate(fullchain: &str, key: &str) -> Certificate {
    Certificate::from_pem(fullchain.as_bytes(), &SecretBytes::from(key.as_bytes())).unwrap()
}

fn plan(settings: &FilesSettings, issued: &Issued) -> Plan {
    settings.check().unwrap();
    FilesTarget::new("front", settings.clone()).plan(&certificate(&issued.fullchain_pem, &issued.key_pem)).unwrap()
}

fn contents(plan: &Plan) -> Vec<String> {
    let text = |content: &Content| match content {
        Content::Bytes(bytes) => String::from_utf8(bytes.expose().to_vec()).unwrap(),
        other => panic!("{other:?}"),
    };
    plan.files.iter().map(|file| text(&file.content)).collect()
}

#[test]
fn one_file_and_nothing_to_tell() {
    let settings = FilesSettings::new([FileSetting::new("/t/www.pem", FileContent::Combined)]);
    assert_eq!(plan_text(&plan(&settings, &issue())), "front, replace, 3 backups\n/t/www.pem: combined\nverify: NotConfigured\n");
}

#[test]
fn the_plan_of_all_settings_switches_chains_first_and_keys_last() {
    let names = [
        ("combined", FileContent::Combined),
        ("key", FileContent::Key),
        ("fullchain", FileContent::Fullchain),
        ("leaf", FileContent::Leaf),
        ("chain", FileContent::Chain),
    ];
    let file = |(name, content)| FileSetting::new(PathBuf::from("/t/www/current").join(name), content);
    let mut settings = FilesSettings::new(names.map(file));
    settings.files[1].owner = Some("root".into());
    settings.files[1].group = Some("ssl-cert".into());
    settings.files[1].mode = Some(Mode::new(0o440));
    settings.validate = CommandSetting::new(&["server", "--check"]);
    settings.reload = ReloadSetting::Systemd(SystemdReload::new("server"));
    settings.restart = Some(CommandSetting::new(&["systemctl", "restart", "server"]));
    settings.layout = Layout::Generation("/t/www".into());
    settings.backups = 1;
    settings.verify = Some(vec![Endpoint::new("127.0.0.1:443")]);
    assert_eq!(
        plan_text(&plan(&settings, &issue())),
        "front, generations in /t/www, 1 backups\n\
         /t/www/current/chain: chain\n\
         /t/www/current/fullchain: fullchain\n\
         /t/www/current/leaf: leaf\n\
         /t/www/current/combined: combined\n\
         /t/www/current/key: key, owner root, group ssl-cert, mode 0440\n\
         validate: server --check\n\
         reload: systemctl reload server\n\
         restart: systemctl restart server\n\
         verify: 127.0.0.1:443 (no SNI), within 15s\n"
    );
    let target = FilesTarget::new("front", settings);
    let destinations = target.destinations();
    assert_eq!((destinations.len(), destinations[0].as_path()), (6, "/t/www".as_ref()));
}

#[test]
fn m6_each_file_gets_what_its_content_says() {
    let issued = issue();
    let mut settings = FilesSettings::new([
        FileSetting::new("/t/chain", FileContent::Chain),
        FileSetting::new("/t/leaf", FileContent::Leaf),
        FileSetting::new("/t/fullchain", FileContent::Fullchain),
        FileSetting::new("/t/key", FileContent::Key),
        FileSetting::new("/t/default", FileContent::Combined),
        FileSetting::new("/t/other", FileContent::Combined),
        FileSetting::new("/t/short", FileContent::Combined),
    ]);
    settings.files[5].order = Some(vec![Block::Leaf, Block::Key, Block::Chain]);
    settings.files[6].order = Some(vec![Block::Leaf, Block::Key]);
    let Issued { leaf_pem, chain_pem, fullchain_pem, key_pem, .. } = &issued;
    let expected = [
        chain_pem.clone(),
        leaf_pem.clone(),
        fullchain_pem.clone(),
        key_pem.clone(),
        format!("{key_pem}{leaf_pem}{chain_pem}"),
        format!("{leaf_pem}{key_pem}{chain_pem}"),
        format!("{leaf_pem}{key_pem}"),
    ];
    assert_eq!(contents(&plan(&settings, &issued)), expected.map(|text| text.replace('\r', "")));
}

#[test]
fn m6_a_chain_file_without_intermediates_is_refused_and_named() {
    let issued = issue();
    let settings = FilesSettings::new([FileSetting::new("/t/www.chain", FileContent::Chain)]);
    let alone = certificate(&issued.leaf_pem, &issued.key_pem);
    let error = FilesTarget::new("front", settings).plan(&alone).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MaterialRejected);
    assert!(error.to_string().contains("/t/www.chain"), "{error}");
}
