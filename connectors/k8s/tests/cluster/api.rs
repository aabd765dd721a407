//! The API: strict about who asks, paths, headers, parameters and bodies.

use std::collections::BTreeMap;

use deploy_testkit::stand_in::{Answer, HttpRequest};
use serde_json::{Value, json};

use super::objects::{Fields, Manager, Object};
use super::{State, USER};

const APPLY: &str = "application/apply-patch+yaml";
const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
/// The values of a Secret together, in bytes, and a request.
const LARGEST_SECRET: usize = 1 << 20;
const LARGEST_REQUEST: usize = 3 << 20;

/// Answers one request.
pub(super) fn answer(request: &HttpRequest, state: &mut State) -> Answer {
    respond(request, state).unwrap_or_else(|refusal| refusal)
}

/// `Err` is a refusal.
type Response = Result<Answer, Answer>;

fn respond(request: &HttpRequest, state: &mut State) -> Response {
    let user = authenticate(request, state)?;
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let query = parameters(query);
    if request.body.len() > LARGEST_REQUEST {
        return Err(status(413, "RequestEntityTooLarge", "limit is 3145728", &json!({})));
    }
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let call = Call { request, query, user };
    match segments[..] {
        ["version"] => Ok(Answer::new(200).with_json(&json!({ "major": "1", "minor": "36", "gitVersion": "v1.36.0" }))),
        ["api"] => Ok(Answer::new(200).with_json(&json!({ "kind": "APIVersions", "versions": ["v1"] }))),
        ["apis"] => Ok(groups()),
        ["api", "v1"] => Ok(resources("v1", &[("namespaces", "Namespace", false), ("secrets", "Secret", true)])),
        ["apis", "apps", "v1"] => Ok(resources("apps/v1", &[("deployments", "Deployment", true)])),
        ["apis", "authorization.k8s.io", "v1", "selfsubjectaccessreviews"] => call.review(state),
        ["api", "v1", "namespaces"] => call.namespaces(state),
        ["api", "v1", "namespaces", namespace] => call.namespace(namespace, state),
        ["api", "v1", "namespaces", namespace, "secrets"] => call.secrets(namespace, state),
        ["api", "v1", "namespaces", namespace, "secrets", name] => call.secret(namespace, name, state),
        ["apis", "apps", "v1", "namespaces", namespace, plural, name] => call.workload(namespace, plural, name, state),
        _ => Err(status(404, "NotFound", "the server could not find the requested resource", &json!({}))),
    }
}

fn authenticate(request: &HttpRequest, state: &State) -> Result<&'static str, Answer> {
    match request.header("Authorization") {
        None => Ok("system:anonymous"),
        Some(value) if value.strip_prefix("Bearer ") == Some(&state.token) => Ok(USER),
        Some(_) => Err(status(401, "Unauthorized", "Unauthorized", &json!({}))),
    }
}

struct Call<'a> {
    request: &'a HttpRequest,
    query: BTreeMap<String, String>,
    user: &'static str,
}

impl Call<'_> {
    fn method(&self) -> &str {
        &self.request.method
    }

    fn is_dry_run(&self) -> Result<bool, Answer> {
        match self.query.get("dryRun").map(String::as_str) {
            None => Ok(false),
            Some("All") => Ok(true),
            Some(other) => {
                let message = format!("PatchOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: \"{other}\"");
                Err(status(422, "Invalid", &message, &json!({})))
            }
        }
    }

    fn manager(&self) -> String {
        let agent = self.request.header("User-Agent").unwrap_or_default();
        self.query.get("fieldManager").cloned().unwrap_or_else(|| agent.split('/').next().unwrap_or_default().to_owned())
    }

    fn content_type(&self) -> &str {
        self.request.header("Content-Type").unwrap_or_default().split(';').next().unwrap_or_default().trim()
    }

    /// A body without a type is JSON.
    fn json(&self) -> Result<Value, Answer> {
        if ["", JSON].contains(&self.content_type()) { self.body() } else { Err(unsupported()) }
    }

    fn body(&self) -> Result<Value, Answer> {
        serde_json::from_slice(&self.request.body).map_err(|error| bad_request(&format!("error decoding body: {error}")))
    }

    /// Role-based access control: "cannot VERB resource".
    fn authorize(&self, verb: &str, resource: &str, namespace: &str, name: &str, state: &State) -> Result<(), Answer> {
        if state.allows(self.user, verb, resource, namespace) {
            return Ok(());
        }
        let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
        let place =
            if namespace.is_empty() { "at the cluster scope".to_owned() } else { format!("in the namespace \"{namespace}\"") };
        let named = if name.is_empty() { format!("{resource} is") } else { format!("{resource} \"{name}\" is") };
        let message = format!(
            "{named} forbidden: User \"{}\" cannot {verb} resource \"{plural}\" in API group \"{group}\" {place}",
            self.user
        );
        Err(status(403, "Forbidden", &message, &json!({ "name": name, "group": group, "kind": plural })))
    }

    fn review(&self, state: &State) -> Response {
        if self.method() != "POST" {
            return Err(method_not_allowed());
        }
        let mut review = self.json()?;
        if review["kind"] != "SelfSubjectAccessReview" || review["apiVersion"] != "authorization.k8s.io/v1" {
            return Err(bad_request("the object is no SelfSubjectAccessReview of authorization.k8s.io/v1"));
        }
        let of = |name: &str| review["spec"]["resourceAttributes"][name].as_str().unwrap_or_default().to_owned();
        let resource = if of("group").is_empty() { of("resource") } else { format!("{}.{}", of("resource"), of("group")) };
        let allowed = state.allows(self.user, &of("verb"), &resource, &of("namespace"));
        review["status"] = json!({ "allowed": allowed });
        Ok(Answer::new(201).with_json(&review))
    }

    fn namespaces(&self, state: &State) -> Response {
        if self.method() != "GET" {
            return Err(method_not_allowed());
        }
        self.authorize("list", "namespaces", "", "", state)?;
        let selector = self.query.get("labelSelector").map_or("", String::as_str);
        let requirements: Vec<&str> = selector.split(',').filter(|requirement| !requirement.is_empty()).collect();
        let selected = state.namespaces.iter().filter(|(_, namespace)| {
            requirements.iter().all(|requirement| match requirement.split_once("!=") {
                Some((name, value)) => namespace.labels.get(name).is_none_or(|other| other != value),
                None => match requirement.split_once('=') {
                    Some((name, value)) => namespace.labels.get(name.trim_end_matches('=')).is_some_and(|other| other == value),
                    None => namespace.labels.contains_key(*requirement),
                },
            })
        });
        let items: Vec<Value> = selected.map(|(name, _)| state.shown_namespace(name)).collect();
        let metadata = json!({ "resourceVersion": state.revision.to_string() });
        Ok(Answer::new(200)
            .with_json(&json!({ "apiVersion": "v1", "kind": "NamespaceList", "metadata": metadata, "items": items })))
    }

    fn namespace(&self, name: &str, state: &State) -> Response {
        self.authorize("get", "namespaces", "", name, state)?;
        if !state.namespaces.contains_key(name) {
            return Err(not_found("namespaces", name));
        }
        Ok(Answer::new(200).with_json(&state.shown_namespace(name)))
    }

    fn secrets(&self, namespace: &str, state: &mut State) -> Response {
        match self.method() {
            "GET" => {
                self.authorize("list", "secrets", namespace, "", state)?;
                let items: Vec<Value> =
                    state.secrets.values().filter(|object| object.namespace == namespace).map(Object::shown).collect();
                let metadata = json!({ "resourceVersion": state.revision.to_string() });
                Ok(Answer::new(200)
                    .with_json(&json!({ "apiVersion": "v1", "kind": "SecretList", "metadata": metadata, "items": items })))
            }
            "POST" => {
                self.authorize("create", "secrets", namespace, "", state)?;
                let body = self.json()?;
                let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                self.create(namespace, &name, &body, "Update", state)
            }
            _ => Err(method_not_allowed()),
        }
    }

    fn secret(&self, namespace: &str, name: &str, state: &mut State) -> Response {
        let key = (namespace.to_owned(), name.to_owned());
        let verb = match self.method() {
            "GET" => "get",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" => "delete",
            _ => return Err(method_not_allowed()),
        };
        self.authorize(verb, "secrets", namespace, name, state)?;
        if verb != "get" {
            state.let_others_pass();
        }
        let found = state.secrets.get(&key).cloned();
        match (verb, found) {
            ("get", Some(object)) => Ok(Answer::new(200).with_json(&object.shown())),
            ("patch", found) if self.content_type() == APPLY => self.apply(namespace, name, found, state),
            (_, None) => Err(not_found("secrets", name)),
            ("delete", Some(object)) => self.delete(&object, state),
            ("update", Some(object)) => {
                let body = self.json()?;
                check_revision(&object, &body)?;
                self.update(&object, Object::read(&body).map_err(|message| bad_request(&message))?, state)
            }
            (_, Some(object)) if [MERGE, STRATEGIC].contains(&self.content_type()) => {
                let mut shown = object.shown();
                merge(&mut shown, &self.body()?);
                check_revision(&object, &shown)?;
                self.update(&object, Object::read(&shown).map_err(|message| bad_request(&message))?, state)
            }
            _ => Err(unsupported()),
        }
    }

    fn create(&self, namespace: &str, name: &str, body: &Value, operation: &'static str, state: &mut State) -> Response {
        check_kind(body, name)?;
        let there = state.namespaces.get(namespace).ok_or_else(|| not_found("namespaces", namespace))?;
        if there.terminating {
            let message = format!(
                "secrets \"{name}\" is forbidden: unable to create new content in namespace {namespace} because it is being terminated"
            );
            let cause = json!({ "reason": "NamespaceTerminating", "message": format!("namespace {namespace} is being terminated"), "field": "metadata.namespace" });
            return Err(status(403, "Forbidden", &message, &json!({ "name": name, "kind": "secrets", "causes": [cause] })));
        }
        if state.secrets.contains_key(&(namespace.to_owned(), name.to_owned())) {
            let message = format!("secrets \"{name}\" already exists");
            return Err(status(409, "AlreadyExists", &message, &json!({ "name": name, "kind": "secrets" })));
        }
        let mut fields = Object::read(body).map_err(|message| bad_request(&message))?;
        fields.entry("type".to_owned()).or_insert_with(|| "Opaque".to_owned());
        let managers = vec![Manager { name: self.manager(), operation, fields: fields.keys().cloned().collect() }];
        let object = Object {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: state.new_uid(),
            revision: 0,
            owners: body["metadata"]["ownerReferences"].clone(),
            fields,
            managers,
        };
        self.store(object, None, 201, state)
    }

    /// Server-side apply.
    fn apply(&self, namespace: &str, name: &str, found: Option<Object>, state: &mut State) -> Response {
        if !self.query.contains_key("fieldManager") {
            let message = "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch";
            let cause = json!({ "reason": "FieldValueRequired", "message": "Required value", "field": "fieldManager" });
            return Err(status(
                422,
                "Invalid",
                message,
                &json!({ "group": "meta.k8s.io", "kind": "PatchOptions", "causes": [cause] }),
            ));
        }
        let body = self.body()?;
        check_kind(&body, name)?;
        if !body["metadata"]["managedFields"].is_null() {
            return Err(bad_request("metadata.managedFields must be nil"));
        }
        let Some(found) = found else {
            let has = |field: &str| !body["metadata"][field].is_null();
            if has("uid") || has("resourceVersion") {
                let message = format!(
                    "Operation cannot be fulfilled on secrets \"{name}\": uid mismatch: the provided object specified uid, and no existing object was found"
                );
                return Err(status(409, "Conflict", &message, &json!({ "name": name, "kind": "secrets" })));
            }
            self.authorize("create", "secrets", namespace, name, state)?;
            return self.create(namespace, name, &body, "Apply", state);
        };
        check_revision(&found, &body)?;
        let wanted = Object::read(&body).map_err(|message| bad_request(&message))?;
        let (manager, force) = (self.manager(), self.query.get("force").is_some_and(|force| force == "true"));
        let mut object = found.clone();
        let mut causes = Vec::new();
        for other in object.managers.iter_mut().filter(|other| (other.name.as_str(), other.operation) != (&manager, "Apply")) {
            let contested: Vec<&String> = wanted
                .iter()
                .filter(|(field, value)| other.fields.contains(*field) && found.fields.get(*field) != Some(value))
                .map(|(field, _)| field)
                .collect();
            for field in contested {
                let message = format!("conflict with \"{}\" using v1", other.name);
                causes.push(json!({ "reason": "FieldManagerConflict", "message": message, "field": format!(".{field}") }));
                other.fields.remove(field);
            }
        }
        if !causes.is_empty() && !force {
            let plural = if causes.len() == 1 { "" } else { "s" };
            let message = format!("Apply failed with {} conflict{plural}", causes.len());
            return Err(status(409, "Conflict", &message, &json!({ "causes": causes })));
        }
        let before = object.managers.iter().position(|other| other.name == manager && other.operation == "Apply");
        let before = before.map(|index| object.managers.remove(index).fields).unwrap_or_default();
        for field in before.iter().filter(|field| !wanted.contains_key(*field)) {
            if !object.managers.iter().any(|other| other.fields.contains(field)) {
                object.fields.remove(field);
            }
        }
        object.managers.retain(|other| !other.fields.is_empty());
        let fields = wanted.keys().cloned().collect();
        object.managers.push(Manager { name: manager, operation: "Apply", fields });
        object.fields.extend(wanted);
        self.store(object, Some(&found), 200, state)
    }

    /// PUT, and the two merge patches: what changes is ours from now on.
    fn update(&self, found: &Object, fields: Fields, state: &mut State) -> Response {
        let mut object = found.clone();
        let changed: Vec<String> = fields
            .iter()
            .filter(|(field, value)| found.fields.get(*field) != Some(value))
            .map(|(field, _)| field.clone())
            .collect();
        for other in &mut object.managers {
            other.fields.retain(|field| fields.contains_key(field) && !changed.contains(field));
        }
        object.managers.retain(|other| !other.fields.is_empty());
        let manager = self.manager();
        match object.managers.iter_mut().find(|other| other.name == manager && other.operation == "Update") {
            Some(ours) => ours.fields.extend(changed),
            None if changed.is_empty() => {}
            None => object.managers.push(Manager { name: manager, operation: "Update", fields: changed.into_iter().collect() }),
        }
        object.fields = fields;
        self.store(object, Some(found), 200, state)
    }

    /// Validation, admission, and the writing.
    fn store(&self, object: Object, found: Option<&Object>, success: u16, state: &mut State) -> Response {
        let dry_run = self.is_dry_run()?;
        let causes = faults(&object, found);
        if !causes.is_empty() {
            let said: Vec<&str> = causes.iter().filter_map(|cause| cause["message"].as_str()).collect();
            let message = format!("Secret \"{}\" is invalid: {}", object.name, said.join(", "));
            return Err(status(422, "Invalid", &message, &json!({ "name": object.name, "kind": "Secret", "causes": causes })));
        }
        if let Some(said) = &state.webhook {
            let message = format!("admission webhook \"policy.example.test\" denied the request: {said}");
            return Err(status(403, "Forbidden", &message, &json!({ "name": object.name, "kind": "secrets" })));
        }
        if dry_run {
            return Ok(Answer::new(success).with_json(&object.shown()));
        }
        let key = (object.namespace.clone(), object.name.clone());
        if found != Some(&object) {
            state.put(object);
        }
        Ok(Answer::new(success).with_json(&state.secrets[&key].shown()))
    }

    fn delete(&self, object: &Object, state: &mut State) -> Response {
        let options = if self.request.body.is_empty() { json!({}) } else { self.json()? };
        let preconditions = &options["preconditions"];
        for (field, is) in [("uid", object.uid.clone()), ("resourceVersion", object.revision.to_string())] {
            if let Some(wanted) = preconditions[field].as_str().filter(|wanted| *wanted != is) {
                let message = format!(
                    "Operation cannot be fulfilled on secrets \"{}\": the {field} in the precondition ({wanted}) does not match the {field} in record ({is}). The object might have been deleted and then recreated",
                    object.name
                );
                return Err(status(409, "Conflict", &message, &json!({ "name": object.name, "kind": "secrets" })));
            }
        }
        if !self.is_dry_run()? {
            state.secrets.remove(&(object.namespace.clone(), object.name.clone()));
            state.revision += 1;
            state.publish();
        }
        let details = json!({ "name": object.name, "kind": "secrets", "uid": object.uid });
        Ok(Answer::new(200).with_json(&json!({ "kind": "Status", "apiVersion": "v1", "status": "Success", "details": details })))
    }

    fn workload(&self, namespace: &str, plural: &str, name: &str, state: &mut State) -> Response {
        let verb = match self.method() {
            "GET" => "get",
            "PATCH" => "patch",
            _ => return Err(method_not_allowed()),
        };
        let resource = format!("{plural}.apps");
        self.authorize(verb, &resource, namespace, name, state)?;
        let key = (namespace.to_owned(), plural.to_owned(), name.to_owned());
        let mut object = state.workloads.get(&key).cloned().ok_or_else(|| not_found(&resource, name))?;
        if verb == "patch" {
            if ![MERGE, STRATEGIC].contains(&self.content_type()) {
                return Err(unsupported());
            }
            merge(&mut object, &self.body()?);
            if !self.is_dry_run()? {
                state.workloads.insert(key, object.clone());
            }
        }
        Ok(Answer::new(200).with_json(&object))
    }
}

impl State {
    fn allows(&self, user: &str, verb: &str, resource: &str, namespace: &str) -> bool {
        let rule = (verb.to_owned(), resource.to_owned(), namespace.to_owned());
        user == USER && !self.denied.contains(&rule)
    }

    fn shown_namespace(&self, name: &str) -> Value {
        let namespace = &self.namespaces[name];
        let mut shown = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": namespace.labels },
            "status": { "phase": if namespace.terminating { "Terminating" } else { "Active" } },
        });
        if namespace.terminating {
            shown["metadata"]["deletionTimestamp"] = json!("2026-11-30T00:00:00Z");
        }
        shown
    }
}

/// What validation says, as the causes of a 422.
fn faults(object: &Object, found: Option<&Object>) -> Vec<Value> {
    let cause = |reason: &str, field: &str, message: &str| json!({ "reason": reason, "message": format!("{field}: {message}"), "field": field });
    let mut causes = Vec::new();
    let data = |object: &Object| -> Fields {
        object
            .fields
            .iter()
            .filter(|(field, _)| field.starts_with("data."))
            .map(|(field, value)| (field.clone(), value.clone()))
            .collect()
    };
    if let Some(found) = found {
        if object.field("type") != found.field("type") {
            causes.push(cause("FieldValueInvalid", "type", "Invalid value: field is immutable"));
        }
        if found.is_immutable() && !object.is_immutable() {
            causes.push(cause("FieldValueForbidden", "immutable", "Forbidden: field is immutable when `immutable` is set"));
        }
        if found.is_immutable() && data(object) != data(found) {
            causes.push(cause("FieldValueForbidden", "data", "Forbidden: field is immutable when `immutable` is set"));
        }
    }
    if object.field("type") == Some("kubernetes.io/tls") {
        for name in ["tls.crt", "tls.key"] {
            if object.field(&format!("data.{name}")).is_none() {
                causes.push(cause("FieldValueRequired", &format!("data[{name}]"), "Required value"));
            }
        }
    }
    if data(object).values().map(|value| value.len() / 4 * 3).sum::<usize>() > LARGEST_SECRET {
        causes.push(cause("FieldValueTooLong", "data", "Too long: may not be more than 1048576 bytes"));
    }
    causes
}

fn check_kind(body: &Value, name: &str) -> Result<(), Answer> {
    if body["apiVersion"] != "v1" || body["kind"] != "Secret" {
        return Err(bad_request("the object provided is unrecognized: it has to be a Secret of v1"));
    }
    if body["metadata"]["name"] != name || name.is_empty() {
        return Err(bad_request("the name of the object does not match the name on the URL"));
    }
    Ok(())
}

fn check_revision(object: &Object, body: &Value) -> Result<(), Answer> {
    let is = |field: &str, value: String| body["metadata"][field].as_str().is_none_or(|wanted| wanted == value);
    if is("uid", object.uid.clone()) && is("resourceVersion", object.revision.to_string()) {
        return Ok(());
    }
    let message = format!(
        "Operation cannot be fulfilled on secrets \"{}\": the object has been modified; please apply your changes to the latest version and try again",
        object.name
    );
    Err(status(409, "Conflict", &message, &json!({ "name": object.name, "kind": "secrets" })))
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else { return *target = patch.clone() };
    if !target.is_object() {
        *target = json!({});
    }
    let target = target.as_object_mut().unwrap();
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            merge(target.entry(name).or_insert(Value::Null), value);
        }
    }
}

fn parameters(query: &str) -> BTreeMap<String, String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let code = u8::from_str_radix(std::str::from_utf8(&rest[..2]).unwrap(), 16).unwrap();
                rest = &rest[2..];
                code
            }
            other => other,
        });
    }
    String::from_utf8(bytes).unwrap()
}

fn groups() -> Answer {
    let group = |name: &str| {
        let version = json!({ "groupVersion": format!("{name}/v1"), "version": "v1" });
        json!({ "name": name, "versions": [version], "preferredVersion": version })
    };
    let groups = [group("apps"), group("authorization.k8s.io")];
    Answer::new(200).with_json(&json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups }))
}

fn resources(version: &str, list: &[(&str, &str, bool)]) -> Answer {
    let resource = |(name, kind, namespaced): &(&str, &str, bool)| {
        let verbs = ["create", "delete", "get", "list", "patch", "update"];
        json!({ "name": name, "singularName": kind.to_lowercase(), "namespaced": namespaced, "kind": kind, "verbs": verbs })
    };
    let resources: Vec<Value> = list.iter().map(resource).collect();
    Answer::new(200)
        .with_json(&json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources }))
}

fn not_found(resource: &str, name: &str) -> Answer {
    let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
    let details = json!({ "name": name, "group": group, "kind": plural });
    status(404, "NotFound", &format!("{resource} \"{name}\" not found"), &details)
}

fn bad_request(message: &str) -> Answer {
    status(400, "BadRequest", message, &json!({}))
}

fn unsupported() -> Answer {
    status(415, "UnsupportedMediaType", "the body of the request was in an unknown format", &json!({}))
}

fn method_not_allowed() -> Answer {
    status(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", &json!({}))
}

/// A failure, in the form that every failure of the API has.
pub(super) fn status(code: u16, reason: &str, message: &str, details: &Value) -> Answer {
    Answer::new(code).with_json(&json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "details": details, "code": code,
    }))
}
