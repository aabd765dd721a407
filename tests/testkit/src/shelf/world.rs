//! A shelf as the world of a conformance suite, for connectors in whatever language that deploy to one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Objects, Shelf};
use crate::conformance::{Fault, NAME};
use crate::observe;
use crate::pki::{Authority, Request};
use crate::stand_in::{self, Answer};
use crate::tree::Tree;

/// A shelf with the listener [`ShelfWorld::LISTENER`] and with certificates of others, and two files for a client: its token and
/// the root that the API's certificate was issued below.
///
/// A [`crate::conformance::Harness`] wraps it, adds the settings of its connector, and hands everything else on.
#[derive(Debug)]
pub struct ShelfWorld {
    shelf: Shelf,
    directory: PathBuf,
}

impl ShelfWorld {
    /// The listener that a connector deploys to.
    pub const LISTENER: &'static str = "front";
    /// For [`crate::conformance::Harness::FAULTS`].
    pub const FAULTS: &'static [Fault] = &[
        Fault::CheckerRefuses,
        Fault::CheckerHangs,
        Fault::ReloadFails,
        Fault::ReloadAlwaysFails,
        Fault::ReloadHangs,
        Fault::Ignored,
        Fault::Unauthenticated,
        Fault::Forbidden,
        Fault::Missing,
        Fault::Overtaken,
        Fault::RateLimited,
        Fault::Busy,
        Fault::DropsBefore,
        Fault::DropsAfter,
        Fault::ArrivesTwice,
        Fault::Slow,
        Fault::Silent,
        Fault::UntrustedTls,
        Fault::PartialUpload,
    ];
    /// For [`crate::conformance::Harness::PERMISSION`].
    pub const PERMISSION: &'static str = "certificates.write";

    /// Starts one; the two files go into the directory.
    ///
    /// # Errors
    /// A file can't be written.
    pub fn start(directory: &Path) -> Result<Self, String> {
        let shelf = Shelf::start();
        shelf.add_listener(Self::LISTENER);
        shelf.add_listener("other");
        let authority = Authority::new();
        shelf.put("by-hand", &authority.issue(&Request::new(&["other.example.test"])), &[("team", "edge")]);
        let elsewhere = [("managed-by", "certdeploy"), ("target", "another")];
        shelf.put("certdeploy-of-another-target", &authority.issue(&Request::new(&["third.example.test"])), &elsewhere);
        shelf.activate("other", Some("by-hand"));
        let world = Self { shelf, directory: directory.to_owned() };
        for (path, text) in [(world.token_file(), world.shelf.writer_token()), (world.ca_file(), world.shelf.root_pem())] {
            private_file(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(world)
    }

    /// The shelf itself.
    #[must_use]
    pub fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// A file with the token of a writer, readable by its owner alone.
    #[must_use]
    pub fn token_file(&self) -> PathBuf {
        self.directory.join("token")
    }

    /// A file with the root of the API's certificate, as PEM.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// Where the listener can be seen, for `verify`.
    #[must_use]
    pub fn address(&self) -> std::net::SocketAddr {
        self.shelf.listener_address(Self::LISTENER)
    }

    /// What the listener serves.
    #[must_use]
    pub fn served(&self) -> Option<Vec<Vec<u8>>> {
        observe::served_chain(self.address(), Some(NAME)).ok()
    }

    /// Everything on the shelf, but the revisions.
    #[must_use]
    pub fn state(&self) -> Tree {
        let Objects { listeners, certificates } = self.shelf.objects();
        let listeners = listeners.into_iter().map(|(name, id)| (format!("listeners/{name}"), format!("{id:?}").into_bytes()));
        let certificates =
            certificates.into_iter().map(|(id, object)| (format!("certificates/{id}"), format!("{object:?}").into_bytes()));
        Tree::of_objects(listeners.chain(certificates))
    }

    /// What belongs to others: the other listener, and what does not carry both of our labels.
    #[must_use]
    pub fn foreign(&self) -> Tree {
        let ours = |path: &Path| {
            path == Path::new("listeners/front")
                || path.to_string_lossy().starts_with("certificates/certdeploy-")
                    && !path.ends_with("certdeploy-of-another-target")
        };
        self.state().retain(|path| !ours(path))
    }

    /// Breaks it in one of the ways of [`Self::FAULTS`].
    ///
    /// # Panics
    ///
    /// For another fault.
    pub fn break_with(&self, fault: Fault) {
        let inject = |fault: stand_in::Fault| self.shelf.faults().inject(fault);
        let error = |status: u16, text: &str| Answer::new(status).with_json(&serde_json::json!({ "error": text }));
        let wait = |status: u16| error(status, "not now").with_header("Retry-After", "1");
        let (check, certificates, listeners) = ("/v1/check", "/v1/certificates", "/v1/listeners");
        match fault {
            Fault::CheckerRefuses => inject(stand_in::Fault::answer(error(422, "told to refuse")).below(check)),
            Fault::CheckerHangs => inject(stand_in::Fault::never().below(check)),
            Fault::ReloadFails => {
                inject(stand_in::Fault::answer(error(422, "told to fail")).changing().below(listeners).times(1))
            }
            Fault::ReloadAlwaysFails => {
                self.shelf.freeze(Self::LISTENER, true);
                inject(stand_in::Fault::answer(error(422, "told to fail")).changing().below(listeners).after(1));
            }
            Fault::ReloadHangs => inject(stand_in::Fault::never().changing().below(listeners).times(1)),
            Fault::Ignored => self.shelf.freeze(Self::LISTENER, true),
            Fault::Unauthenticated => {
                inject(stand_in::Fault::answer(error(401, "unknown token").with_header("WWW-Authenticate", "Bearer")));
            }
            Fault::Forbidden => {
                let body = serde_json::json!({ "error": "forbidden", "permission": Self::PERMISSION });
                inject(stand_in::Fault::answer(Answer::new(403).with_json(&body)).changing());
            }
            Fault::Missing => inject(stand_in::Fault::answer(error(404, "no such listener")).below(listeners)),
            Fault::Overtaken => self.shelf.overtake(Self::LISTENER, Some("by-hand")),
            Fault::RateLimited => inject(stand_in::Fault::answer(wait(429)).times(1)),
            Fault::Busy => inject(stand_in::Fault::answer(wait(503)).times(1)),
            Fault::DropsBefore => {
                inject(stand_in::Fault::close_before().changing().below(certificates).times(1));
                inject(stand_in::Fault::close_before().changing().below(listeners).times(1));
            }
            Fault::DropsAfter => {
                inject(stand_in::Fault::close_after().changing().below(certificates).times(1));
                inject(stand_in::Fault::close_after().changing().below(listeners).times(1));
            }
            Fault::ArrivesTwice => inject(stand_in::Fault::twice().changing()),
            Fault::Slow => inject(stand_in::Fault::late(Duration::from_millis(100))),
            Fault::Silent => inject(stand_in::Fault::never()),
            Fault::UntrustedTls => inject(stand_in::Fault::untrusted_certificate()),
            Fault::PartialUpload => {
                inject(stand_in::Fault::answer(error(500, "told to break off")).changing().below(certificates).after(1));
            }
            other => panic!("a shelf has no fault {other:?}"),
        }
    }

    /// Ends every fault.
    pub fn heal(&self) {
        self.shelf.faults().heal();
        self.shelf.freeze(Self::LISTENER, false);
    }

    /// The token, for [`crate::conformance::Harness::secrets`].
    #[must_use]
    pub fn secrets(&self) -> Vec<(String, PathBuf)> {
        vec![(self.shelf.writer_token().to_owned(), self.token_file())]
    }

    /// How long a verification may take in the settings: some cases wait for its end.
    pub const VERIFY_TIMEOUT: Duration = Duration::from_secs(2);
}

fn private_file(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}
