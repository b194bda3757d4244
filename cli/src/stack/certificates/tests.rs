//! Which changes of the listener's certificate files are written for Envoy.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::certificates::tests::Files;

/// Changes files and returns the resulting news and the file contents before and after. The target
/// Envoy does not answer.
fn renewed(files: &Files, change: impl FnOnce()) -> (Vec<CertificateEvent>, [String; 2]) {
    let folder = files.folder.path();
    let written = || std::fs::read_to_string(folder.join("client-authorities.yaml")).unwrap();
    let mut certificates = Certificates::write(&files.tls, folder, folder).unwrap();
    let before = written();
    change();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let news = runtime.block_on(async {
        assert_eq!(certificates.changed().await, CertificateSet::Authorities);
        let silent = Target::Unix(folder.join("no-such-socket"));
        certificates
            .renew(CertificateSet::Authorities, (&silent, &Presence::default()))
            .await
    });
    (news, [before, written()])
}

#[test]
fn a_list_that_envoy_does_not_confirm_stays_written() {
    let files = Files::new();
    let list = files.authority.revoke(8, &[&files.leaf]).unwrap();
    let (news, [before, after]) = renewed(&files, || files.put("crl.pem", &list));
    assert!(
        matches!(news[..], [CertificateEvent::Unconfirmed { .. }]),
        "{news:?}"
    );
    assert_ne!(before, after, "it revokes once Envoy reads it");
}

#[test]
fn unusable_authorities_do_not_delay_a_list() {
    let files = Files::new();
    let list = files.authority.revoke(8, &[&files.leaf]).unwrap();
    let (news, [before, after]) = renewed(&files, || {
        files.put("ca.pem", "junk");
        files.put("crl.pem", &list);
    });
    assert!(
        matches!(&news[..], [CertificateEvent::Unconfirmed { .. }, CertificateEvent::Kept { why, .. }] if why.contains("client_ca")),
        "{news:?}"
    );
    assert_ne!(before, after);
}
