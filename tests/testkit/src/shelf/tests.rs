use serde_json::json;

use super::*;
use crate::observe::served_fingerprint;
use crate::stand_in::client::{Reply, ask_tls};

struct World {
    shelf: Shelf,
    authority: Authority,
}

impl World {
    fn new() -> Self {
        let shelf = Shelf::start();
        shelf.add_listener("front");
        Self { shelf, authority: Authority::new() }
    }

    fn issue(&self) -> Issued {
        self.authority.issue(&Request::new(&["www.example.test"]))
    }

    fn ask(&self, line: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let authorization = format!("Bearer {}", self.shelf.writer_token());
        let headers = [&[("Authorization", authorization.as_str())], headers].concat();
        self.ask_as_given(line, &headers, body)
    }

    fn ask_as_given(&self, line: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        ask_tls(self.shelf.stand_in.address(), self.shelf.root_pem(), line, headers, body).unwrap()
    }

    fn ask_json(&self, line: &str, body: &serde_json::Value) -> Reply {
        self.ask(line, &[("Content-Type", "application/json")], &body.to_string())
    }

    fn switch(&self, if_match: &str, id: Option<&str>) -> Reply {
        let headers = [("Content-Type", "application/json"), ("If-Match", if_match)];
        self.ask("PUT /v1/listeners/front", &headers, &json!({ "certificate": id }).to_string())
    }

    fn put_key(&self, id: &str, key: &str) -> Reply {
        self.ask(&format!("PUT /v1/certificates/{id}/key"), &[("Content-Type", "text/plain")], key)
    }

    fn served(&self) -> Result<String, String> {
        served_fingerprint(self.shelf.listener_address("front"), None)
    }
}

fn certificate(issued: &Issued) -> serde_json::Value {
    json!({ "fullchain": issued.fullchain_pem, "labels": { "team": "edge" } })
}

#[test]
fn certificate_is_uploaded_in_two_steps_and_served() {
    let world = World::new();
    let issued = world.issue();
    world.served().unwrap_err();
    let shown = world.ask("GET /v1/listeners/front", &[], "");
    assert_eq!((shown.status, shown.header("etag"), shown.json()["certificate"].is_null()), (200, Some("\"1\""), true));

    assert_eq!(world.ask_json("PUT /v1/certificates/a", &certificate(&issued)).status, 201);
    assert_eq!(world.ask_json("PUT /v1/certificates/a", &certificate(&issued)).status, 200, "the same again");
    assert_eq!(world.switch("\"1\"", Some("a")).status, 409, "no key yet");
    assert_eq!(world.put_key("a", &world.issue().key_pem).status, 422, "another key");
    assert_eq!(world.put_key("b", &issued.key_pem).status, 404);
    assert_eq!(world.put_key("a", &issued.key_pem).status, 204);

    let listed = world.ask("GET /v1/certificates", &[], "");
    assert!(!listed.body.contains("PRIVATE KEY"));
    let expected = json!([{ "id": "a", "fingerprint": issued.fingerprint, "complete": true, "labels": { "team": "edge" } }]);
    assert_eq!(listed.json(), expected);

    let switched = world.switch("\"1\"", Some("a"));
    assert_eq!((switched.status, switched.header("etag")), (200, Some("\"2\"")));
    assert_eq!(world.served().as_ref(), Ok(&issued.fingerprint));
    assert_eq!(world.shelf.active("front"), Some(issued.fingerprint));

    assert_eq!(world.ask("DELETE /v1/certificates/a", &[], "").status, 409, "in use");
    assert_eq!(world.switch("\"2\"", None).status, 200);
    world.served().unwrap_err();
    assert_eq!(world.ask("DELETE /v1/certificates/a", &[], "").status, 204);
    assert_eq!(world.ask("DELETE /v1/certificates/a", &[], "").status, 404);
}

#[test]
fn token_decides_what_may_be_done() {
    let world = World::new();
    for headers in [&[][..], &[("Authorization", "Bearer nobody")], &[("Authorization", "Basic YTpi")]] {
        let refused = world.ask_as_given("GET /v1/certificates", headers, "");
        assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer")));
    }
    let authorization = format!("Bearer {}", world.shelf.reader_token());
    let reader = [("Authorization", authorization.as_str())];
    assert_eq!(world.ask_as_given("GET /v1/certificates", &reader, "").status, 200);
    for line in ["PUT /v1/certificates/a", "PUT /v1/listeners/front", "DELETE /v1/certificates/a", "POST /v1/check"] {
        let refused = world.ask_as_given(line, &reader, "");
        assert_eq!((refused.status, &refused.json()["permission"]), (403, &json!("certificates.write")), "{line}");
    }
}

#[test]
fn only_what_is_documented_is_taken() {
    let world = World::new();
    let body = certificate(&world.issue()).to_string();
    let json = [("Content-Type", "application/json; charset=utf-8")];
    for (line, headers, body, status) in [
        ("GET /v1/unknown", &[][..], "", 404),
        ("GET /v1/certificates?all=1", &[], "", 404),
        ("GET /v1/listeners/back", &[], "", 404),
        ("POST /v1/certificates", &json, "{}", 405),
        ("PUT /v1/certificates/a", &[("Content-Type", "text/plain")], &body, 415),
        ("PUT /v1/certificates/a", &[], &body, 415),
        ("PUT /v1/certificates/a", &json, "{", 400),
        ("PUT /v1/certificates/a", &json, r#"{"fullchain":"","labels":{},"more":1}"#, 400),
        ("PUT /v1/certificates/a", &json, r#"{"fullchain":"","labels":{}}"#, 422),
        ("PUT /v1/listeners/front", &json, "{}", 400),
        ("PUT /v1/listeners/front", &json, r#"{"certificate":null}"#, 428),
        ("PUT /v1/certificates/a", &json, &body, 201),
    ] {
        let reply = world.ask(line, headers, body);
        assert_eq!(reply.status, status, "{line} {headers:?}: {}", reply.body);
        assert!(status < 400 || reply.json()["error"].is_string(), "{line}: {}", reply.body);
    }
    let other = certificate(&world.issue());
    assert_eq!(world.ask_json("PUT /v1/certificates/a", &other).status, 409, "another certificate");
}

#[test]
fn check_is_a_dry_run() {
    let world = World::new();
    let (one, two) = (world.issue(), world.issue());
    let before = world.shelf.objects();
    let check = |key: &str| world.ask_json("POST /v1/check", &json!({ "fullchain": one.fullchain_pem, "key": key }));
    assert_eq!(check(&one.key_pem).status, 204);
    assert_eq!(check(&two.key_pem).status, 422);
    assert_eq!(check("").status, 422);
    assert_eq!(world.shelf.objects(), before);
}

#[test]
fn p3_revision_tells_who_was_faster() {
    let world = World::new();
    let (one, two) = (world.issue(), world.issue());
    world.shelf.put("one", &one, &[]);
    world.shelf.put("two", &two, &[]);
    world.shelf.overtake("front", Some("two"));
    assert_eq!(world.switch("\"1\"", Some("one")).status, 412);
    assert_eq!(world.served(), Ok(two.fingerprint));
    assert_eq!(world.switch("\"2\"", Some("missing")).status, 409);
    assert_eq!(world.switch("\"2\"", Some("one")).status, 200, "it happens once");
    assert_eq!(world.served(), Ok(one.fingerprint));
}

#[test]
fn objects_differ_when_anything_on_the_shelf_does() {
    let world = World::new();
    let issued = world.issue();
    let mut seen = vec![world.shelf.objects()];
    let mut differs = |objects: Objects| {
        assert!(!seen.contains(&objects), "{objects:?}");
        seen.push(objects);
    };
    world.ask_json("PUT /v1/certificates/a", &certificate(&issued));
    differs(world.shelf.objects());
    world.put_key("a", &issued.key_pem);
    differs(world.shelf.objects());
    world.shelf.put("a", &issued, &[("team", "core")]);
    differs(world.shelf.objects());
    world.shelf.activate("front", Some("a"));
    differs(world.shelf.objects());
}

#[test]
fn frozen_listener_goes_on_serving_what_it_had() {
    let world = World::new();
    let (one, two) = (world.issue(), world.issue());
    world.shelf.put("one", &one, &[]);
    world.shelf.put("two", &two, &[]);
    world.shelf.activate("front", Some("one"));
    world.shelf.freeze("front", true);
    world.shelf.activate("front", Some("two"));
    assert_eq!(world.shelf.active("front"), Some(two.fingerprint.clone()));
    assert_eq!(world.served(), Ok(one.fingerprint));
    world.shelf.freeze("front", false);
    assert_eq!(world.served(), Ok(two.fingerprint));
}
