//! Certificate chains: whether a signing certificate leads to a trusted root at a point in time.

use super::certificate::{Certificate, Purpose};
use super::time::rfc3339;

/// Maximum authorities between a signing certificate and a root.
const MAX_AUTHORITIES: usize = 8;
/// Maximum signatures of certificates that are verified in search of a root.
const MAX_CHECKS: usize = 32;

/// Why a certificate chain is rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    /// Nothing is trusted.
    #[error(
        "none of the trusted certificates is a root, one that has signed itself; add the root \
         certificate"
    )]
    NoRoot,
    /// The bundle has no signing certificate.
    #[error("the bundle has no signing certificate")]
    Empty,
    /// It is expired or not valid yet.
    #[error("the certificate {name:?} is valid from {from} to {to}; the time is {now}")]
    Time {
        /// The certificate's name.
        name: String,
        /// The first second of its validity, RFC 3339.
        from: String,
        /// The last second of its validity.
        to: String,
        /// The time of the check.
        now: String,
    },
    /// It may not sign models.
    #[error(
        "the certificate {0:?} may not sign models: it needs the key usage `digitalSignature` and \
         the extended key usage `codeSigning`"
    )]
    Usage(String),
    /// It may not stamp times.
    #[error(
        "the certificate {0:?} may not stamp times: it needs the critical extended key usage \
         `timeStamping` alone"
    )]
    StampUsage(String),
    /// Its key cannot sign models.
    #[error("the certificate {0:?} has an RSA key, which signs no models")]
    Key(String),
    /// An issuer that may not issue it.
    #[error("the certificate {0:?} may not sign certificates of such a chain")]
    Authority(String),
    /// No trusted root.
    #[error("no chain of certificates leads from {0:?} to a trusted root")]
    Untrusted(String),
}

/// The certificates that a verifier trusts.
#[derive(Clone, Debug)]
pub struct Roots {
    /// Those that have signed themselves.
    roots: Vec<Certificate>,
    /// The others, which complete chains and are not trusted by themselves.
    authorities: Vec<Certificate>,
}

impl Roots {
    /// Trusts the certificates that have signed themselves. Others only complete chains.
    ///
    /// # Errors
    /// There is no root among them.
    pub fn new(certificates: Vec<Certificate>) -> Result<Self, ChainFault> {
        let (roots, authorities): (Vec<_>, Vec<_>) = certificates
            .into_iter()
            .partition(|one| one.names_issuer(one) && one.has_signed(one));
        if roots.is_empty() {
            return Err(ChainFault::NoRoot);
        }
        Ok(Self { roots, authorities })
    }

    /// The signing certificate of a chain, which begins with it, if it is valid at this time and
    /// leads to a root through certificates that are valid at this time.
    pub(super) fn signer<'c>(
        &self,
        chain: &'c [Certificate],
        now_s: u64,
    ) -> Result<&'c Certificate, ChainFault> {
        let (signer, others) = chain.split_first().ok_or(ChainFault::Empty)?;
        check_signer(signer, now_s)?;
        self.check_chain(signer, others, Purpose::Models, now_s)?;
        Ok(signer)
    }

    /// Checks that a certificate stamps times, was valid at this time and leads to a root through
    /// certificates that were valid at this time.
    pub(super) fn check_time_stamper(
        &self,
        signer: &Certificate,
        time_s: u64,
    ) -> Result<(), ChainFault> {
        check_time(signer, time_s)?;
        if !signer.extensions.stamps_times() {
            return Err(ChainFault::StampUsage(signer.name()));
        }
        self.check_chain(signer, &[], Purpose::TimeStamps, time_s)
    }

    fn check_chain(
        &self,
        signer: &Certificate,
        others: &[Certificate],
        purpose: Purpose,
        now_s: u64,
    ) -> Result<(), ChainFault> {
        let authorities: Vec<_> = others.iter().chain(&self.authorities).collect();
        let mut search = Search {
            roots: &self.roots,
            authorities: &authorities,
            purpose,
            now_s,
            checks_left: MAX_CHECKS,
            cause: None,
        };
        if search.leads_to_root(signer, 0) {
            return Ok(());
        }
        let untrusted = || ChainFault::Untrusted(signer.name());
        Err(search.cause.unwrap_or_else(untrusted))
    }
}

/// Checks what a signing certificate must be by itself.
pub(super) fn check_signer(signer: &Certificate, now_s: u64) -> Result<(), ChainFault> {
    check_time(signer, now_s)?;
    if !signer.extensions.signs_models() {
        return Err(ChainFault::Usage(signer.name()));
    }
    if signer.model_key().is_none() {
        return Err(ChainFault::Key(signer.name()));
    }
    Ok(())
}

fn check_time(certificate: &Certificate, now_s: u64) -> Result<(), ChainFault> {
    let (from, to) = certificate.validity();
    if (from..=to).contains(&now_s) {
        return Ok(());
    }
    Err(ChainFault::Time {
        name: certificate.name(),
        from: rfc3339(from),
        to: rfc3339(to),
        now: rfc3339(now_s),
    })
}

/// A search for a root. Its depth and its signatures are bounded, because the signer chooses the
/// certificates.
struct Search<'a> {
    roots: &'a [Certificate],
    authorities: &'a [&'a Certificate],
    purpose: Purpose,
    now_s: u64,
    checks_left: usize,
    /// Why the first certificate with the name of an issuer was not one.
    cause: Option<ChainFault>,
}

impl Search<'_> {
    /// `authorities_below` is how many authorities stand between the issuer that is searched and
    /// the signing certificate.
    fn leads_to_root(&mut self, subject: &Certificate, authorities_below: usize) -> bool {
        let (roots, authorities) = (self.roots, self.authorities);
        if roots
            .iter()
            .any(|root| self.is_issuer(root, subject, authorities_below))
        {
            return true;
        }
        authorities_below < MAX_AUTHORITIES
            && authorities.iter().any(|authority| {
                self.is_issuer(authority, subject, authorities_below)
                    && self.leads_to_root(authority, authorities_below.saturating_add(1))
            })
    }

    fn is_issuer(
        &mut self,
        issuer: &Certificate,
        subject: &Certificate,
        authorities_below: usize,
    ) -> bool {
        if !subject.names_issuer(issuer) {
            return false;
        }
        let Some(left) = self.checks_left.checked_sub(1) else {
            return false;
        };
        self.checks_left = left;
        if !issuer.has_signed(subject) {
            return false;
        }
        let fault = match check_time(issuer, self.now_s) {
            Err(fault) => fault,
            Ok(()) if (issuer.extensions).signs_certificates(self.purpose, authorities_below) => {
                return true;
            }
            Ok(()) => ChainFault::Authority(issuer.name()),
        };
        self.cause.get_or_insert(fault);
        false
    }
}

#[cfg(test)]
mod tests;
