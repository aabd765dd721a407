//! The API of the stand-in: strict about tokens, roles, content types, paths, ranges and headers.

use deploy_testkit::stand_in::{Answer, HttpRequest};
use serde_json::{Map, Value, json};

use super::config::{Resource, body, link};
use super::device::Device;
use super::refusal::{Refusal, framework};

const COORDINATION: &str = "x-f5-rest-coordination-id";
const DOWNLOADS: &str = "/var/config/rest/downloads";
/// F5: what is longer has to be sent in parts.
const LONGEST_CHUNK: usize = 1 << 20;

/// Answers one request.
pub(crate) fn answer(request: &HttpRequest, device: &mut Device) -> Answer {
    device.forget();
    match respond(request, device) {
        Ok(Value::Null) => Answer::new(200),
        Ok(body) => Answer::new(200).with_json(&body),
        Err(Refusal(answer)) => answer,
    }
}

type Response = Result<Value, Refusal>;

fn respond(request: &HttpRequest, device: &mut Device) -> Response {
    let path = request.path.split('?').next().unwrap_or_default().trim_end_matches('/');
    let path = path.strip_prefix("/mgmt/").ok_or_else(|| unknown(path))?;
    if path == "shared/authn/login" {
        return match request.method.as_str() {
            "POST" => device.log_in(&body(request)?),
            method => Err(framework(405, &format!("{method} is not allowed here"))),
        };
    }
    if let Some(left) = device.trouble.tokens_last {
        device.trouble.tokens_last = left.checked_sub(1);
        if left == 0 {
            device.tokens.clear();
        }
    }
    let user = authenticate(request, device, path)?;
    if request.is_changing() {
        device.let_others_pass();
    }
    if let Some(name) = path.strip_prefix("shared/file-transfer/uploads/") {
        may_upload(&user, request, device, path)?;
        return upload(name, request, device);
    }
    if let Some(token) = path.strip_prefix("shared/authz/tokens/") {
        return of_token(token, &user, request, device);
    }
    let path = path.strip_prefix("tm/").ok_or_else(|| unknown(path))?;
    if let Some(resource) = Resource::find(path) {
        return of_resource(resource, request, device);
    }
    if request.header(COORDINATION).is_some() {
        return Err(framework(400, "this stand-in takes no such request within a transaction"));
    }
    if let Some(rest) = path.strip_prefix("transaction") {
        return of_transaction(rest.trim_start_matches('/'), request, device);
    }
    match (request.method.as_str(), path) {
        ("GET", "sys") => Ok(json!({ "kind": "tm:sys:syscollectionstate", "selfLink": link("sys"), "items": [] })),
        ("POST", "sys/config") => save(request, device),
        ("POST", "cm") => sync(request, device),
        ("GET", "cm/sync-status") => Ok(sync_status(device)),
        ("POST", "util/unix-rm" | "util/unix-ls") => utility(path, &user, request, device),
        ("GET", path) if path.starts_with("cm/device-group/~Common~") => device_group(&path[24..], device),
        _ => Err(unknown(path)),
    }
}

fn unknown(path: &str) -> Refusal {
    framework(404, &format!("Public URI path not registered: /{path}"))
}

fn authenticate(request: &HttpRequest, device: &Device, path: &str) -> Result<String, Refusal> {
    let Some(token) = request.header("x-f5-auth-token") else {
        let text = format!(
            "Authorization failed: no user authentication header or token detected. \
             Uri:http://localhost:8100/mgmt/{path} Referrer:Unknown Sender:Unknown"
        );
        return Err(framework(401, &text));
    };
    match device.tokens.get(token) {
        Some(token) => Ok(token.user.clone()),
        None if token.starts_with("TOKEN") => Err(framework(401, "X-F5-Auth-Token has expired.")),
        None => Err(framework(401, "X-F5-Auth-Token does not exist.")),
    }
}

fn may_upload(user: &str, request: &HttpRequest, device: &Device, path: &str) -> Result<(), Refusal> {
    if device.users[user].is_administrator {
        return Ok(());
    }
    let text = format!(
        "Authorization failed: user=https://localhost/mgmt/shared/authz/users/{user} resource=/mgmt/{path} verb={} \
         uri:http://localhost:8100/mgmt/{path} referrer:127.0.0.1 sender:127.0.0.1",
        request.method
    );
    Err(framework(401, &text))
}

fn of_token(token: &str, user: &str, request: &HttpRequest, device: &mut Device) -> Response {
    if device.tokens.get(token).is_none_or(|known| known.user != user) {
        return Err(framework(400, "Bad Request: the token is not yours"));
    }
    match request.method.as_str() {
        "PATCH" => device.extend(token, body(request)?["timeout"].as_u64().unwrap_or(u64::MAX)),
        "DELETE" => {
            device.tokens.remove(token);
            Ok(Value::Null)
        }
        method => Err(framework(405, &format!("{method} is not allowed here"))),
    }
}

/// `START-END/TOTAL`, without a unit, and each part begins where the one before ended, or with everything anew.
fn upload(name: &str, request: &HttpRequest, device: &mut Device) -> Response {
    let refuse = |text: &str| Err(framework(400, text));
    if request.method != "POST" {
        return Err(framework(405, &format!("{} is not allowed here", request.method)));
    }
    if request.header(COORDINATION).is_some() {
        return refuse("this stand-in takes no upload within a transaction");
    }
    if request.header("content-type") != Some("application/octet-stream") {
        return refuse("Content-Type has to be application/octet-stream");
    }
    if name.is_empty() || name.contains(['/', ':', '%']) {
        return refuse("the file name is invalid");
    }
    let range = request.header("content-range").and_then(|range| {
        let (range, total) = range.split_once('/')?;
        let (start, end) = range.split_once('-')?;
        Some((start.parse::<usize>().ok()?, end.parse::<usize>().ok()?, total.parse::<usize>().ok()?))
    });
    let Some((start, end, total)) = range else { return refuse("Content-Range is missing or malformed") };
    let length = request.body.len();
    if end < start || end - start + 1 != length || end >= total {
        let text = format!("Chunk byte count {} different from received buffer length {length}", (end + 1).saturating_sub(start));
        return refuse(&text);
    }
    if length > LONGEST_CHUNK {
        return refuse("the chunk is too long");
    }
    let mut content = if start == 0 { Vec::new() } else { device.partial.remove(name).unwrap_or_default() };
    if content.len() != start {
        // As a real one may do.
        return Err(Refusal(Answer::new(400).with_body(request.body.clone())));
    }
    content.extend(&request.body);
    let left = total - content.len();
    let place = if left == 0 { &mut device.downloads } else { &mut device.partial };
    place.insert(name.to_owned(), content);
    Ok(json!({
        "remainingByteCount": left, "usedChunks": { start.to_string(): length }, "totalByteCount": total,
        "localFilePath": format!("{DOWNLOADS}/{name}"), "temporaryFilePath": format!("{DOWNLOADS}/tmp/{name}"),
        "generation": 0, "lastUpdateMicros": 1_760_000_000_000_000_u64,
    }))
}

fn of_resource(resource: Resource, request: &HttpRequest, device: &mut Device) -> Response {
    let Some(number) = request.header(COORDINATION) else {
        return if request.is_changing() { device.change(&resource, request) } else { device.config.show(&resource) };
    };
    if !request.is_changing() {
        return Err(framework(400, "this stand-in takes no look within a transaction"));
    }
    if request.method != "DELETE" {
        body(request)?;
    }
    let number = number.parse().map_err(|_| framework(400, "the coordination ID is no number"))?;
    device.queue(number, resource, request)
}

fn of_transaction(rest: &str, request: &HttpRequest, device: &mut Device) -> Response {
    if rest.is_empty() {
        if request.method != "POST" || !body(request)?.is_empty() {
            return Err(framework(400, "a transaction is begun with POST and {}"));
        }
        let number = device.begin();
        return device.show_transaction(number);
    }
    let number = rest.parse().map_err(|_| framework(400, &format!("Found invalid command id {rest}")))?;
    match request.method.as_str() {
        "GET" => device.show_transaction(number),
        "DELETE" => {
            device.show_transaction(number)?;
            device.transactions.remove(&number);
            Ok(Value::Null)
        }
        "PATCH" => {
            let body = body(request)?;
            if body.get("state") != Some(&"VALIDATING".into()) {
                return Err(framework(400, "a transaction is committed with the state VALIDATING"));
            }
            device.commit(number, body.get("validateOnly") == Some(&true.into()))
        }
        method => Err(framework(405, &format!("{method} is not allowed here"))),
    }
}

fn save(request: &HttpRequest, device: &mut Device) -> Response {
    if body(request)?.get("command") != Some(&"save".into()) {
        return Err(framework(400, "this stand-in takes the command save alone"));
    }
    device.saved = device.config.clone();
    Ok(json!({ "kind": "tm:sys:config:savestate", "command": "save" }))
}

fn sync(request: &HttpRequest, device: &mut Device) -> Response {
    let arguments = command(request)?;
    let group = arguments.strip_prefix("config-sync to-group ").ok_or_else(|| framework(400, "an unknown command"))?;
    device.sync(group)?;
    Ok(json!({ "kind": "tm:cm:runstate", "command": "run", "utilCmdArgs": arguments }))
}

fn sync_status(device: &mut Device) -> Value {
    let (status, mode) = device.sync_status();
    let text = |text: &str| json!({ "description": text });
    let entries =
        json!({ "color": text("blue"), "mode": text(mode), "status": text(status), "summary": text("as the stand-in has it") });
    json!({
        "kind": "tm:cm:sync-status:sync-statusstats", "selfLink": link("cm/sync-status"),
        "entries": { "https://localhost/mgmt/tm/cm/sync-status/0": { "nestedStats": { "entries": entries } } },
    })
}

fn device_group(name: &str, device: &Device) -> Response {
    match &device.group {
        Some(group) if group.name == name => Ok(json!({ "kind": "tm:cm:device-group:device-groupstate", "name": name })),
        _ => {
            Err(super::refusal::daemon(404, "01020036:3", &format!("The requested device group (/Common/{name}) was not found.")))
        }
    }
}

/// A failure is 200 as well.
fn utility(path: &str, user: &str, request: &HttpRequest, device: &mut Device) -> Response {
    may_upload(user, request, device, &format!("tm/{path}"))?;
    let arguments = command(request)?;
    let mut body =
        json!({ "kind": format!("tm:{}:runstate", path.replace('/', ":")), "command": "run", "utilCmdArgs": arguments });
    let result = if path == "util/unix-ls" {
        if arguments != DOWNLOADS {
            return Err(framework(400, "this stand-in lists uploads alone"));
        }
        device.downloads.keys().map(|name| format!("{name}\n")).collect()
    } else {
        let name = arguments
            .strip_prefix(&format!("{DOWNLOADS}/"))
            .ok_or_else(|| framework(400, "this stand-in removes uploads alone"))?;
        match device.downloads.remove(name) {
            Some(_) => String::new(),
            None => format!("/bin/rm: cannot remove `{arguments}': No such file or directory\n"),
        }
    };
    if !result.is_empty() {
        body["commandResult"] = result.into();
    }
    Ok(body)
}

fn command(request: &HttpRequest) -> Result<String, Refusal> {
    let body: Map<String, Value> = body(request)?;
    match (body.get("command"), body.get("utilCmdArgs").and_then(Value::as_str)) {
        (Some(run), Some(arguments)) if run == "run" => Ok(arguments.to_owned()),
        _ => Err(framework(400, "a command is needed, and its arguments")),
    }
}
