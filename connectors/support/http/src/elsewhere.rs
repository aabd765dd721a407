//! A remote that is reached at another host than the one that it is asked for.

use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::Arc;

use deploy_core::{Error, ErrorKind};
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::HeaderValue;

/// Says of every name that it is at one host.
pub(crate) struct Elsewhere(String);

impl Elsewhere {
    pub(crate) fn at(url: &Url) -> Arc<Self> {
        let host = url.host_str().unwrap_or_default();
        Arc::new(Self(host.trim_start_matches('[').trim_end_matches(']').to_owned()))
    }
}

impl Resolve for Elsewhere {
    fn resolve(&self, _: Name) -> Resolving {
        let host = self.0.clone();
        Box::pin(async move {
            // The port of the URL takes the place of this one.
            let found = tokio::task::spawn_blocking(move || (host.as_str(), 0).to_socket_addrs()).await??;
            Ok(Box::new(found) as Addrs)
        })
    }
}

/// Host and port, as `Host` has them.
pub(crate) fn authority(url: &Url) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(url.authority()).map_err(|error| {
        Error::new(ErrorKind::ConfigurationInvalid, "the URL of the API has no host that can be sent").with_source(error)
    })
}

/// The same URL with this host in it.
pub(crate) fn renamed(mut url: Url, name: &str) -> Result<Url, Error> {
    // An address would be connected to instead of being asked for.
    if name.parse::<IpAddr>().is_ok() || url.set_host(Some(name)).is_err() {
        return Err(Error::new(ErrorKind::ConfigurationInvalid, format!("TLS cannot ask for `{name}`, which is no host name")));
    }
    Ok(url)
}
