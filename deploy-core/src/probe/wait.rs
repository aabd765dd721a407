//! Waiting until the wanted certificate is served.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::crypto::CryptoProvider;
use thiserror::Error;

use super::{Endpoint, HandshakeProblem, Observation, ProbeError, probe};
use crate::context::Cancellation;

/// The first pause between two looks, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));

/// Looks until the endpoint serves the certificate with this SHA-256 fingerprint (hexadecimal).
///
/// Servers go on with the old certificate, or without one for this name, for a moment after a reload, and some close their
/// listener meanwhile. So another certificate, an unknown name and an unreachable server are looked at again until the
/// deadline; anything else is final. With `all_addresses`, all must serve it in one look.
///
/// # Errors
///
/// What was seen last, and why that is not it.
pub fn wait_for(
    endpoint: &Endpoint,
    wanted_fingerprint: &str,
    provider: &Arc<CryptoProvider>,
    deadline: Instant,
    cancellation: Option<&Cancellation>,
) -> Result<Vec<Observation>, VerifyFailure> {
    wait_while(endpoint, wanted_fingerprint, provider, deadline, cancellation, &mut || true)
}

/// The same, for as long as there is somebody to wait for.
pub(crate) fn wait_while(
    endpoint: &Endpoint,
    wanted_fingerprint: &str,
    provider: &Arc<CryptoProvider>,
    deadline: Instant,
    cancellation: Option<&Cancellation>,
    goes_on: &mut dyn FnMut() -> bool,
) -> Result<Vec<Observation>, VerifyFailure> {
    let never = Cancellation::default();
    let mut pause = PAUSES.0;
    let mut served = None;
    let mut last: Option<(Vec<Observation>, VerifyProblem)> = None;
    loop {
        let looked = look(endpoint, wanted_fingerprint, provider, deadline, cancellation);
        let (observations, problem) = match looked {
            Ok(observations) => return Ok(observations),
            Err(seen) => seen,
        };
        if let VerifyProblem::OtherCertificate { served: other, .. } = &problem {
            served = Some(other.clone());
        }
        let retry = problem.may_pass();
        let left = deadline.saturating_duration_since(Instant::now());
        // A look that the deadline cut short says less than the one before it.
        let cut_short = left.is_zero() && matches!(problem, VerifyProblem::Probe(ProbeError::Timeout { .. }));
        match last {
            Some(_) if cut_short => {}
            _ => last = Some((observations, problem)),
        }
        let interrupted = retry && !left.is_zero() && cancellation.unwrap_or(&never).wait(pause.min(left));
        if interrupted {
            last = Some((Vec::new(), VerifyProblem::Probe(ProbeError::Interrupted)));
        }
        if retry && !interrupted && Instant::now() < deadline && goes_on() {
            pause = (pause * 2).min(PAUSES.1);
            continue;
        }
        if let Some((observations, problem)) = last {
            let (endpoint, wanted, problem) = (Box::new(endpoint.clone()), wanted_fingerprint.to_owned(), Box::new(problem));
            return Err(VerifyFailure { endpoint, wanted, served, observations, problem });
        }
    }
}

/// The wanted certificate was not seen to work.
#[derive(Debug, Error)]
#[error("{endpoint} does not serve the certificate {wanted}{}", .served.as_ref().map(|it| format!("; it served {it}")).unwrap_or_default())]
#[non_exhaustive]
pub struct VerifyFailure {
    /// Where.
    pub endpoint: Box<Endpoint>,
    /// The fingerprint that was wanted.
    pub wanted: String,
    /// The other fingerprint that was served most recently, if any was.
    pub served: Option<String>,
    /// What the last look showed; empty when it failed as a whole.
    pub observations: Vec<Observation>,
    /// What was wrong with it.
    #[source]
    pub problem: Box<VerifyProblem>,
}

impl VerifyFailure {
    /// Whether nobody could look: the server can't be probed, or proves its key in a way that can't be checked here. Then
    /// the certificate may be live and well.
    #[must_use]
    pub fn is_inconclusive(&self) -> bool {
        matches!(
            *self.problem,
            VerifyProblem::Probe(ProbeError::NotProbeable { .. })
                | VerifyProblem::Handshake { source: HandshakeProblem::Unchecked { .. }, .. }
        )
    }

    /// Whether nobody answered. A server that answers, and then refuses TLS, was seen.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(&*self.problem, VerifyProblem::Probe(error) if error.unreachable())
    }

    /// Whether the caller asked to stop.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        matches!(*self.problem, VerifyProblem::Probe(ProbeError::Interrupted))
    }
}

/// What was wrong with the last look.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VerifyProblem {
    /// It serves the wanted certificate, but the handshake fails.
    #[error("{address} presents it, but the handshake fails")]
    Handshake {
        /// Who.
        address: std::net::SocketAddr,
        /// How.
        #[source]
        source: HandshakeProblem,
    },
    /// It serves another one.
    #[error("{address} serves {served}")]
    OtherCertificate {
        /// Who.
        address: std::net::SocketAddr,
        /// Which.
        served: String,
    },
    /// It could not be asked.
    #[error("no certificate was seen")]
    Probe(#[source] ProbeError),
}

impl VerifyProblem {
    fn may_pass(&self) -> bool {
        match self {
            Self::Handshake { .. } => false,
            Self::OtherCertificate { .. } => true,
            // Whatever an old worker answers may be gone with it: no TLS at all, or no certificate of this kind.
            Self::Probe(error) => !matches!(
                error,
                ProbeError::Endpoint { .. }
                    | ProbeError::Interrupted
                    | ProbeError::NotProbeable { .. }
                    | ProbeError::Setup { .. }
            ),
        }
    }
}

fn look(
    endpoint: &Endpoint,
    wanted: &str,
    provider: &Arc<CryptoProvider>,
    deadline: Instant,
    cancellation: Option<&Cancellation>,
) -> Result<Vec<Observation>, (Vec<Observation>, VerifyProblem)> {
    let observations =
        probe(endpoint, provider, deadline, cancellation).map_err(|error| (Vec::new(), VerifyProblem::Probe(error)))?;
    // A failing handshake on the wanted certificate is final, so it counts more than another certificate elsewhere.
    let is_wanted = |observation: &&Observation| observation.fingerprint.eq_ignore_ascii_case(wanted);
    let broken = observations.iter().filter(is_wanted).find_map(|seen| {
        let source = seen.handshake.as_ref().err()?.clone();
        Some(VerifyProblem::Handshake { address: seen.address, source })
    });
    let other = observations
        .iter()
        .find(|seen| !is_wanted(seen))
        .map(|seen| VerifyProblem::OtherCertificate { address: seen.address, served: seen.fingerprint.clone() });
    match broken.or(other) {
        Some(problem) => Err((observations, problem)),
        None => Ok(observations),
    }
}
