use deploy_powershell::{Connection, WinrmSettings};
use serde_json::json;

use super::*;

fn found(bindings: &serde_json::Value, mappings: &[&str]) -> FoundBindings {
    let mappings: Vec<_> = mappings.iter().map(|name| json!({ "name": name, "thumbprint": "AA", "store": "My" })).collect();
    serde_json::from_value(json!({ "bindings": bindings, "mappings": mappings })).unwrap()
}

fn binding(site: &str, information: &str, flags: u32, thumbprint: &str) -> serde_json::Value {
    json!({ "site": site, "information": information, "flags": flags, "thumbprint": thumbprint, "store": "My" })
}

fn settings(bindings: Vec<BindingName>) -> IisSettings {
    let winrm = WinrmSettings::new("web1.example.com", "certdeploy", "file:/etc/certdeploy/web1".parse().unwrap());
    IisSettings::new(Connection::Winrm(winrm), bindings)
}

fn chosen(settings: &IisSettings, found: &FoundBindings) -> Result<Vec<String>, String> {
    let chosen = choose(settings, found, &["CC".to_owned()]).map_err(|error| error.to_string())?;
    Ok(chosen.iter().map(shown).collect())
}

#[test]
fn only_the_binding_that_is_named_is_chosen() {
    let found = found(
        &json!([
            binding("a", "*:443:www.example.com", 1, "AA"),
            binding("a", "*:443:api.example.com", 1, "AA"),
            binding("a", ":8443:www.example.com", 1, "AA"),
            binding("b", "[::1]:443:", 0, "AA"),
        ]),
        &[],
    );
    let named = |name: BindingName| chosen(&settings(vec![name]), &found);
    assert_eq!(named(BindingName::new("a", "WWW.example.com")).unwrap(), ["*:443:www.example.com of the site a"]);
    assert_eq!(
        named(BindingName { port: 8443, ..BindingName::new("a", "www.example.com") }).unwrap(),
        [":8443:www.example.com of the site a"]
    );
    assert_eq!(named(BindingName { ip: "::1".into(), ..BindingName::new("b", "") }).unwrap(), ["[::1]:443: of the site b"]);
    for missing in [BindingName::new("b", "www.example.com"), BindingName::new("a", ""), BindingName::new("A", "www.example.com")]
    {
        assert!(named(missing.clone()).unwrap_err().contains("has no https binding"), "{missing:?}");
    }
}

#[test]
fn bindings_that_carried_the_previous_thumbprint_follow() {
    let found = found(
        &json!([
            binding("a", "*:443:one.example.com", 1, "AA"),
            binding("a", "*:443:two.example.com", 1, "BB"),
            binding("b", "*:443:three.example.com", 1, "CC"),
        ]),
        &[],
    );
    let mut settings = settings(Vec::new());
    settings.replaces = Some("bb".to_owned());
    let expected = ["*:443:two.example.com of the site a", "*:443:three.example.com of the site b"];
    assert_eq!(chosen(&settings, &found).unwrap(), expected, "that of a thumbprint, and that of a certificate of the target");
    settings.replaces = Some("DD".to_owned());
    let none = FoundBindings::default();
    assert!(chosen(&settings, &none).unwrap_err().contains("no https binding has the certificate DD"));
}

#[test]
fn who_would_get_the_certificate_unasked_is_named() {
    let shared = found(
        &json!([
            binding("a", "*:443:", 0, "AA"),
            binding("b", "*:443:b.example.com", 0, "AA"),
            binding("c", "*:443:c.example.com", 1, "AA")
        ]),
        &["0.0.0.0!443"],
    );
    let error = chosen(&settings(vec![BindingName::new("a", "")]), &shared).unwrap_err();
    assert!(error.contains("*:443:b.example.com of the site b") && !error.contains("site c"), "{error}");
    let both = settings(vec![BindingName::new("a", ""), BindingName::new("b", "b.example.com")]);
    assert_eq!(chosen(&both, &shared).unwrap().len(), 2);
    // With SNI the address does not count.
    let two = found(
        &json!([binding("a", "10.0.0.1:443:x.example.com", 1, "AA"), binding("b", "10.0.0.2:443:X.example.com", 1, "AA")]),
        &[],
    );
    let one = settings(vec![BindingName { ip: "10.0.0.1".into(), ..BindingName::new("a", "x.example.com") }]);
    assert!(chosen(&one, &two).unwrap_err().contains("of the site b"));
}

#[test]
fn flags_of_the_central_store_are_refused() {
    let found = found(&json!([binding("a", "*:443:www.example.com", 3, "")]), &[]);
    let error = chosen(&settings(vec![BindingName::new("a", "www.example.com")]), &found).unwrap_err();
    assert!(error.contains("central store"), "{error}");
}

#[test]
fn a_mapping_of_a_whole_address_hides_those_by_name() {
    let found = found(
        &json!([binding("a", "*:443:www.example.com", 1 | 32 | 64, "AA"), binding("a", "10.0.0.7:443:", 0, "AA")]),
        &["!443!www.example.com", "0.0.0.0!443", "10.0.0.5!443", "10.0.0.5!8443", "10.0.0.7!443", "!443!other.example.com"],
    );
    let by_name = choose(&settings(vec![BindingName::new("a", "www.example.com")]), &found, &[]).unwrap();
    assert_eq!(shadows(&by_name, &found), ["10.0.0.5:443", "10.0.0.7:443"]);
    assert_eq!(mapped(&by_name[0], &found), Some(("AA", "My")), "unknown flags are no reason to lose SNI");
    let both = vec![BindingName::new("a", "www.example.com"), BindingName { ip: "10.0.0.7".into(), ..BindingName::new("a", "") }];
    assert_eq!(shadows(&choose(&settings(both), &found, &[]).unwrap(), &found), ["10.0.0.5:443"]);
}
