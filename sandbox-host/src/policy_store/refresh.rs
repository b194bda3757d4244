//! Reloads the files of an active policy, which may have changed.

use std::sync::Arc;

use tensorgate_settings::signed;

use super::assemble::routes::used;
use super::assemble::{Loader, PolicyFault};
use super::parts::Parts;
use crate::policy_store::policy_versions::PolicyVersion;

impl Loader {
    /// Reads the files of a version again: replaced certificates of backends, keys of captures, and
    /// signatures of components. Returns every file that cannot be used.
    pub(crate) async fn reload_secrets(
        self: &Arc<Self>,
        generation: &Arc<PolicyVersion>,
    ) -> Result<(), Vec<PolicyFault>> {
        let (loader, generation) = (Arc::clone(self), Arc::clone(generation));
        let reading = tokio::task::spawn_blocking(move || {
            let Parts {
                backends,
                capturer,
                webhooks,
                ..
            } = &generation.parts;
            let servers = backends.iter().filter_map(|(name, server)| {
                let source = server.reload_secrets().err()?;
                let name = name.clone();
                Some(PolicyFault::Tls { name, source })
            });
            let keys = capturer.iter().filter_map(|it| it.reload_keys().err());
            let policy = generation.policy();
            let hooks = webhooks.iter().enumerate().filter_map(|(index, it)| {
                let fault = it.reload().err()?;
                Some(PolicyFault::Webhook(
                    policy.watch().webhook_path(index),
                    fault,
                ))
            });
            let (_, unsigned) = signed::signers_of(policy, &used(policy), &loader.folders);
            servers
                .chain(keys.map(PolicyFault::from))
                .chain(hooks)
                .chain(unsigned.into_iter().map(PolicyFault::from))
                .collect::<Vec<_>>()
        });
        match reading.await {
            Ok(faults) if faults.is_empty() => Ok(()),
            Ok(faults) => Err(faults),
            Err(error) => Err(vec![PolicyFault::Loading(error.to_string())]),
        }
    }
}
