//! Each source of credentials, with a stand-in for what gives them out, built from AWS's documentation.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use deploy_aws::{AccessKey, Credentials, Login, Role};
use deploy_core::secret::{SecretRef, SecretString};
use deploy_core::{Context, Error, ErrorKind, Retry};
use deploy_testkit::provider;
use deploy_testkit::stand_in::{Answer, Fault, HttpRequest, StandIn};
use tempfile::TempDir;

const REGION: &str = "eu-central-1";
const LATER: &str = "2099-01-02T03:04:05Z";

/// A home directory, variables, and one server that stands in for everything that gives out credentials.
struct World {
    home: TempDir,
    variables: BTreeMap<String, String>,
    stand_in: StandIn<()>,
    login: Login,
}

impl World {
    fn new() -> Self {
        let home = TempDir::new().unwrap();
        fs::create_dir_all(home.path().join(".aws/sso/cache")).unwrap();
        let stand_in = StandIn::start_plain((), answer);
        let mut world = Self { home, variables: BTreeMap::new(), stand_in, login: Login::default() };
        let (home, url) = (world.home.path().display().to_string(), world.stand_in.url());
        world.set("HOME", &home);
        for service in ["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL_SSO", "AWS_EC2_METADATA_SERVICE_ENDPOINT"] {
            world.set(service, &url);
        }
        world.set("AWS_EC2_METADATA_DISABLED", "true");
        world
    }

    fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    fn unset(&mut self, name: &str) {
        self.variables.remove(name);
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.home.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn config(&self, text: &str) {
        self.write(".aws/config", text, 0o600);
    }

    fn context(&self) -> Context {
        let variables = self.variables.clone();
        Context::new(self.home.path().join("state"), provider())
            .with_variables(move |name| variables.get(name).cloned().map(SecretString::from))
    }

    async fn find(&self) -> Result<Credentials, Error> {
        self.login.credentials(REGION, &self.context()).await
    }

    /// Whose key was found, and until when it is good.
    async fn found(&self) -> (String, Option<String>) {
        let credentials = self.find().await.unwrap_or_else(|error| panic!("{}", error.full_message()));
        let expires = credentials.expires().map(|time| humantime::format_rfc3339_seconds(time).to_string());
        (credentials.access_key_id().to_owned(), expires)
    }

    async fn refused(&self) -> Error {
        let error = self.find().await.unwrap_err();
        let shown = format!("{error:?} {}", error.full_message());
        assert!(!shown.contains("canary"), "{shown}");
        error
    }
}

/// Strict: every path, method, header and field is what the documentation says, or the answer is an error.
fn answer(request: &HttpRequest, (): &mut ()) -> Answer {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let header = |name: &str| request.header(name).unwrap_or_default();
    match (request.method.as_str(), path) {
        ("PUT", "/latest/api/token") => match header("x-aws-ec2-metadata-token-ttl-seconds").parse::<u32>() {
            Ok(1..=21_600) if request.body.is_empty() => Answer::new(200).with_body("imds-canary-token"),
            _ => Answer::new(400),
        },
        ("GET", path) if path.starts_with("/latest/meta-data/") && header("x-aws-ec2-metadata-token") != "imds-canary-token" => {
            Answer::new(401)
        }
        ("GET", "/latest/meta-data/iam/security-credentials/") => Answer::new(200).with_body("the-role"),
        ("GET", "/latest/meta-data/iam/security-credentials/the-role") => Answer::new(200).with_body(document("ASIAINSTANCE")),
        ("GET", "/v2/credentials/task" | "/slash/") => match header("authorization") {
            "container-canary" => Answer::new(200).with_body(document("ASIACONTAINER")),
            _ => Answer::new(401).with_body(r#"{"message":"who is that"}"#),
        },
        ("GET", "/federation/credentials") => match (header("x-amz-sso_bearer_token"), query) {
            ("sso-canary-token", "role_name=Admin&account_id=123456789012") => Answer::new(200).with_body(
                r#"{"roleCredentials":{"accessKeyId":"ASIASSO","secretAccessKey":"sso-canary","sessionToken":"t","expiration":4071006245000}}"#,
            ),
            ("sso-canary-token", _) => Answer::new(403).with_body(r#"{"message":"No access"}"#),
            _ => Answer::new(401).with_body(r#"{"message":"Session token not found or invalid"}"#),
        },
        ("POST", "/") => sts(request),
        _ => Answer::new(404),
    }
}

fn document(id: &str) -> String {
    format!(
        r#"{{"Code":"Success","LastUpdated":"2026-11-30T00:00:00Z","Type":"AWS-HMAC","AccessKeyId":"{id}",
            "SecretAccessKey":"canary","Token":"canary-token","Expiration":"{LATER}"}}"#
    )
}

fn sts(request: &HttpRequest) -> Answer {
    let form: BTreeMap<String, String> = form(&request.body);
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    if field("Version") != "2011-06-15"
        || !request.header("content-type").unwrap_or_default().starts_with("application/x-www-form-urlencoded")
    {
        return refusal(400, "InvalidAction", "not the version that there is");
    }
    let authorization = request.header("authorization").unwrap_or_default();
    let (id, key) = match field("Action") {
        "AssumeRoleWithWebIdentity" if !authorization.is_empty() => return refusal(400, "InvalidAction", "it is not signed"),
        "AssumeRoleWithWebIdentity" if field("WebIdentityToken") != "web-canary+token/=" => {
            return refusal(400, "InvalidIdentityToken", "No OpenIDConnect provider found");
        }
        "AssumeRoleWithWebIdentity" => ("WithWebIdentity", "WEB"),
        "AssumeRole" => {
            let scope = "/eu-central-1/sts/aws4_request, SignedHeaders=content-type;host;x-amz-date";
            if !authorization.starts_with("AWS4-HMAC-SHA256 Credential=") || !authorization.contains(scope) {
                return refusal(403, "IncompleteSignature", "signed for something else");
            }
            if field("RoleArn").ends_with("/closed") && field("ExternalId") != "them" {
                return refusal(403, "AccessDenied", "is not authorized to perform: sts:AssumeRole on resource");
            }
            ("", authorization.split(['=', '/']).nth(1).unwrap())
        }
        _ => return refusal(400, "InvalidAction", "unknown"),
    };
    let role = field("RoleArn").rsplit('/').next().unwrap();
    Answer::new(200).with_header("Content-Type", "text/xml").with_body(format!(
        r#"<AssumeRole{id}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRole{id}Result>
    <AssumedRoleUser><AssumedRoleId>AROA:{session}</AssumedRoleId><Arn>arn:aws:sts::123456789012:assumed-role/{role}/{session}</Arn></AssumedRoleUser>
    <Credentials><AccessKeyId>{key}>{role}:{session}</AccessKeyId><SecretAccessKey>canary</SecretAccessKey>
      <SessionToken>canary-token</SessionToken><Expiration>{LATER}</Expiration></Credentials>
  </AssumeRole{id}Result>
  <ResponseMetadata><RequestId>c6104cbe</RequestId></ResponseMetadata>
</AssumeRole{id}Response>"#,
        session = field("RoleSessionName"),
    ))
}

fn refusal(status: u16, code: &str, message: &str) -> Answer {
    Answer::new(status).with_body(format!(
        r#"<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error><RequestId>c6104cbe</RequestId></ErrorResponse>"#
    ))
}

fn form(body: &[u8]) -> BTreeMap<String, String> {
    form_urlencoded::parse(body).into_owned().collect()
}

fn until_later(id: &str) -> (String, Option<String>) {
    (id.to_owned(), Some(LATER.to_owned()))
}

fn for_good(id: &str) -> (String, Option<String>) {
    (id.to_owned(), None)
}

#[tokio::test]
async fn settings_come_before_everything() {
    let mut world = World::new();
    world.set("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT");
    world.set("AWS_SECRET_ACCESS_KEY", "canary");
    let secret = world.write("secret", "canary\n", 0o600);
    world.login.access_key = Some(AccessKey::new("AKIASETTINGS", SecretRef::File(secret)));
    assert_eq!(world.found().await, for_good("AKIASETTINGS"));
}

#[tokio::test]
async fn environment_comes_before_profiles_unless_the_settings_name_one() {
    let mut world = World::new();
    world.set("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT");
    world.set("AWS_SECRET_ACCESS_KEY", "canary");
    world.config("[profile p]\naws_access_key_id = AKIAPROFILE\naws_secret_access_key = canary\n");
    world.set("AWS_PROFILE", "p");
    assert_eq!(world.found().await, for_good("AKIAENVIRONMENT"));
    world.login.profile = Some("p".to_owned());
    assert_eq!(world.found().await, for_good("AKIAPROFILE"));
    world.login.profile = Some("q".to_owned());
    let error = world.refused().await;
    assert_eq!(error.kind(), ErrorKind::ConfigurationInvalid);
    assert!(error.to_string().contains("`q`"), "{error}");
}

#[tokio::test]
async fn profile_is_in_either_file_and_elsewhere() {
    let mut world = World::new();
    world.write(".aws/credentials", "[default]\naws_access_key_id=AKIADEFAULT\naws_secret_access_key=canary\n", 0o600);
    assert_eq!(world.found().await, for_good("AKIADEFAULT"));
    let elsewhere = world.write("elsewhere", "[other]\naws_access_key_id=AKIAOTHER\naws_secret_access_key=canary\n", 0o600);
    world.set("AWS_SHARED_CREDENTIALS_FILE", &elsewhere.display().to_string());
    world.set("AWS_PROFILE", "other");
    assert_eq!(world.found().await, for_good("AKIAOTHER"));
}

#[tokio::test]
async fn s5_files_that_others_can_read_or_change_are_refused() {
    let world = World::new();
    let secrets = "[default]\naws_access_key_id=AKIADEFAULT\naws_secret_access_key=canary\n";
    for (name, text, mode) in [("credentials", secrets, 0o644), ("config", secrets, 0o604), ("config", "[default]\n", 0o666)] {
        let path = world.write(&format!(".aws/{name}"), text, mode);
        let error = world.refused().await;
        assert_eq!(error.kind(), ErrorKind::ConfigurationInvalid, "{error}");
        assert!(error.next_step().starts_with("chmod 0600"), "{}", error.next_step());
        fs::remove_file(path).unwrap();
    }
}

#[tokio::test]
async fn region_is_found_where_the_sdks_find_it() {
    let mut world = World::new();
    let region = |world: &World| world.login.region(&world.context());
    let error = region(&world).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigurationInvalid);
    world.config("[default]\nregion = us-east-1\n[profile far]\nregion = cn-north-1\n");
    assert_eq!(region(&world).unwrap(), "us-east-1");
    world.login.profile = Some("far".to_owned());
    assert_eq!(region(&world).unwrap(), "cn-north-1");
    world.set("AWS_DEFAULT_REGION", "sa-east-1");
    assert_eq!(region(&world).unwrap(), "sa-east-1");
    world.set("AWS_REGION", "eu-west-1");
    assert_eq!(region(&world).unwrap(), "eu-west-1");
}

#[tokio::test]
async fn web_identity_is_exchanged_without_a_signature() {
    let mut world = World::new();
    let token = world.write("token", "web-canary+token/=\n", 0o644).display().to_string();
    world.set("AWS_WEB_IDENTITY_TOKEN_FILE", &token);
    world.set("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/pod");
    assert_eq!(world.found().await, until_later("WEB>pod:certdeploy"));
    world.set("AWS_ROLE_SESSION_NAME", "mine");
    assert_eq!(world.found().await, until_later("WEB>pod:mine"));
    world.write("token", "old-canary", 0o644);
    let error = world.refused().await;
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Unauthenticated, Retry::Never));
    assert!(error.to_string().contains("No OpenIDConnect provider found (InvalidIdentityToken, request c6104cbe)"), "{error}");
    world.write("token", "", 0o644);
    assert_eq!(world.refused().await.kind(), ErrorKind::ConfigurationInvalid);
    world.unset("AWS_WEB_IDENTITY_TOKEN_FILE");
    world.write("token", "web-canary+token/=", 0o600);
    world.config(&format!("[default]\nrole_arn=arn:aws:iam::123456789012:role/pod\nweb_identity_token_file={token}\n"));
    assert_eq!(world.found().await, until_later("WEB>pod:certdeploy"), "of a profile");
}

#[tokio::test]
async fn roles_are_assumed_one_with_the_other() {
    let mut world = World::new();
    world.config(
        "[profile base]\naws_access_key_id=AKIABASE\naws_secret_access_key=canary\n\
         [profile middle]\nrole_arn=arn:aws:iam::123456789012:role/middle\nsource_profile=base\nrole_session_name=m\n\
         [profile top]\nrole_arn=arn:aws:iam::123456789012:role/closed\nsource_profile=middle\nexternal_id=them\nduration_seconds=900\n\
         [profile round]\nrole_arn=arn:aws:iam::123456789012:role/a\nsource_profile=again\n\
         [profile again]\nrole_arn=arn:aws:iam::123456789012:role/b\nsource_profile=round\n\
         [profile alone]\nrole_arn=arn:aws:iam::123456789012:role/b\n\
         [profile asks]\nrole_arn=arn:aws:iam::123456789012:role/b\nsource_profile=base\nmfa_serial=x\n",
    );
    world.login.profile = Some("middle".to_owned());
    assert_eq!(world.found().await, until_later("AKIABASE>middle:m"));
    world.login.profile = Some("top".to_owned());
    assert_eq!(world.found().await, until_later("AKIABASE>middle:m>closed:certdeploy"));
    let exchanges = world.stand_in.record().exchanges();
    let fields = form(&exchanges.last().unwrap().request.body);
    assert_eq!(fields["DurationSeconds"], "900");
    assert_eq!(exchanges.last().unwrap().request.header("x-amz-security-token"), Some("canary-token"));
    for profile in ["round", "alone", "asks"] {
        world.login.profile = Some(profile.to_owned());
        assert_eq!(world.refused().await.kind(), ErrorKind::ConfigurationInvalid, "{profile}");
    }

    world.login.profile = Some("base".to_owned());
    world.login.role = Some(Role::new("arn:aws:iam::123456789012:role/closed"));
    let error = world.refused().await;
    assert_eq!((error.kind(), error.retry()), (ErrorKind::PermissionDenied, Retry::Never));
    assert!(error.to_string().contains("sts:AssumeRole"), "{error}");
    world.login.role.as_mut().unwrap().external_id = Some("them".to_owned());
    assert_eq!(world.found().await, until_later("AKIABASE>closed:certdeploy"));
}

#[tokio::test]
async fn role_of_a_profile_is_assumed_with_what_the_machine_has() {
    let mut world = World::new();
    let of = |source: &str| format!("[default]\nrole_arn=arn:aws:iam::123456789012:role/r\ncredential_source={source}\n");
    world.config(&of("Ec2InstanceMetadata"));
    world.unset("AWS_EC2_METADATA_DISABLED");
    assert_eq!(world.found().await, until_later("ASIAINSTANCE>r:certdeploy"));
    world.config(&of("EcsContainer"));
    world.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{}/v2/credentials/task", world.stand_in.url()));
    world.set("AWS_CONTAINER_AUTHORIZATION_TOKEN", "container-canary");
    assert_eq!(world.found().await, until_later("ASIACONTAINER>r:certdeploy"));
}

#[tokio::test]
async fn sso_token_is_exchanged_while_it_is_good() {
    let world = World::new();
    // SHA-1 of the session's name, and of the address.
    let (session, url) = ("ee0bfd2552fbd840c02cc48b6e823320543c450f", "320c065519a2fc37b0f28a1bd477dc924a630080");
    let cached = |name: &str, until: &str, mode| {
        let text = format!(r#"{{"startUrl":"x","region":"us-east-1","accessToken":"sso-canary-token","expiresAt":"{until}"}}"#);
        world.write(&format!(".aws/sso/cache/{name}.json"), &text, mode);
    };
    let login = "sso_account_id=123456789012\nsso_role_name=Admin\n";
    let address = "sso_region=us-east-1\nsso_start_url=https://corp.example.com/start\n";
    for (name, config) in [
        (session, format!("[default]\nsso_session=corp\n{login}[sso-session corp]\n{address}")),
        (url, format!("[default]\n{address}{login}")),
    ] {
        world.config(&config);
        let error = world.refused().await;
        assert!(error.next_step().contains("aws sso login"), "{}", error.next_step());
        cached(name, LATER, 0o600);
        assert_eq!(world.found().await, until_later("ASIASSO"));
        cached(name, "2020-06-17T10:02:08UTC", 0o600);
        assert!(world.refused().await.next_step().contains("aws sso login"));
        cached(name, LATER, 0o644);
        assert!(world.refused().await.next_step().starts_with("chmod 0600"));
    }
    cached(url, LATER, 0o600);
    world.config(&format!("[default]\n{address}{login}").replace("Admin", "Other"));
    let error = world.refused().await;
    assert_eq!((error.kind(), error.retry()), (ErrorKind::PermissionDenied, Retry::Never));
    world.stand_in.faults().inject(Fault::answer(Answer::new(401)).times(1));
    assert!(world.refused().await.next_step().contains("aws sso login"));
    world.config("[default]\nsso_session=none\nsso_account_id=1\nsso_role_name=a\n");
    assert_eq!(world.refused().await.kind(), ErrorKind::ConfigurationInvalid);
}

#[tokio::test]
async fn credential_process_is_run_without_a_shell() {
    let world = World::new();
    let program = |body: &str| {
        let path = world.write("program", &format!("#!/bin/sh\n{body}\n"), 0o700);
        world.config(&format!("[default]\ncredential_process = {} 'two words' \"$HOME\"\n", path.display()));
    };
    program(
        r#"test "$#-$1-$2" = '2-two words-$HOME' && test -n "$HOME" && echo '{"Version":1,"AccessKeyId":"AKIAPROCESS","SecretAccessKey":"canary","Expiration":"2099-01-02T03:04:05+00:00"}'"#,
    );
    assert_eq!(world.found().await, until_later("AKIAPROCESS"));
    for body in [
        r#"echo '{"Version":2,"AccessKeyId":"a","SecretAccessKey":"canary"}'"#,
        r#"echo '{"Version":1,"AccessKeyId":"a"}'"#,
        "echo canary",
        "echo canary; echo sorry >&2; exit 3",
    ] {
        program(body);
        let error = world.refused().await;
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{body}: {error}");
        assert!(!body.contains("sorry") || error.to_string().contains("exit status 3: sorry"), "{error}");
    }
    world.config("[default]\ncredential_process = 'no end\n");
    assert_eq!(world.refused().await.kind(), ErrorKind::ConfigurationInvalid);
}

#[tokio::test]
async fn container_gives_credentials_for_its_token() {
    let mut world = World::new();
    let url = world.stand_in.url();
    world.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{url}/v2/credentials/task"));
    let error = world.refused().await;
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Unauthenticated, Retry::Never));
    world.set("AWS_CONTAINER_AUTHORIZATION_TOKEN", "container-canary");
    assert_eq!(world.found().await, until_later("ASIACONTAINER"));
    world.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{url}/slash/"));
    assert_eq!(world.found().await, until_later("ASIACONTAINER"), "a slash at the end stays");
    let file = world.write("eks-token", "old-canary\n", 0o640);
    world.set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &file.display().to_string());
    assert_eq!(world.refused().await.kind(), ErrorKind::Unauthenticated, "the file counts more");
    world.write("eks-token", "container-canary\n", 0o640);
    assert_eq!(world.found().await, until_later("ASIACONTAINER"), "it is read anew");
    world.write("eks-token", "container-canary\r\nhost: x", 0o640);
    assert_eq!(world.refused().await.kind(), ErrorKind::ConfigurationInvalid);
}

#[tokio::test]
async fn p9_container_token_is_sent_in_the_clear_to_this_machine_and_the_one_below_only() {
    let mut world = World::new();
    world.set("AWS_CONTAINER_AUTHORIZATION_TOKEN", "container-canary");
    world.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://192.0.2.1/v2/credentials/task");
    let error = world.refused().await;
    assert_eq!(error.kind(), ErrorKind::ConfigurationInvalid);
}

#[tokio::test]
async fn instance_gives_credentials_by_version_2() {
    let mut world = World::new();
    world.unset("AWS_EC2_METADATA_DISABLED");
    assert_eq!(world.found().await, until_later("ASIAINSTANCE"));
    assert_eq!(
        world.stand_in.record().lines(),
        [
            "PUT /latest/api/token 200",
            "GET /latest/meta-data/iam/security-credentials/ 200",
            "GET /latest/meta-data/iam/security-credentials/the-role 200",
        ]
    );
    let role = "/latest/meta-data/iam/security-credentials/the-role";
    let body = r#"{"Code":"AssumeRoleUnauthorizedAccess","Message":"EC2 cannot assume the role the-role."}"#;
    world.stand_in.faults().inject(Fault::answer(Answer::new(200).with_body(body)).below(role).times(1));
    let error = world.refused().await;
    assert!(error.to_string().contains("EC2 cannot assume the role"), "{error}");
    // An instance without a role, something else at the address, and nobody.
    for (path, status) in [("/latest/meta-data/iam", 404), ("/latest/api", 403), ("/latest/api", 405)] {
        world.stand_in.faults().inject(Fault::answer(Answer::new(status)).below(path).times(1));
        let error = world.refused().await;
        assert!(error.to_string().starts_with("there are no AWS credentials"), "{path} {status}: {error}");
    }
    world.stand_in.faults().inject(Fault::never().below("/latest/api").times(1));
    assert!(world.refused().await.to_string().starts_with("there are no AWS credentials"));
    world.stand_in.faults().inject(Fault::answer(Answer::new(503)).below("/latest/meta-data/iam").times(1));
    let error = world.refused().await;
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Unavailable, Retry::Later));
}

#[tokio::test]
async fn nothing_anywhere_is_said_to_be_so() {
    let mut world = World::new();
    world.unset("HOME");
    let error = world.refused().await;
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Unauthenticated, Retry::Never));
    assert!(error.next_step().contains("access_key"), "{}", error.next_step());
    assert!(world.stand_in.record().lines().is_empty(), "turned off");
}
