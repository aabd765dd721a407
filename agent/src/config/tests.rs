#![allow(clippy::disallowed_methods, reason = "tests write the files that they read")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use deploy_core::host::Local;
use deploy_core::{
    Capabilities, Certificate, Connector, Context, Deployment, Error, ErrorKind, Hooks, Recovery, Registry, Reload, ReloadCall,
    Remote, Route, SettingError, Target,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::*;

/// A connector with a little of everything.
#[derive(Debug)]
struct Fake;

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FakeSettings {
    fullchain: PathBuf,
    #[serde(default)]
    backups: usize,
    #[serde(default)]
    verify: Vec<FakeEndpoint>,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FakeEndpoint {
    connect: String,
    #[serde(default)]
    server_name: Option<String>,
}

#[async_trait]
impl Target for Fake {
    fn capabilities(&self) -> Capabilities {
        Self::CAPABILITIES
    }

    fn recovery(&self) -> Recovery {
        Recovery::Files(Hooks::new())
    }

    async fn prepare(&self, _: &Certificate, _: &Context) -> Result<Deployment, Error> {
        Err(Error::new(ErrorKind::Internal, "not in these tests"))
    }
}

impl Connector for Fake {
    const KIND: &'static str = "fake";
    const SUMMARY: &'static str = "For tests.";
    const CAPABILITIES: Capabilities = Capabilities::FILES;
    type Settings = FakeSettings;

    fn build(_: &str, settings: FakeSettings) -> Result<Box<dyn Target>, SettingError> {
        if settings.verify.iter().any(|endpoint| !endpoint.connect.contains(':')) {
            return Err(SettingError::new("verify[0].connect", "has no port"));
        }
        Ok(Box::new(Self))
    }
}

/// A way to other machines, which are this one.
#[derive(Debug)]
struct FakeWay;

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FakeWaySettings {
    host: String,
    #[serde(default)]
    port: u16,
}

impl Route for FakeWay {
    const KIND: &'static str = "way";
    const SUMMARY: &'static str = "For tests.";
    type Settings = FakeWaySettings;

    fn build(settings: FakeWaySettings) -> Result<Remote, SettingError> {
        if settings.host.is_empty() {
            return Err(SettingError::new("host", "is empty"));
        }
        Ok(Remote::new(Arc::new(Local::new()), format!("/state/{}/{}", settings.host, settings.port)))
    }
}

/// A kind that is told by a call.
#[derive(Debug)]
struct FakeApi;

#[derive(Debug)]
struct FakeCall;

#[async_trait]
impl ReloadCall for FakeCall {
    async fn apply(&self, _: &Context) -> Result<(), Error> {
        Ok(())
    }

    async fn undo(&self, _: &Context) -> Result<(), Error> {
        Ok(())
    }
}

#[async_trait]
impl Target for FakeApi {
    fn capabilities(&self) -> Capabilities {
        Self::CAPABILITIES
    }

    fn recovery(&self) -> Recovery {
        Recovery::Files(Hooks::new().with_reload(Reload::Call(Arc::new(FakeCall))))
    }

    async fn prepare(&self, _: &Certificate, _: &Context) -> Result<Deployment, Error> {
        Err(Error::new(ErrorKind::Internal, "not in these tests"))
    }
}

impl Connector for FakeApi {
    const KIND: &'static str = "fake-api";
    const SUMMARY: &'static str = "For tests.";
    const CAPABILITIES: Capabilities = Capabilities::FILES;
    type Settings = FakeSettings;

    fn build(_: &str, _: FakeSettings) -> Result<Box<dyn Target>, SettingError> {
        Ok(Box::new(Self))
    }
}

/// A kind for other machines only, which says which file it writes.
#[derive(Debug)]
struct Elsewhere(PathBuf);

#[async_trait]
impl Target for Elsewhere {
    fn capabilities(&self) -> Capabilities {
        Self::CAPABILITIES
    }

    fn recovery(&self) -> Recovery {
        Recovery::Files(Hooks::new())
    }

    fn destinations(&self) -> Vec<PathBuf> {
        vec![self.0.clone()]
    }

    async fn prepare(&self, _: &Certificate, _: &Context) -> Result<Deployment, Error> {
        Err(Error::new(ErrorKind::Internal, "not in these tests"))
    }
}

impl Connector for Elsewhere {
    const KIND: &'static str = "elsewhere";
    const SUMMARY: &'static str = "For tests.";
    const CAPABILITIES: Capabilities = Capabilities::FILES;
    const NEEDS_ROUTE: bool = true;
    type Settings = FakeSettings;

    fn build(_: &str, settings: FakeSettings) -> Result<Box<dyn Target>, SettingError> {
        Ok(Box::new(Self(settings.fullchain)))
    }
}

const CERTIFICATE: &str = "[[certificate]]\nname = \"www\"\nfullchain = \"/c\"\nkey = \"/k\"\n";

fn load_from(directory: &Path) -> Result<Configuration, ConfigurationError> {
    let registry = Registry::new().with::<Fake>().with::<FakeApi>().with::<Elsewhere>().with_route::<FakeWay>();
    load(&directory.join("certdeploy.toml"), &registry, &Local::new())
}

fn load_text(text: &str) -> Result<Configuration, ConfigurationError> {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("certdeploy.toml"), text).unwrap();
    load_from(directory.path())
}

/// The problems of a configuration as `line:column: message`, with the certificate of line 1 to 4 in front.
fn problems(target: &str) -> Vec<String> {
    let error = load_text(&format!("{CERTIFICATE}{target}")).unwrap_err();
    let show = |problem: &Problem| {
        let (line, column) = problem.position.unwrap_or((0, 0));
        format!("{line}:{column}: {}", problem.message)
    };
    error.problems.iter().map(show).collect()
}

fn target(more: &str) -> String {
    format!("[[target]]\nname = \"front\"\nkind = \"fake\"\ncertificate = \"www\"\nfullchain = \"/etc/x\"\n{more}\n")
}

#[test]
fn a_right_configuration_is_taken() {
    let more = "service = \"web\"\ntimeout = \"90s\"\nbackups = 5\nverify = [{ connect = \"a:1\" }]";
    let configuration = load_text(&format!("{CERTIFICATE}{}[agent]\nconcurrency = 3\n", target(more))).unwrap();
    let [front] = configuration.targets.as_slice() else { panic!("{configuration:?}") };
    assert_eq!((front.name.as_str(), front.kind.as_str(), front.certificate.as_str()), ("front", "fake", "www"));
    assert_eq!((front.service.as_deref(), front.timeout), (Some("web"), Some(Duration::from_secs(90))));
    assert_eq!(configuration.agent.concurrency.get(), 3);
    assert!(configuration.warnings.is_empty(), "{:?}", configuration.warnings);
}

#[test]
fn a7_unknown_fields_are_refused_with_line_column_and_nearest_name() {
    assert_eq!(problems(&target("bakups = 5")), ["10:1: unknown field `bakups`; did you mean `backups`?"]);
    assert_eq!(problems(&target("certficate = \"x\"")), ["10:1: unknown field `certficate`; did you mean `certificate`?"]);
    let nested = target("verify = [{ connect = \"a:1\" }, { conect = \"a:1\" }]");
    assert_eq!(problems(&nested), ["10:34: unknown field `conect`; did you mean `connect`?"]);
    let table = target("[[target.verify]]\nconnect = \"a:1\"\nserver_nam = \"b\"");
    assert_eq!(problems(&table), ["12:1: unknown field `server_nam`; did you mean `server_name`?"]);
    assert_eq!(problems("[[targets]]\n"), ["5:3: unknown field `targets`; did you mean `target`?"]);
    let certificate = format!("[[certificate]]\nname = \"b\"\nfulchain = \"/c\"\nkey = \"/k\"\n{}", target(""));
    assert_eq!(problems(&certificate), ["7:1: unknown field `fulchain`; did you mean `fullchain`?"]);
    let own = target("").replace("certificate =", "certifcate =");
    assert_eq!(problems(&own), ["8:1: unknown field `certifcate`; did you mean `certificate`?"]);
    assert_eq!(
        problems(&format!("{}[agent]\nstatedir = \"/x\"", target(""))),
        ["12:1: unknown field `statedir`; did you mean `state_dir`?"]
    );
}

#[test]
fn wrong_types_are_refused_with_line_and_column() {
    assert_eq!(problems(&target("backups = \"many\"")), ["10:11: `backups`: invalid type: string \"many\", expected usize"]);
    let nested = target("verify = [{ connect = 5 }]");
    assert_eq!(problems(&nested), ["10:23: `verify[0].connect`: invalid type: integer `5`, expected a string"]);
    assert_eq!(problems(&target("timeout = \"soon\"")).len(), 1);
    assert!(problems(&target("timeout = \"soon\""))[0].starts_with("10:11: `timeout`: `soon` is not a length of time"));
    assert_eq!(problems("[target]\nname = \"x\"\n"), ["5:2: `target` is a list: write [[target]]"]);
    let scalars = load_text("target = [5]").unwrap_err();
    assert_eq!(
        (scalars.problems[0].position, scalars.problems[0].message.as_str()),
        (Some((1, 11)), "`target` is a list of tables: write [[target]]")
    );
}

#[test]
fn what_the_connector_finds_has_its_place() {
    assert_eq!(problems(&target("verify = [{ connect = \"a\" }]")), ["10:23: `verify[0].connect`: has no port"]);
}

#[test]
fn broken_toml_is_refused_with_line_and_column() {
    let found = problems("[[target]]\nname = front\n");
    assert!(found[0].starts_with("6:8: "), "{found:?}");
}

#[test]
fn missing_fields_are_named() {
    assert_eq!(
        problems("[[target]]\nkind = \"fake\"\ncertificate = \"www\"\n"),
        ["5:1: missing field `fullchain`", "5:1: missing field `name`"]
    );
}

#[test]
fn a7_placeholders_are_refused_where_they_stand() {
    assert_eq!(
        problems(&target("verify = [{ connect = \"<host>:443\" }]")),
        ["10:23: `verify[0].connect`: `<host>:443` is a placeholder: write the real value"]
    );
    assert_eq!(problems("[[certificate]]\nname = \"changeme\"\nfullchain = \"/c\"\nkey = \"********\"\n").len(), 3);
}

#[test]
fn unknown_kinds_and_certificates_name_the_nearest() {
    let wrong = |from: &str, to: &str| problems(&target("").replace(from, to));
    assert_eq!(wrong("\"fake\"", "\"fke\""), ["7:8: `kind`: there is no kind `fke`; did you mean `fake`?"]);
    assert_eq!(wrong("\"www\"", "\"wwww\""), ["8:15: there is no certificate `wwww`; did you mean `www`?"]);
    let found = wrong("\"fake\"", "\"nginx\"");
    assert_eq!(found, ["7:8: `kind`: kind `nginx` is not built in: this certdeploy was built without the feature `nginx`"]);
}

#[test]
fn names_are_unique_and_can_be_file_names() {
    assert_eq!(problems(&(target("") + &target(""))), ["12:8: `name`: another target has this name"]);
    let other = target("").replace("front", "Front");
    assert_eq!(problems(&(target("") + &other)), ["12:8: `name`: the name differs from `front` in case only"]);
    assert_eq!(problems(&format!("{CERTIFICATE}{}", target(""))), ["6:8: `name`: another certificate has this name"]);
    for bad in ["", ".x", "a/b", "a b", &"x".repeat(65)] {
        let found = problems(&target("").replace("front", bad));
        assert!(found.len() == 1 && found[0].starts_with("6:8: `name`: a target's name is"), "{bad:?}: {found:?}");
    }
}

#[test]
fn what_is_relative_is_refused() {
    let relative = format!("[[certificate]]\nname = \"b\"\nfullchain = \"c\"\nkey = \"/k\"\n{}", target(""));
    assert_eq!(problems(&relative), ["7:13: `fullchain`: c is not an absolute path"]);
}

#[test]
fn targets_with_one_via_share_a_machine_and_its_state_directory() {
    let via = |name: &str, file: &str, host: &str| {
        let via = format!("via = {{ way = {{ host = \"{host}\" }} }}");
        target(&via).replace("front", name).replace("/etc/x", file)
    };
    let text = [via("a", "/1", "web1"), via("b", "/2", "web1"), via("c", "/1", "web2"), target("")].concat();
    let configuration = load_text(&format!("{CERTIFICATE}{text}")).unwrap();
    let machines: Vec<_> = configuration.targets.iter().map(|target| target.machine.as_ref()).collect();
    let state = |index: usize| machines[index].map(|machine: &Machine| machine.remote.state_directory.clone());
    assert_eq!((state(0), state(3)), (Some(PathBuf::from("/state/web1/0")), None));
    let host = |index: usize| machines[index].map(|machine| Arc::as_ptr(&machine.remote.host).cast::<()>());
    assert!(machines[0] == machines[1] && host(0) == host(1));
    assert!(machines[0] != machines[2] && host(0) != host(2));
}

#[test]
fn what_is_wrong_with_a_via_is_said_with_its_place() {
    assert_eq!(
        problems(&target("via = \"web1\"")),
        ["10:7: `via`: name one way to the machine: via = { ssh = { host = \"web1\" } }"]
    );
    assert_eq!(
        problems(&target("via = { wey = { host = \"a\" } }")),
        ["10:15: `via.wey`: there is no way `wey`; did you mean `way`?"]
    );
    assert_eq!(problems(&target("via = { way = { hots = \"a\" } }")), ["10:17: unknown field `hots`; did you mean `host`?"]);
    assert_eq!(problems(&target("via = { way = { host = \"\" } }")), ["10:24: `via.way.host`: is empty"]);
    assert_eq!(problems(&target("[target.via.way]\nhost = \"a\"\nport = \"b\"")).len(), 1);
}

#[test]
fn a_target_that_would_be_told_from_here_is_on_no_other_machine() {
    let call = target("via = { way = { host = \"web1\" } }").replace("\"fake\"", "\"fake-api\"");
    let found = problems(&call);
    assert!(found.len() == 1 && found[0].contains("`via`: the kind `fake-api` is told by a call"), "{found:?}");
    assert!(load_text(&format!("{CERTIFICATE}{}", target("").replace("\"fake\"", "\"fake-api\""))).is_ok());
}

#[test]
fn a_kind_for_other_machines_needs_a_via() {
    let elsewhere = |more: &str| target(more).replace("\"fake\"", "\"elsewhere\"");
    let found = problems(&elsewhere(""));
    assert!(found.len() == 1 && found[0].contains("the kind `elsewhere` is for other machines"), "{found:?}");
    assert!(load_text(&format!("{CERTIFICATE}{}", elsewhere("via = { way = { host = \"web1\" } }"))).is_ok());
}

#[test]
fn two_targets_on_one_other_machine_do_not_write_one_file() {
    let via = |name: &str, file: &str, host: &str| {
        let via = format!("via = {{ way = {{ host = \"{host}\" }} }}");
        target(&via).replace("front", name).replace("/etc/x", file).replace("\"fake\"", "\"elsewhere\"")
    };
    let found = problems(&(via("a", "/1/x", "web1") + &via("b", "/1/./x", "web1")));
    assert!(found.len() == 1 && found[0].contains("targets `a` and `b` write one file"), "{found:?}");
    assert!(load_text(&format!("{CERTIFICATE}{}{}", via("a", "/1/x", "web1"), via("b", "/1/x", "web2"))).is_ok());
}

#[test]
fn all_problems_are_shown_together_in_their_order() {
    let found = problems(&(target("bakups = 5\nverfy = []") + &target("").replace("www", "nothing").replace("front", "back")));
    let places: Vec<_> = found.iter().map(|problem| problem.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["10:1", "11:1", "15:15"], "{found:?}");
}

#[test]
fn a_configuration_without_targets_is_refused() {
    assert_eq!(problems(""), ["0:0: there is no [[target]]: nothing would be deployed"]);
}

#[test]
fn a_missing_file_says_so_and_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let error = load_from(directory.path()).unwrap_err();
    assert!(error.to_string().ends_with("certdeploy.toml: there is no such file"), "{error}");
    assert!(error.next_step().contains("--config PATH"));
}

#[test]
fn fragments_are_read_in_the_order_of_their_names_and_say_where_they_are_wrong() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("certdeploy.d")).unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write("certdeploy.toml", &target("").replace("front", "main"));
    write("certdeploy.d/20.toml", CERTIFICATE);
    write("certdeploy.d/10.toml", &target(""));
    write("certdeploy.d/.10.toml", "hidden");
    write("certdeploy.d/notes.txt", "not TOML");
    let configuration = load_from(directory.path()).unwrap();
    let names: Vec<_> = configuration.targets.iter().map(|target| target.name.as_str()).collect();
    assert_eq!(names, ["main", "front"]);
    assert_eq!(configuration.files.len(), 3);

    write("certdeploy.d/20.toml", &CERTIFICATE.replace("key =", "ky ="));
    let error = load_from(directory.path()).unwrap_err();
    let wanted = "certdeploy.d/20.toml:4:1: certificate `www`: unknown field `ky`; did you mean `key`?";
    assert!(error.to_string().ends_with(wanted), "{error}");
    assert!(error.problems.iter().all(|problem| problem.file.ends_with("20.toml")), "no follow-up errors: {error}");
}

#[test]
fn an_unused_certificate_is_a_warning() {
    let configuration = load_text(&format!("{CERTIFICATE}{}{}", CERTIFICATE.replace("www", "other"), target(""))).unwrap();
    assert_eq!(configuration.warnings[0].message, "no target uses certificate `other`");
}

#[test]
fn targets_of_one_certificate_share_its_source() {
    let configuration = load_text(&format!("{CERTIFICATE}{}{}", target(""), target("").replace("front", "back"))).unwrap();
    assert!(Arc::ptr_eq(&configuration.targets[0].source, &configuration.targets[1].source));
}
