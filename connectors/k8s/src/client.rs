//! The requests to the API of a cluster (kubernetes.io, "Kubernetes API Concepts"), and no policy.

use std::collections::BTreeMap;

use deploy_core::secret::SecretBytes;
use deploy_core::{Context, Error, ErrorKind};
use deploy_http::{Client as Http, Request, Response};
use k8s_openapi::List;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, Preconditions};
use serde::Deserialize;

use crate::access::Access;
use crate::config::{K8sSettings, Workload};
use crate::object::{Body, Held};
use crate::refusal::{self, Asked};

/// Annotations of a workload's pods; those without a value are taken away.
pub(crate) type Annotations = BTreeMap<String, Option<String>>;

/// Whether a change is made, or only tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The cluster does everything but writing it down.
    DryRun,
    Real,
}

/// The API, as one user sees it. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: Http,
    secret: String,
    manager: String,
    /// Where the Secret is, if the settings do not say.
    pub(crate) namespace: String,
}

impl Client {
    /// Connects to nothing yet.
    pub(crate) fn new(settings: &K8sSettings, context: &Context) -> Result<Self, Error> {
        let Access { client, namespace } = Access::of(settings, context)?;
        Ok(Self { http: client, secret: settings.secret.clone(), manager: settings.field_manager.clone(), namespace })
    }

    /// The namespaces with these labels that are there to stay, by name.
    pub(crate) async fn namespaces(&self, selector: &str) -> Result<Vec<String>, Error> {
        let request = Request::get(&["api", "v1", "namespaces"]).with_query("labelSelector", selector);
        let asked = Asked { verb: "list", resource: "namespaces", namespace: None, name: None };
        let list: List<Namespace> = self.send(request, &asked, &[200]).await?.json()?;
        let staying = list.items.into_iter().filter(|namespace| namespace.metadata.deletion_timestamp.is_none());
        let mut names: Vec<String> = staying.filter_map(|namespace| namespace.metadata.name).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// The Secret as it is; `None` where there is none.
    pub(crate) async fn find(&self, namespace: &str) -> Result<Option<Held>, Error> {
        let answer = self.send(Request::get(&self.path(namespace)), &self.asked("get", namespace), &[200, 404]).await?;
        if answer.status() == 404 { Ok(None) } else { answer.json().map(Some) }
    }

    /// Server-side apply: what the body has becomes ours, what we had and it does not have goes.
    pub(crate) async fn apply(&self, namespace: &str, body: &Body<'_>, force: bool, mode: Mode) -> Result<(), Error> {
        let request = Request::patch(&self.path(namespace))
            .with_query("fieldManager", &self.manager)
            .with_query("fieldValidation", "Strict")
            .with_query("force", if force { "true" } else { "false" })
            .with_body("application/apply-patch+yaml", written(body)?);
        self.change(request, mode, &self.asked("patch", namespace), &[200, 201]).await
    }

    /// Makes the Secret, if there is none.
    pub(crate) async fn create(&self, namespace: &str, body: &Body<'_>) -> Result<(), Error> {
        let request = Request::post(&["api", "v1", "namespaces", namespace, "secrets"])
            .with_query("fieldManager", &self.manager)
            .with_body("application/json", written(body)?);
        self.change(request, Mode::Real, &self.asked("create", namespace), &[201]).await
    }

    /// Deletes exactly this one, in exactly this revision, unless it is gone already.
    pub(crate) async fn delete(&self, namespace: &str, found: &Held, mode: Mode) -> Result<(), Error> {
        let preconditions =
            Preconditions { uid: found.uid().map(str::to_owned), resource_version: found.revision().map(str::to_owned) };
        let options = DeleteOptions { preconditions: Some(preconditions), ..DeleteOptions::default() };
        let request = Request::delete(&self.path(namespace)).with_json(&options);
        self.change(request, mode, &self.asked("delete", namespace), &[200, 202, 404]).await
    }

    /// The annotations of a workload's pods.
    pub(crate) async fn annotations(&self, namespace: &str, workload: &Workload) -> Result<BTreeMap<String, String>, Error> {
        let path = workload_path(namespace, workload);
        let answer = self.send(Request::get(&path), &asked_for(workload, "get", namespace), &[200]).await?;
        let found: WithPods = answer.json()?;
        Ok(found.spec.template.metadata.annotations)
    }

    /// Changes annotations of a workload's pods, which has them replaced.
    pub(crate) async fn annotate(&self, place: &Place<'_>, annotations: &Annotations, mode: Mode) -> Result<(), Error> {
        let Place { namespace, workload } = *place;
        let patch = serde_json::json!({ "spec": { "template": { "metadata": { "annotations": annotations } } } });
        let request = Request::patch(&workload_path(namespace, workload))
            .with_query("fieldManager", &self.manager)
            .with_body("application/merge-patch+json", written(&patch)?);
        self.change(request, mode, &asked_for(workload, "patch", namespace), &[200]).await
    }

    /// Whether it would be allowed; `None` where the cluster does not say.
    pub(crate) async fn may(&self, asked: &Asked<'_>) -> Result<Option<bool>, Error> {
        let owned = |text: &str| Some(text.to_owned());
        let (resource, group) = asked.resource.split_once('.').unwrap_or((asked.resource, ""));
        let attributes = ResourceAttributes {
            verb: owned(asked.verb),
            group: owned(group),
            resource: owned(resource),
            namespace: asked.namespace.and_then(owned),
            name: asked.name.and_then(owned),
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
        let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
        let request = Request::post(&["apis", "authorization.k8s.io", "v1", "selfsubjectaccessreviews"]).with_json(&review);
        let answer = self.http.send(request).await?;
        if answer.status() != 201 {
            return Ok(None);
        }
        let review: SelfSubjectAccessReview = answer.json()?;
        Ok(review.status.map(|status| status.allowed))
    }

    /// What is asked of the Secret, for messages and permissions. A name means nothing where it is not there yet.
    pub(crate) fn asked<'a>(&'a self, verb: &'a str, namespace: &'a str) -> Asked<'a> {
        let name = Some(self.secret.as_str()).filter(|_| verb != "create");
        Asked { verb, resource: "secrets", namespace: Some(namespace), name }
    }

    fn path<'a>(&'a self, namespace: &'a str) -> [&'a str; 6] {
        ["api", "v1", "namespaces", namespace, "secrets", &self.secret]
    }

    async fn change(&self, request: Request, mode: Mode, asked: &Asked<'_>, statuses: &[u16]) -> Result<(), Error> {
        let request = if mode == Mode::DryRun { request.with_query("dryRun", "All") } else { request };
        self.send(request, asked, statuses).await.map(drop)
    }

    async fn send(&self, request: Request, asked: &Asked<'_>, statuses: &[u16]) -> Result<Response, Error> {
        let answer = self.http.send(request).await?;
        if statuses.contains(&answer.status()) { Ok(answer) } else { Err(refusal::error(&answer, asked)) }
    }
}

/// One workload in one namespace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) workload: &'a Workload,
}

/// What is asked of a workload.
pub(crate) fn asked_for<'a>(workload: &'a Workload, verb: &'a str, namespace: &'a str) -> Asked<'a> {
    Asked { verb, resource: workload.kind.resource(), namespace: Some(namespace), name: Some(&workload.name) }
}

fn workload_path<'a>(namespace: &'a str, workload: &'a Workload) -> [&'a str; 7] {
    let resource = workload.kind.plural();
    ["apis", "apps", "v1", "namespaces", namespace, resource, &workload.name]
}

fn written(body: &impl serde::Serialize) -> Result<SecretBytes, Error> {
    SecretBytes::from_json(body)
        .map_err(|error| Error::new(ErrorKind::Internal, "an object cannot be written as JSON").with_source(error))
}

/// So much of a workload as is of interest here, whatever it is.
#[derive(Deserialize)]
struct WithPods {
    spec: PodsSpec,
}

#[derive(Deserialize)]
struct PodsSpec {
    template: PodTemplate,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PodTemplate {
    metadata: PodMetadata,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PodMetadata {
    annotations: BTreeMap<String, String>,
}
