//! What the scripts do, each known by its whole text, and a few commands for others' clients.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use deploy_powershell::{Script, command};
use deploy_testkit::pki::fingerprint;
use deploy_testkit::stand_in::Answer;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::host::{Binding, Host, Running, Stored, Switch, mapping_name, open_pfx, thumbprint};

/// What a script ends with: its kind, a message, and the HRESULT.
struct Refused(&'static str, String, &'static str);

type Done = Result<Value, Refused>;

fn refused(kind: &'static str, message: impl Into<String>) -> Refused {
    Refused(kind, message.into(), "0x80131509")
}

/// A command that needs no input begins to print at once.
pub(super) fn begin(running: &mut Running) {
    let words: Vec<&str> = running.line.iter().map(String::as_str).collect();
    match words[..] {
        ["powershell.exe", ..] if running.line == command() => {}
        ["sort.exe"] => {}
        ["cmd.exe", "/c", "exit", status] => {
            running.status = status.parse().unwrap_or(1);
            running.output = vec![Some(Vec::new())];
        }
        ["cmd.exe", "/c", "echo", ..] => running.output = pieces(format!("{}\r\n", words[3..].join(" ")).as_bytes()),
        _ => {
            running.status = 1;
            running.output =
                pieces(format!("'{}' is not recognized as an internal or external command\r\n", words[0]).as_bytes());
        }
    }
}

/// There is nothing yet, then a part that ends in the middle, then the rest.
fn pieces(output: &[u8]) -> Vec<Option<Vec<u8>>> {
    let (one, two) = output.split_at(output.len() / 3);
    vec![None, Some(one.to_vec()), Some(two.to_vec())]
}

/// Runs what reads its input to the end; says whether the client hears that it was taken.
pub(super) fn run(running: &mut Running, host: &mut Host) -> bool {
    if running.line == ["sort.exe"] {
        let mut lines: Vec<&[u8]> = running.stdin.split_inclusive(|byte| *byte == b'\n').collect();
        lines.sort_unstable();
        running.output = pieces(&lines.concat());
        return true;
    }
    if running.line != command() {
        return true;
    }
    let request = Line::read(&running.stdin);
    let struck = request.as_ref().and_then(|line| line.struck(host));
    if let Some(script) = struck {
        host.struck.push(script);
        host.silence = Some(if host.switch == Switch::NeverAnswers { Answer::never() } else { Answer::closed() });
        match host.switch {
            Switch::Dropped { done: true } => {}
            Switch::Dropped { .. } => return false,
            _ => {
                host.switch = Switch::Works;
                return false;
            }
        }
    }
    let (printed, status) = match request {
        Some(line) => {
            let twice = host.doubles && line.known().is_some_and(changes);
            if twice {
                line.run(host);
            }
            line.run(host)
        }
        None => ("ConvertFrom-Json : Cannot bind argument to parameter 'InputObject' because it is null.".to_owned(), 1),
    };
    running.status = status;
    let printed = format!("WARNING: a module said something\r\n{printed}\r\n").into_bytes();
    running.output = if host.brief { vec![Some(printed)] } else { pieces(&printed) };
    struck.is_none()
}

/// The same at once, for whoever is not WinRM: the status, and what is printed.
pub(super) fn run_whole(line: &str, stdin: &[u8], host: &mut Host) -> (i32, Vec<u8>) {
    let line = line.split(' ').map(str::to_owned).collect();
    let mut running = Running { id: String::new(), line, stdin: stdin.to_vec(), ended: true, output: Vec::new(), status: 0 };
    begin(&mut running);
    run(&mut running, host);
    (running.status, running.output.into_iter().flatten().flatten().collect())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    script: String,
    nonce: String,
    arguments: Value,
}

impl Line {
    /// One line, in ASCII.
    fn read(stdin: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(stdin).ok().filter(|text| text.is_ascii())?;
        let line = text.strip_suffix('\n').filter(|line| !line.contains(['\r', '\n']))?;
        serde_json::from_str(line).ok()
    }

    fn known(&self) -> Option<Script> {
        Script::ALL.into_iter().find(|script| script.text() == self.script)
    }

    /// The script, if a fault of the connection is meant for it.
    fn struck(&self, host: &Host) -> Option<Script> {
        let strikes = |script: &Script| match host.switch {
            Switch::NeverAnswers => *script == host.switches,
            Switch::Dropped { .. } => changes(*script) && !host.struck.contains(script),
            _ => false,
        };
        self.known().filter(strikes)
    }

    fn run(&self, host: &mut Host) -> (String, i32) {
        if host.constrained {
            return (r#"{"certdeploy":"constrained"}"#.to_owned(), 1);
        }
        let Some(script) = self.known() else { return ("The term is not recognized.".to_owned(), 1) };
        let done = if host.elevated {
            host.ran.push(script);
            script_result(script, self.arguments.clone(), host)
        } else {
            Err(refused("not_elevated", "WEB1\\deployer has no rights of an administrator here"))
        };
        host.serve();
        let build = host.build;
        let (rest, status) = match done {
            Ok(result) => (json!({ "result": result }), 0),
            Err(Refused(kind, message, code)) => (json!({ "error": { "kind": kind, "message": message, "code": code } }), 1),
        };
        let rest = rest.to_string();
        let line = format!(r#"{{"certdeploy":"{}","build":{build},{}"#, self.nonce, &rest[1..]);
        let escaped: String = line
            .chars()
            .map(|character| match character {
                ' '..='~' => character.to_string(),
                _ => character.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
            })
            .collect();
        (escaped, status)
    }
}

fn changes(script: Script) -> bool {
    !matches!(script, Script::FindBindings | Script::FindCertificates | Script::ReadFiles)
}

fn script_result(script: Script, arguments: Value, host: &mut Host) -> Done {
    if script == host.switches {
        match host.switch {
            Switch::FailsOnce => {
                host.switch = Switch::Works;
                return Err(Refused("unexpected", "Told to fail.".to_owned(), "0x80070020"));
            }
            Switch::FailsLater(true) => return Err(Refused("unexpected", "Told to fail.".to_owned(), "0x80070020")),
            Switch::FailsLater(false) => host.switch = Switch::FailsLater(true),
            _ => {}
        }
    }
    if script == host.switches
        && let Some(work) = host.overtaken_by.take()
    {
        work(host);
    }
    match script {
        Script::FindBindings => find_bindings(&read(arguments)?, host),
        Script::FindCertificates => find_certificates(&read(arguments)?, host),
        Script::ImportCertificate => import(&read(arguments)?, host),
        Script::NameCertificates => name(&read(arguments)?, host),
        Script::ReadFiles => read_files(&read(arguments)?, host),
        Script::RemoveCertificates => remove(&read(arguments)?, host),
        Script::SetBindings => set_bindings(&read(arguments)?, host),
        Script::WriteFiles => write_files(&read(arguments)?, host),
        _ => Err(refused("unexpected", "no such script")),
    }
}

/// Exactly the arguments that the script uses: strict mode ends with an error at one that is missing.
fn read<A: DeserializeOwned>(arguments: Value) -> Result<A, Refused> {
    serde_json::from_value(arguments).map_err(|error| refused("unexpected", format!("The property cannot be found: {error}")))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Find {
    store: String,
    mark: String,
    thumbprints: Vec<String>,
}

fn store<'h>(name: &str, host: &'h mut Host) -> Result<&'h mut std::collections::BTreeMap<String, Stored>, Refused> {
    host.stores.get_mut(name).ok_or_else(|| refused("missing", format!("there is no certificate store LocalMachine\\{name}")))
}

fn find_certificates(arguments: &Find, host: &mut Host) -> Done {
    let found: Vec<Value> = store(&arguments.store, host)?
        .iter()
        .filter(|(thumbprint, stored)| {
            stored.friendly_name.contains(&arguments.mark) || arguments.thumbprints.contains(thumbprint)
        })
        .map(|(thumbprint, stored)| {
            json!({
                "thumbprint": thumbprint,
                "sha256": fingerprint(&stored.der),
                "friendly_name": stored.friendly_name,
                "has_key": stored.key_pem.is_some(),
            })
        })
        .collect();
    Ok(json!({ "certificates": found }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Import {
    store: String,
    thumbprint: String,
    sha256: String,
    pfx: String,
    password: String,
    exportable: bool,
    friendly_name: String,
    chain: Vec<String>,
    read_access: Vec<String>,
    readers_of: Option<String>,
}

fn import(arguments: &Import, host: &mut Host) -> Done {
    store(&arguments.store, host)?;
    let mut readers = BTreeSet::new();
    for account in &arguments.read_access {
        let sid = if account.starts_with("S-1-") { Some(account) } else { host.accounts.get(account) };
        readers.insert(sid.ok_or_else(|| refused("missing", format!("there is no account {account}")))?.clone());
    }
    let pfx = STANDARD.decode(&arguments.pfx).map_err(|_| refused("unexpected", "no base64"))?;
    let modern = |pfx: &[u8]| pfx.windows(9).any(|oid| oid == [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d]);
    let is_there = host.stores[&arguments.store].get(&arguments.thumbprint).is_some_and(|stored| stored.key_pem.is_some());
    if !is_there {
        if modern(&pfx) && host.build < 17_763 {
            return Err(refused("pfx", "The specified network password is not correct."));
        }
        let directory = host.directory().to_owned();
        let (chain, key_pem) = open_pfx(&pfx, &arguments.password, &directory)
            .map_err(|_| refused("pfx", "The specified network password is not correct."))?;
        let leaf = CertificateDer::from_pem_slice(chain.as_bytes()).unwrap().to_vec();
        if fingerprint(&leaf) != arguments.sha256 {
            return Err(refused("pfx", "the PFX holds another certificate"));
        }
        if thumbprint(&leaf) != arguments.thumbprint {
            return Err(refused("no_key", "the certificate is not in the store after it was put there"));
        }
        let provider: Vec<u8> = "Microsoft Software Key Storage Provider".encode_utf16().flat_map(u16::to_be_bytes).collect();
        let provider = if pfx.windows(provider.len()).any(|part| part == provider) { "CNG" } else { "CSP" };
        let stored = Stored {
            der: leaf,
            chain: Vec::new(),
            key_pem: Some(key_pem),
            friendly_name: arguments.friendly_name.clone(),
            exportable: arguments.exportable,
            readers: BTreeSet::new(),
            provider: provider.to_owned(),
        };
        host.stores.get_mut(&arguments.store).unwrap().insert(arguments.thumbprint.clone(), stored);
    }
    let mut chain = Vec::new();
    for issuer in &arguments.chain {
        let der = STANDARD.decode(issuer).map_err(|_| refused("unexpected", "no base64"))?;
        let stored = Stored {
            der: der.clone(),
            chain: Vec::new(),
            key_pem: None,
            friendly_name: String::new(),
            exportable: false,
            readers: BTreeSet::new(),
            provider: String::new(),
        };
        host.stores.get_mut("CA").unwrap().entry(thumbprint(&der)).or_insert(stored);
        chain.push(der);
    }
    let store = host.stores.get_mut(&arguments.store).unwrap();
    if let Some(previous) = arguments.readers_of.as_ref().and_then(|thumbprint| store.get(thumbprint)) {
        readers.extend(previous.readers.iter().cloned());
    }
    let stored = store.get_mut(&arguments.thumbprint).unwrap();
    stored.chain = chain;
    stored.readers.extend(readers);
    Ok(json!({ "imported": !is_there, "friendly_name": stored.friendly_name, "readers": stored.readers }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Names {
    store: String,
    changes: Vec<Name>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Name {
    thumbprint: String,
    from: String,
    to: String,
}

fn name(arguments: &Names, host: &mut Host) -> Done {
    let store = store(&arguments.store, host)?;
    for Name { thumbprint, from, to } in &arguments.changes {
        let Some(stored) = store.get(thumbprint) else {
            return Err(refused("missing", format!("{thumbprint} is not in the store {}", arguments.store)));
        };
        if ![from, to].contains(&&stored.friendly_name) {
            return Err(refused("conflict", format!("{thumbprint} has another friendly name by now")));
        }
    }
    for Name { thumbprint, to, .. } in &arguments.changes {
        store.get_mut(thumbprint).unwrap().friendly_name.clone_from(to);
    }
    Ok(json!({ "named": arguments.changes.len() }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Remove {
    store: String,
    mark: String,
    thumbprints: Vec<String>,
}

fn remove(arguments: &Remove, host: &mut Host) -> Done {
    let used: BTreeSet<String> = host.mappings.values().map(|(thumbprint, ..)| thumbprint.clone()).collect();
    let (mut removed, mut left) = (Vec::new(), Vec::new());
    let store = store(&arguments.store, host)?;
    for thumbprint in &arguments.thumbprints {
        if !store.get(thumbprint).is_some_and(|stored| stored.friendly_name.contains(&arguments.mark)) {
            continue;
        }
        if used.contains(thumbprint) {
            left.push(thumbprint);
        } else {
            store.remove(thumbprint);
            removed.push(thumbprint);
        }
    }
    Ok(json!({ "removed": removed, "used": left }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn need_iis(host: &Host) -> Result<(), Refused> {
    if host.has_iis { Ok(()) } else { Err(refused("unsupported", "the module WebAdministration is missing")) }
}

fn find_bindings(_: &Nothing, host: &mut Host) -> Done {
    need_iis(host)?;
    let bindings: Vec<Value> = host
        .bindings
        .iter()
        .map(|binding| {
            let (thumbprint, store) = host.thumbprint_of(binding);
            let Binding { site, information, flags } = binding;
            json!({ "site": site, "information": information, "flags": flags, "thumbprint": thumbprint, "store": store })
        })
        .collect();
    let mapping = |(name, (thumbprint, store, _)): (&String, &(String, String, String))| json!({ "name": name, "thumbprint": thumbprint, "store": store });
    Ok(json!({ "bindings": bindings, "mappings": host.mappings.iter().map(mapping).collect::<Vec<_>>() }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Set {
    changes: Vec<Change>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    site: String,
    information: String,
    from: Option<String>,
    to: String,
    store: String,
}

fn set_bindings(arguments: &Set, host: &mut Host) -> Done {
    need_iis(host)?;
    let mut found = Vec::new();
    for change in &arguments.changes {
        let of_change = |binding: &&Binding| binding.site == change.site && binding.information == change.information;
        let bindings: Vec<&Binding> = host.bindings.iter().filter(of_change).collect();
        let [binding] = bindings[..] else {
            return Err(refused(
                "missing",
                format!("there is no https binding {} of the site {}", change.information, change.site),
            ));
        };
        let (now, _) = host.thumbprint_of(binding);
        if change.from.as_ref().is_some_and(|from| *from != now && change.to != now) {
            return Err(refused("conflict", format!("the binding has the certificate {now} by now")));
        }
        if !change.to.is_empty() {
            let stored = host.stores.get(&change.store).and_then(|store| store.get(&change.to));
            let stored =
                stored.ok_or_else(|| refused("missing", format!("{} is not in the store {}", change.to, change.store)))?;
            if stored.key_pem.is_none() {
                let message = "A specified logon session does not exist. It may already have been terminated.";
                return Err(Refused("unexpected", message.to_owned(), "0x80070520"));
            }
        }
        found.push((mapping_name(binding), change));
    }
    for (name, change) in found {
        if change.to.is_empty() {
            host.mappings.remove(&name);
        } else {
            let others = host.mappings.remove(&name).map(|(.., others)| others).unwrap_or_default();
            host.mappings.insert(name, (change.to.clone(), change.store.clone(), others));
        }
    }
    if let Switch::ServesAnother(record) = host.switch {
        host.switch = Switch::Works;
        let (thumbprint, store, _) = host.mappings[record].clone();
        for (mapped, store_of, _) in host.mappings.values_mut().filter(|(mapped, ..)| *mapped == arguments.changes[0].to) {
            mapped.clone_from(&thumbprint);
            store_of.clone_from(&store);
        }
    }
    Ok(json!({ "changed": arguments.changes.len() }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Paths {
    paths: Vec<String>,
}

fn read_files(arguments: &Paths, host: &mut Host) -> Done {
    for path in &arguments.paths {
        folder(path, host)?;
    }
    let file = |path: &String| json!({ "path": path, "content": host.files.get(path).map(|content| STANDARD.encode(content)) });
    Ok(json!({ "files": arguments.paths.iter().map(file).collect::<Vec<_>>() }))
}

fn folder(path: &str, host: &Host) -> Result<(), Refused> {
    let folder = path.rsplit_once('\\').map_or("", |(folder, _)| folder);
    if host.folders.contains(folder) { Ok(()) } else { Err(refused("missing", format!("there is no folder {folder}"))) }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Files {
    files: Vec<File>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    path: String,
    from: Option<String>,
    content: Option<String>,
}

fn write_files(arguments: &Files, host: &mut Host) -> Done {
    for file in &arguments.files {
        let digest = |content: &Vec<u8>| fingerprint(content);
        let now = host.files.get(&file.path).map(digest).unwrap_or_default();
        let wanted =
            file.content.as_ref().and_then(|content| STANDARD.decode(content).ok()).as_ref().map(digest).unwrap_or_default();
        if file.from.as_ref().is_some_and(|from| *from != now) && now != wanted {
            return Err(refused("conflict", format!("{} has changed meanwhile", file.path)));
        }
    }
    for file in &arguments.files {
        match &file.content {
            Some(content) => {
                folder(&file.path, host).map_err(|_| refused("unexpected", "Could not find a part of the path."))?;
                let content = STANDARD.decode(content).map_err(|_| refused("unexpected", "no base64"))?;
                host.files.insert(file.path.clone(), content);
            }
            None => drop(host.files.remove(&file.path)),
        }
    }
    Ok(json!({ "written": arguments.files.len() }))
}
