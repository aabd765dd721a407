//! The configuration of docs/postfix.md as it stands there, with a real Postfix.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that starts a real Postfix")]

mod server;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use deploy_core::command::Command;
use deploy_core::secret::SecretBytes;
use deploy_core::{Certificate, Context, Job, Look, Outcome, Registry, Report, deploy};
use deploy_postfix::Postfix;
use deploy_testkit::{Authority, Issued, Request, observe, own_addresses, provider};

use crate::server::{Server, can_start};

const NAME: &str = "mail.example.com";

/// The code block of the page that begins with this.
fn block(opening: &str) -> String {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/postfix.md")).unwrap();
    let (_, rest) = page.split_once(&format!("```{opening}\n")).unwrap_or_else(|| panic!("the page has no {opening}"));
    rest.split("```").next().unwrap().to_owned()
}

async fn deploy_as_pasted(text: &str, issued: &Issued, context: &Context) -> Report {
    let mut target = toml::from_str::<toml::Table>(text).unwrap()["target"][0].as_table().unwrap().clone();
    assert_eq!(target.remove("kind").unwrap().as_str(), Some("postfix"));
    ["name", "certificate"].iter().for_each(|field| drop(target.remove(*field).unwrap()));
    let settings = serde_json::to_value(target).unwrap();
    let target = Registry::new().with::<Postfix>().get("postfix").unwrap().build("postfix", settings).unwrap();
    let key = SecretBytes::from(issued.key_pem.as_bytes());
    let certificate = Certificate::from_pem(issued.fullchain_pem.as_bytes(), &key).unwrap();
    deploy(&[Job::new("postfix", "postfix", Arc::from(target), Arc::new(certificate))], context).await.remove(0)
}

#[tokio::test]
async fn three_ports_of_the_page_live_through_a_renewal() {
    if !can_start() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("world");
    fs::create_dir(&directory).unwrap();
    let server = Server::prepare(&directory).unwrap();
    let tls = directory.join("tls").display().to_string();
    let [submission, submissions] = own_addresses();

    let services = block("ini master.cf");
    let services = services.replace("submission inet", &format!("{submission} inet"));
    server.add_services(&services.replace("submissions inet", &format!("{submissions} inet"))).unwrap();
    server.configure("wanted.cf", &block("ini main.cf").replace("/etc/postfix/tls", &tls)).unwrap();
    server.run("start", "wanted.cf").unwrap();

    let mut text = block("toml").replace("/etc/postfix/tls", &tls);
    for (port, address) in [("25", server.smtp), ("465", submissions), ("587", submission)] {
        text = text.replace(&format!("\"127.0.0.1:{port}\""), &format!("\"{address}\""));
    }
    // The default is `postfix reload`, for the Postfix of the machine.
    text += &format!("reload = {:?}\n", server.command("reload", "wanted.cf"));
    let context = Context::new(root.path().join("state"), provider());
    let authority = Authority::new();
    for _ in 0..2 {
        let issued = authority.issue(&Request::new(&[NAME]));
        let report = deploy_as_pasted(&text, &issued, &context).await;
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}\n{}", server.log());
        assert_eq!(observe::served_fingerprint(submissions, Some(NAME)).as_ref(), Ok(&issued.fingerprint));
        assert_eq!(deploy_as_pasted(&text, &issued, &context).await.outcome, Outcome::Unchanged);
    }
}

#[test]
fn what_postfix_shows_of_its_configuration_is_understood() {
    let root = tempfile::tempdir().unwrap();
    let names = "mydomain = example.com\nmyhostname = mail.$mydomain\n";
    server::write_old(&root.path().join("main.cf"), &(block("ini main.cf") + names)).unwrap();
    let context = Context::new(root.path().join("state"), provider());
    let command = Command::new(["postconf", "-x", "-c", root.path().to_str().unwrap()]);
    let look = Look::new(&context).with_command(command);
    let found = Registry::new().with::<Postfix>().get("postfix").unwrap().discover(&look).unwrap();
    let [found] = &found[..] else { panic!("{found:?}") };
    assert_eq!(found.names, [NAME]);
    let expected = serde_json::json!({
        "chain_file": "/etc/postfix/tls/mail.pem",
        "verify": [{ "connect": "127.0.0.1:25", "server_name": NAME, "starttls": "smtp" }],
    });
    assert_eq!(serde_json::Value::Object(found.settings.clone()), expected);
}
