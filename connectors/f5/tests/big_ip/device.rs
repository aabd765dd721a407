//! What a BIG-IP does besides its configuration: tokens, uploads, transactions, saving, synchronising, and serving.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use deploy_testkit::stand_in::HttpRequest;
use deploy_testkit::{Issued, TlsServer};
use serde_json::{Map, Value, json};

use super::config::{Config, Resource, entries, link};
use super::refusal::{Refusal, daemon, framework};

/// The longest life of a token, in seconds.
const LONGEST: u64 = 36_000;

/// One device.
pub(crate) struct Device {
    pub(crate) users: BTreeMap<String, User>,
    pub(crate) tokens: BTreeMap<String, Token>,
    /// How long a new one lives.
    pub(crate) token_lifetime: Duration,
    pub(crate) most_tokens: usize,
    /// Uploads that are whole.
    pub(crate) downloads: BTreeMap<String, Vec<u8>>,
    /// And those that are not.
    pub(crate) partial: BTreeMap<String, Vec<u8>>,
    pub(crate) config: Config,
    /// What a restart brings back.
    pub(crate) saved: Config,
    pub(crate) transactions: BTreeMap<u64, Transaction>,
    pub(crate) transaction_lifetime: Duration,
    /// How often it says that a commit is not over.
    pub(crate) slow_commits: usize,
    pub(crate) group: Option<Group>,
    /// The virtual server of each client-ssl profile.
    pub(crate) virtual_servers: BTreeMap<String, TlsServer>,
    pub(crate) trouble: Trouble,
    scratch: TlsServer,
    numbers: u64,
}

pub(crate) struct User {
    pub(crate) password: String,
    pub(crate) is_administrator: bool,
}

pub(crate) struct Token {
    pub(crate) user: String,
    pub(crate) started: Instant,
    pub(crate) lifetime: Duration,
}

pub(crate) struct Transaction {
    pub(crate) commands: Vec<(Resource, HttpRequest)>,
    touched: Instant,
    /// How often it will still say that it is not over; `None` before the commit.
    left: Option<usize>,
}

/// A group of two devices.
pub(crate) struct Group {
    pub(crate) name: String,
    /// What the other one has.
    pub(crate) peer: Config,
    /// What it says instead of what is so.
    pub(crate) says: Option<&'static str>,
    /// How often it says that it is at it, after each time that it was asked to, and from now on.
    pub(crate) slow: usize,
    pub(crate) left: usize,
}

/// What a test wants to go wrong.
#[derive(Default)]
pub(crate) struct Trouble {
    /// The next checks that refuse.
    pub(crate) refused_checks: usize,
    /// The next commits that fail.
    pub(crate) refused_commits: usize,
    /// So many commits are taken, and then no more.
    pub(crate) commits_left: Option<usize>,
    /// Virtual servers go on with what they have.
    pub(crate) is_frozen: bool,
    /// What is served after the next commit, instead of what was committed.
    pub(crate) serves: Option<Issued>,
    /// What others do right after the next commit.
    pub(crate) after_commit: Option<(String, Vec<Value>)>,
    /// So many requests are answered, and then all tokens are gone.
    pub(crate) tokens_last: Option<usize>,
    /// What others do before the next changes: one before each.
    pub(crate) overtaking: VecDeque<(String, Vec<Value>)>,
}

impl Device {
    pub(crate) fn new() -> Self {
        Self {
            users: BTreeMap::new(),
            tokens: BTreeMap::new(),
            token_lifetime: Duration::from_secs(1200),
            most_tokens: 100,
            downloads: BTreeMap::new(),
            partial: BTreeMap::new(),
            config: Config::default(),
            saved: Config::default(),
            transactions: BTreeMap::new(),
            transaction_lifetime: Duration::from_secs(120),
            slow_commits: 0,
            group: None,
            virtual_servers: BTreeMap::new(),
            trouble: Trouble::default(),
            scratch: TlsServer::builder().start(),
            numbers: 1_583_156_579_056_330,
        }
    }

    /// What nobody wants any more.
    pub(crate) fn forget(&mut self) {
        self.tokens.retain(|_, token| token.started.elapsed() < token.lifetime);
        let lifetime = self.transaction_lifetime;
        self.transactions.retain(|_, transaction| transaction.touched.elapsed() < lifetime);
    }

    pub(crate) fn let_others_pass(&mut self) {
        if let Some((profile, entries)) = self.trouble.overtaking.pop_front() {
            self.put(&profile, entries);
        }
    }

    fn put(&mut self, profile: &str, entries: Vec<Value>) {
        self.config.client_ssl.get_mut(profile).unwrap().insert("certKeyChain".to_owned(), entries.into());
        self.serve();
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(crate) fn log_in(&mut self, body: &Map<String, Value>) -> Result<Value, Refusal> {
        let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
        let (name, provider) = (text("username"), text("loginProviderName"));
        if provider != "tmos" {
            return Err(framework(401, "loginProviderName is invalid."));
        }
        let user = self.users.get(name).filter(|user| user.password == text("password"));
        if user.is_none() {
            return Err(framework(401, "Authentication failed."));
        }
        if self.tokens.values().filter(|token| token.user == name).count() >= self.most_tokens {
            return Err(framework(400, &format!("Bad Request: user {name} has reached maximum active login tokens")));
        }
        let (token, lifetime) = (format!("TOKEN{:016X}", self.number()), self.token_lifetime);
        self.tokens.insert(token.clone(), Token { user: name.to_owned(), started: Instant::now(), lifetime });
        let now = 1_760_000_000_000_000_u64;
        Ok(json!({
            "username": name,
            "loginProviderName": provider,
            "loginReference": { "link": "https://localhost/mgmt/cm/system/authn/providers/tmos/1f44a60e/login" },
            "token": {
                "token": token, "name": token, "userName": name, "authProviderName": provider, "timeout": lifetime.as_secs(),
                "lastUpdateMicros": now, "expirationMicros": now + lifetime.as_micros() as u64,
                "kind": "shared:authz:tokens:authtokenitemstate",
            },
        }))
    }

    pub(crate) fn extend(&mut self, token: &str, seconds: u64) -> Result<Value, Refusal> {
        if seconds > LONGEST {
            return Err(framework(406, "Auth-token absolute timeout (36000 seconds) exceeded"));
        }
        let entry = self.tokens.get_mut(token).ok_or_else(|| framework(400, "Bad Request: token is invalid"))?;
        entry.lifetime = Duration::from_secs(seconds);
        Ok(json!({ "token": token, "name": token, "timeout": seconds, "kind": "shared:authz:tokens:authtokenitemstate" }))
    }

    pub(crate) fn begin(&mut self) -> u64 {
        let number = self.number();
        self.transactions.insert(number, Transaction { commands: Vec::new(), touched: Instant::now(), left: None });
        number
    }

    pub(crate) fn show_transaction(&mut self, number: u64) -> Result<Value, Refusal> {
        let seconds = self.transaction_lifetime.as_secs();
        let transaction = self.transactions.get_mut(&number).ok_or_else(gone)?;
        let state = match &mut transaction.left {
            None => "STARTED",
            Some(0) => "COMPLETED",
            Some(left) => {
                *left -= 1;
                "VALIDATING"
            }
        };
        Ok(transaction_state(number, state, seconds))
    }

    /// The answer of a member: a command that waits.
    pub(crate) fn queue(&mut self, number: u64, resource: Resource, request: &HttpRequest) -> Result<Value, Refusal> {
        let transaction = self.transactions.get_mut(&number).filter(|transaction| transaction.left.is_none()).ok_or_else(gone)?;
        transaction.touched = Instant::now();
        transaction.commands.push((resource, request.clone()));
        let command = transaction.commands.len();
        Ok(json!({
            "method": request.method, "commandId": command, "evalOrder": command,
            "kind": "tm:transaction:commandsstate",
            "selfLink": link(&format!("transaction/{number}/commands/{command}")),
        }))
    }

    /// All of it or nothing; or only whether it could be.
    pub(crate) fn commit(&mut self, number: u64, validate_only: bool) -> Result<Value, Refusal> {
        let transaction = self.transactions.remove(&number).ok_or_else(gone)?;
        if transaction.commands.is_empty() {
            return Err(daemon(400, "01070000:3", "the transaction has no commands"));
        }
        self.may_commit(validate_only).map_err(Refusal::of_transaction)?;
        let mut config = self.config.clone();
        for (resource, request) in &transaction.commands {
            config.apply(resource, request, &self.downloads).map_err(Refusal::of_transaction)?;
        }
        config.check(&self.scratch).map_err(Refusal::of_transaction)?;
        if !validate_only {
            self.config = config;
            self.serve();
            if let Some((profile, entries)) = self.trouble.after_commit.take() {
                self.put(&profile, entries);
            }
        }
        let seconds = self.transaction_lifetime.as_secs();
        let Some(left) = self.slow_commits.checked_sub(1) else { return Ok(transaction_state(number, "COMPLETED", seconds)) };
        self.transactions.insert(number, Transaction { left: Some(left), ..transaction });
        Ok(transaction_state(number, "VALIDATING", seconds))
    }

    fn may_commit(&mut self, validate_only: bool) -> Result<(), Refusal> {
        let trouble = &mut self.trouble;
        let refused = if validate_only { &mut trouble.refused_checks } else { &mut trouble.refused_commits };
        if *refused > 0 {
            *refused -= 1;
            return Err(daemon(400, "01070734:3", "Configuration error: told to refuse"));
        }
        match &mut trouble.commits_left {
            Some(0) if !validate_only => Err(daemon(400, "01070734:3", "Configuration error: told to refuse")),
            Some(left) if !validate_only => {
                *left -= 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A change without a transaction.
    pub(crate) fn change(&mut self, resource: &Resource, request: &HttpRequest) -> Result<Value, Refusal> {
        let is_open = self.transactions.values().any(|transaction| transaction.left.is_none());
        if is_open && resource.kind.is_profile() {
            return Err(framework(400, "this stand-in takes no change of a profile outside of the transaction that is open"));
        }
        let mut config = self.config.clone();
        let shown = config.apply(resource, request, &self.downloads)?;
        config.check(&self.scratch)?;
        self.config = config;
        if resource.kind.is_profile() {
            self.serve();
        }
        Ok(shown)
    }

    /// What the virtual servers show from now on.
    pub(crate) fn serve(&mut self) {
        if self.trouble.is_frozen {
            return;
        }
        let other = self.trouble.serves.take();
        for (profile, server) in &self.virtual_servers {
            let entry = entries(&self.config.client_ssl[profile]).next();
            let pair = entry.and_then(|entry| self.config.pair(profile, entry).ok().flatten());
            match (&other, pair) {
                (Some(other), _) => server.set_certificate(other),
                (None, Some((fullchain, key))) => server.set_pem(&fullchain, &key).unwrap(),
                (None, None) => server.clear_certificate(),
            }
        }
    }

    pub(crate) fn sync(&mut self, group: &str) -> Result<(), Refusal> {
        let known = self.group.as_mut().filter(|known| known.name == group);
        let known = known.ok_or_else(|| daemon(400, "01070712:3", &format!("device group {group} was not found")))?;
        if known.says.is_none() {
            known.peer = self.config.clone();
            known.left = known.slow;
        }
        Ok(())
    }

    pub(crate) fn sync_status(&mut self) -> (&'static str, &'static str) {
        match &mut self.group {
            None => ("Standalone", "standalone"),
            Some(Group { says: Some(says), .. }) => (says, "high-availability"),
            Some(group) if group.peer != self.config => ("Changes Pending", "high-availability"),
            Some(group) if group.left > 0 => {
                group.left -= 1;
                ("Syncing", "high-availability")
            }
            Some(_) => ("In Sync", "high-availability"),
        }
    }
}

fn gone() -> Refusal {
    framework(404, "Missing transaction ID for this call.")
}

fn transaction_state(number: u64, state: &str, seconds: u64) -> Value {
    json!({
        "transId": number, "state": state, "timeoutSeconds": seconds, "asyncExecution": false, "validateOnly": false,
        "executionTimeout": 300, "executionTime": 0, "failureReason": "", "kind": "tm:transactionstate",
        "selfLink": link(&format!("transaction/{number}")),
    })
}
