mod certificates;
mod failures;
mod starttls;
mod waiting;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use deploy_testkit::{Authority, Issued, KeyKind, Request, provider};

use super::*;

/// More than any of these tests needs on a busy machine.
fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn issue(authority: &Authority, key: KeyKind) -> Issued {
    authority.issue(&Request::new(&["www.example.test"]).key(key))
}

fn at(address: SocketAddr) -> Endpoint {
    Endpoint::new(address.to_string())
}

fn named(address: SocketAddr) -> Endpoint {
    at(address).with_server_name("www.example.test")
}

fn ask(endpoint: &Endpoint) -> Result<Observation, ProbeError> {
    let mut observations = probe(endpoint, &provider(), soon(), None)?;
    assert_eq!(observations.len(), 1, "one address was asked");
    Ok(observations.remove(0))
}

/// The fingerprint that an endpoint serves with a handshake that works.
fn served(endpoint: &Endpoint) -> String {
    let observation = ask(endpoint).unwrap();
    observation.handshake.unwrap();
    observation.fingerprint
}
