//! A stand-in for ACM, from its service model (botocore 1.44.8) and its user guide: it checks signatures, and refuses what ACM
//! refuses. A load balancer takes up by itself what is imported for a name, as one that finds its certificates by name would.
#![allow(dead_code, reason = "each test has use for a part of it")]

pub(crate) mod api;
pub(crate) mod material;
pub(crate) mod signature;

use std::collections::BTreeMap;

use deploy_testkit::stand_in::{Faults, HttpRequest, Record, StandIn};
use deploy_testkit::{Authority, Issued, Request, TlsServer, tree::Tree};

use material::Material;
use signature::Key;

pub(crate) const REGION: &str = "eu-central-1";
pub(crate) const ACCOUNT: &str = "123456789012";
/// As in AWS's documentation, with a secret of this length.
pub(crate) const KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
pub(crate) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/canary/bPxRfiCYzEXAMPLE";

pub(crate) type Tags = BTreeMap<String, String>;

/// What an account has in the region.
pub(crate) struct State {
    pub(crate) keys: Vec<Key>,
    pub(crate) region: String,
    pub(crate) partition: String,
    pub(crate) certificates: BTreeMap<String, Stored>,
    /// Certificates in one part of a list, whatever is asked for.
    pub(crate) page: usize,
    /// How many reads of a certificate still show what was there before the last change.
    pub(crate) lag: usize,
    pub(crate) behind: Option<BTreeMap<String, Stored>>,
    /// The name that the load balancer serves.
    pub(crate) balanced: Option<String>,
    pub(crate) balancer: TlsServer,
    /// It goes on with what it has.
    pub(crate) frozen: bool,
    /// It serves this instead, once it takes up something.
    pub(crate) another: Option<Issued>,
    /// What somebody else imports just before the next import, which is refused then.
    pub(crate) overtaking: Option<Issued>,
    pub(crate) made: usize,
}

/// One certificate.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) material: Material,
    pub(crate) tags: Tags,
    /// `IMPORTED` or `AMAZON_ISSUED`.
    pub(crate) kind: &'static str,
    pub(crate) in_use_by: Vec<String>,
    pub(crate) number: usize,
}

impl State {
    fn new() -> Self {
        let key = Key { id: KEY_ID.to_owned(), secret: SECRET.to_owned(), token: None };
        Self {
            keys: vec![key],
            region: REGION.to_owned(),
            partition: "aws".to_owned(),
            certificates: BTreeMap::new(),
            page: 2,
            lag: 0,
            behind: None,
            balanced: None,
            balancer: TlsServer::builder().start(),
            frozen: false,
            another: None,
            overtaking: None,
            made: 0,
        }
    }

    /// Makes one, as somebody else would.
    pub(crate) fn add(&mut self, issued: &Issued, kind: &'static str, tags: &[(&str, &str)]) -> String {
        let material = Material::read(&issued.leaf_pem, &issued.chain_pem, &issued.key_pem).unwrap();
        let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.insert(material, kind, tags)
    }

    pub(crate) fn insert(&mut self, material: Material, kind: &'static str, tags: Tags) -> String {
        self.made += 1;
        let (partition, region, number) = (&self.partition, &self.region, self.made);
        let arn = format!("arn:{partition}:acm:{region}:{ACCOUNT}:certificate/12345678-1234-1234-1234-{number:012}");
        self.remember();
        self.certificates.insert(arn.clone(), Stored { material, tags, kind, in_use_by: Vec::new(), number });
        self.balance();
        arn
    }

    /// Before a change: what reads that are behind will show.
    pub(crate) fn remember(&mut self) {
        if self.lag > 0 {
            self.behind = Some(self.certificates.clone());
        }
    }

    /// The load balancer looks for a certificate of its name, the newest one, and serves it.
    pub(crate) fn balance(&mut self) {
        let Some(name) = self.balanced.clone() else { return };
        let fits = |stored: &Stored| {
            let wildcard = format!("*.{}", name.split_once('.').unwrap().1);
            stored.material.names.iter().any(|other| *other == name || *other == wildcard)
        };
        let newest = self.certificates.iter().filter(|(_, stored)| fits(stored)).max_by_key(|(_, stored)| stored.number);
        let newest = newest.map(|(arn, stored)| (arn.clone(), stored.material.clone()));
        let arn = format!(
            "arn:{}:elasticloadbalancing:{}:{ACCOUNT}:loadbalancer/app/front/50dc6c495c0c9188",
            self.partition, self.region
        );
        for (other, stored) in &mut self.certificates {
            stored.in_use_by.retain(|user| *user != arn);
            stored.in_use_by.extend(newest.as_ref().filter(|(newest, _)| newest == other).map(|_| arn.clone()));
        }
        if self.frozen {
            return;
        }
        match (newest, self.another.take()) {
            (Some(_), Some(another)) => self.balancer.set_certificate(&another),
            (Some((_, material)), None) => self.balancer.set_pem(&material::fullchain(&material), &material.key).unwrap(),
            (None, _) => self.balancer.clear_certificate(),
        }
    }
}

/// ACM, in one region.
pub(crate) struct Acm {
    stand_in: StandIn<State>,
    pub(crate) root_pem: String,
}

impl Acm {
    /// With nothing in it.
    pub(crate) fn start() -> Self {
        let authority = Authority::new();
        let certificate = authority.issue(&Request::new(&["localhost"]).with_ips(&[[127, 0, 0, 1].into()]));
        Self { stand_in: StandIn::start(&certificate, State::new(), api::answer), root_pem: authority.root_pem() }
    }

    pub(crate) fn url(&self) -> String {
        self.stand_in.url()
    }

    pub(crate) fn faults(&self) -> &Faults {
        self.stand_in.faults()
    }

    pub(crate) fn record(&self) -> &Record {
        self.stand_in.record()
    }

    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        self.stand_in.with_state(work)
    }

    pub(crate) fn add(&self, issued: &Issued, tags: &[(&str, &str)]) -> String {
        self.with(|state| state.add(issued, "IMPORTED", tags))
    }

    /// The operations since the start, or since the record was cleared.
    pub(crate) fn operations(&self) -> Vec<String> {
        self.record().exchanges().iter().map(|exchange| operation(&exchange.request).to_owned()).collect()
    }

    /// The bodies of one operation.
    pub(crate) fn bodies(&self, wanted: &str) -> Vec<serde_json::Value> {
        let exchanges = self.record().exchanges();
        let matching = exchanges.iter().filter(|exchange| operation(&exchange.request) == wanted);
        matching.map(|exchange| serde_json::from_slice(&exchange.request.body).unwrap()).collect()
    }

    pub(crate) fn leaf(&self, arn: &str) -> Option<String> {
        self.with(|state| state.certificates.get(arn).map(|stored| stored.material.fingerprint.clone()))
    }

    pub(crate) fn tags(&self, arn: &str) -> Tags {
        self.with(|state| state.certificates[arn].tags.clone())
    }

    pub(crate) fn arns(&self) -> Vec<String> {
        self.with(|state| state.certificates.keys().cloned().collect())
    }

    /// Everything there is, to the last bit.
    pub(crate) fn tree(&self) -> Tree {
        let text = |stored: &Stored| {
            let Material { leaf, chain, key, .. } = &stored.material;
            format!("{leaf}{chain}{key}{:?}{}{:?}", stored.tags, stored.kind, stored.in_use_by).into_bytes()
        };
        let entries: Vec<_> =
            self.with(|state| state.certificates.iter().map(|(arn, stored)| (arn.clone(), text(stored))).collect());
        Tree::of_objects(entries)
    }
}

/// `ImportCertificate`.
pub(crate) fn operation(request: &HttpRequest) -> &str {
    let target = request.header("x-amz-target").unwrap_or_default();
    target.strip_prefix("CertificateManager.").unwrap_or_default()
}
