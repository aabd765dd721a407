//! Uploads in parts, with the stand-in of the integration tests.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../tests/big_ip/mod.rs"]
mod big_ip;

use deploy_core::Context;

use crate::F5Settings;
use crate::client::Api;
use crate::material::{Object, ObjectKind};
use big_ip::{ADMINISTRATOR, BigIp};

#[tokio::test]
async fn long_upload_goes_to_a_stand_in_in_parts_that_follow_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let big_ip = BigIp::start(directory.path());
    let password = format!("file:{}", big_ip.password_file.display()).parse().unwrap();
    let mut settings = F5Settings::new(big_ip.url(), ADMINISTRATOR, password);
    settings.ca_file = Some(big_ip.ca_file.clone());
    let api = Api::new(&settings, &Context::new(directory.path().join("state"), deploy_testkit::provider())).unwrap();
    let content: Vec<u8> = (0..=255).collect();
    for (chunk, ranges) in
        [(256, vec!["0-255/256"]), (255, vec!["0-254/256", "255-255/256"]), (100, vec!["0-99/256", "100-199/256", "200-255/256"])]
    {
        big_ip.stand_in().record().clear();
        let object = Object {
            kind: ObjectKind::Certificate,
            partition: "Common".to_owned(),
            name: "a.crt".to_owned(),
            content: content.clone().into(),
        };
        api.upload_in_chunks(&object, chunk).await.unwrap();
        let sent = big_ip.stand_in().record().exchanges();
        let sent: Vec<&str> = sent.iter().filter_map(|exchange| exchange.request.header("content-range")).collect();
        assert_eq!(sent, ranges);
        assert_eq!(big_ip.with(|device| device.downloads[&api.upload_name(&object)].clone()), content);
    }
    api.log_out().await.unwrap();
}
