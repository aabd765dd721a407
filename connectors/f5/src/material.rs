//! A certificate as the objects that it becomes, and how those of a target are told from all others.

use deploy_core::Certificate;
use deploy_core::digest::{hex, sha256};
use deploy_core::secret::SecretBytes;

use crate::profile::Pair;

/// One file object.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) kind: ObjectKind,
    pub(crate) partition: String,
    pub(crate) name: String,
    pub(crate) content: SecretBytes,
}

/// Where the API has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ObjectKind {
    Certificate,
    Key,
}

impl ObjectKind {
    /// Named as in the API.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Certificate => "ssl-cert",
            Self::Key => "ssl-key",
        }
    }
}

impl Object {
    /// The full path.
    pub(crate) fn path(&self) -> String {
        format!("/{}/{}", self.partition, self.name)
    }
}

/// Key, certificate, and intermediates if there are any, named by what is in them: what was put there before is found again,
/// and never changes. Intermediates that stay the same stay one object.
pub(crate) fn objects(certificate: &Certificate, target: &str, partition: &str) -> Vec<Object> {
    let object = |kind, name, content| Object { kind, partition: partition.to_owned(), name, content };
    let named = |suffix| format!("{}{}{suffix}", prefix(target), certificate.fingerprint());
    let mut objects = vec![
        object(ObjectKind::Key, named(".key"), certificate.key_pem()),
        object(ObjectKind::Certificate, named(".crt"), certificate.leaf_pem().into()),
    ];
    if certificate.chain_der().len() > 0 {
        let chain = certificate.chain_pem();
        let name = format!("{}{}.chain.crt", prefix(target), hex(&sha256(&chain)));
        objects.push(object(ObjectKind::Certificate, name, chain.into()));
    }
    objects
}

/// The full paths of what [`objects`] makes.
pub(crate) fn pair(certificate: &Certificate, target: &str, partition: &str) -> Pair {
    let paths: Vec<String> = objects(certificate, target, partition).iter().map(Object::path).collect();
    Pair { key: paths[0].clone(), certificate: paths[1].clone(), chain: paths.get(2).cloned() }
}

/// Whether it is the path of an object of this target. Another target's name may begin like this one's.
pub(crate) fn is_ours(path: &str, target: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let Some((digest, suffix)) = name.strip_prefix(&prefix(target)).and_then(|rest| rest.split_once('.')) else { return false };
    let is_digest = digest.len() == 64 && digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_digest && ["crt", "key", "chain.crt"].contains(&suffix)
}

/// Whether it is the name of an upload of this target, of whatever run.
pub(crate) fn is_our_upload(name: &str, target: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(object, run)| is_ours(object, target) && run.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn prefix(target: &str) -> String {
    format!("certdeploy-{target}-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p7_only_what_this_target_has_named_is_its_own() {
        let digest = "0123456789abcdef".repeat(4);
        assert!(is_our_upload(&format!("certdeploy-front-{digest}.chain.crt.18f3a2"), "front"));
        assert!(!is_our_upload(&format!("certdeploy-front-2-{digest}.chain.crt.18f3a2"), "front"));
        assert!(!is_our_upload(&format!("certdeploy-front-{digest}.key"), "front"));
        for suffix in ["crt", "key", "chain.crt"] {
            assert!(is_ours(&format!("certdeploy-front-{digest}.{suffix}"), "front"));
            assert!(is_ours(&format!("/Common/certdeploy-front-{digest}.{suffix}"), "front"));
        }
        for name in [
            format!("certdeploy-front-2-{digest}.crt"),
            format!("certdeploy-fronts-{digest}.crt"),
            format!("front-{digest}.crt"),
            format!("certdeploy-front-{digest}.pem"),
            format!("certdeploy-front-{}.crt", &digest[1..]),
            format!("certdeploy-front-{}.crt", digest.to_uppercase()),
            "certdeploy-front-.crt".to_owned(),
            "default.crt".to_owned(),
        ] {
            assert!(!is_ours(&name, "front"), "{name}");
        }
    }
}
