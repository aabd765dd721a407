//! Which bindings are meant, what http.sys makes of them, and who else is affected.

use deploy_core::{Error, ErrorKind};
use deploy_powershell::{Binding, FoundBindings};

use crate::config::{BindingName, IisSettings};

/// `sslFlags`: the name of the handshake chooses (SNI).
const SNI: u32 = 1;
/// `sslFlags`: the certificate is a file of the central store.
const CENTRAL: u32 = 2;

/// The bindings that get the certificate.
///
/// `ours` are the thumbprints of the target's certificates, for `replaces`.
///
/// # Errors
/// One that is named is not there or is of the central store; there is none; or another binding shares the certificate.
pub(crate) fn choose(settings: &IisSettings, found: &FoundBindings, ours: &[String]) -> Result<Vec<Binding>, Error> {
    let invalid = |message: String, next: &str| Error::new(ErrorKind::ConfigurationInvalid, message).with_next_step(next);
    let mut chosen: Vec<Binding> = Vec::new();
    for name in &settings.bindings {
        let mut meant = found.bindings.iter().filter(|binding| names(name, binding));
        let (Some(binding), None) = (meant.next(), meant.next()) else {
            let message = format!("the site {} has no https binding {}:{}:{}", name.site, name.ip, name.port, name.host);
            return Err(invalid(message, "create the binding in IIS, or correct `bindings`"));
        };
        chosen.push(binding.clone());
    }
    if let Some(replaces) = &settings.replaces {
        let carries = |thumbprint: &String| thumbprint.eq_ignore_ascii_case(replaces) || ours.contains(thumbprint);
        let others = found.bindings.iter().filter(|binding| carries(&binding.thumbprint) && !chosen.contains(binding));
        let others: Vec<Binding> = others.cloned().collect();
        chosen.extend(others);
        if chosen.is_empty() {
            let message = format!("no https binding has the certificate {replaces}, or one of this target");
            return Err(invalid(message, "name the bindings in `bindings`, or correct `replaces`"));
        }
    }
    if let Some(central) = chosen.iter().find(|binding| binding.flags & CENTRAL != 0) {
        let message = format!("the binding {} takes its certificate from the central store", shown(central));
        return Err(invalid(message, "use `central_store` for it, or change the binding in IIS"));
    }
    let affected = |other: &&Binding| {
        !chosen.contains(other)
            && other.flags & CENTRAL == 0
            && chosen.iter().any(|binding| mapping_name(binding) == mapping_name(other))
    };
    let sharers: Vec<String> = found.bindings.iter().filter(affected).map(shown).collect();
    if !sharers.is_empty() {
        let message =
            format!("these bindings share one certificate in http.sys with those of the target: {}", sharers.join(", "));
        return Err(invalid(message, "name them in `bindings`, too, or give them a host name with SNI in IIS"));
    }
    Ok(chosen)
}

/// The record of http.sys for a binding, as its name is below `IIS:\SslBindings`. With SNI there is one for each port and name,
/// whatever the address; without, one for each address and port.
pub(crate) fn mapping_name(binding: &Binding) -> String {
    let (ip, port, host) = parts(&binding.information);
    if binding.flags & SNI != 0 {
        format!("!{port}!{}", host.to_ascii_lowercase())
    } else if ip == "*" {
        format!("0.0.0.0!{port}")
    } else {
        format!("{ip}!{port}")
    }
}

/// What http.sys serves for a binding: the thumbprint, and the store that it is in.
pub(crate) fn mapped<'f>(binding: &Binding, found: &'f FoundBindings) -> Option<(&'f str, &'f str)> {
    let name = mapping_name(binding);
    let mapping = found.mappings.iter().find(|mapping| mapping.name.replace(['[', ']'], "").eq_ignore_ascii_case(&name))?;
    (!mapping.thumbprint.is_empty()).then_some((mapping.thumbprint.as_str(), mapping.store.as_str()))
}

/// Records of http.sys for an address of its own, which take every handshake there, whatever its name says.
pub(crate) fn shadows(chosen: &[Binding], found: &FoundBindings) -> Vec<String> {
    let ours: Vec<String> = chosen.iter().map(mapping_name).collect();
    let hides = |name: &String| {
        let Some((ip, port)) = name.rsplit_once('!').filter(|(ip, _)| !ip.is_empty() && !ip.contains('!')) else { return false };
        let hidden = |binding: &Binding| binding.flags & SNI != 0 && parts(&binding.information).1 == port;
        ip != "0.0.0.0" && !ours.contains(name) && chosen.iter().any(hidden)
    };
    let names = found.mappings.iter().map(|mapping| mapping.name.replace(['[', ']'], ""));
    names.filter(hides).map(|name| name.replacen('!', ":", 1)).collect()
}

/// Whether the settings mean this binding. IIS writes no address as `*` or as nothing.
fn names(name: &BindingName, binding: &Binding) -> bool {
    let (ip, port, host) = parts(&binding.information);
    let same_ip = name.ip.trim_matches(['[', ']']) == ip
        || name.ip.parse::<std::net::IpAddr>().is_ok_and(|wanted| ip.parse() == Ok(wanted));
    binding.site == name.site && port == name.port.to_string() && host.eq_ignore_ascii_case(&name.host) && same_ip
}

/// Address, port and host of `*:443:www.example.com`. An IPv6 address has colons, in brackets.
fn parts(information: &str) -> (&str, &str, &str) {
    let (rest, host) = information.rsplit_once(':').unwrap_or((information, ""));
    let (ip, port) = rest.rsplit_once(':').unwrap_or((rest, ""));
    match ip.trim_matches(['[', ']']) {
        "" => ("*", port, host),
        ip => (ip, port, host),
    }
}

fn shown(binding: &Binding) -> String {
    format!("{} of the site {}", binding.information, binding.site)
}

#[cfg(test)]
mod tests;
