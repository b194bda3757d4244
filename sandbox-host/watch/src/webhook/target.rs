//! The server of a webhook: sends one attempt, signed with the secret that its file has now.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue};
use tensorgate_base::unix_time::now_unix_s;
use tensorgate_net::client_tls::client_tls;
use tensorgate_net::pem::TlsError;
use tensorgate_net::post::{Post, post_to};
use tensorgate_net::resolve::Resolve;
use tensorgate_net::tls::Tls;
use tensorgate_policy::policy::{BackendTls, Webhook};

use super::message::Message;
use super::secret::{Secret, SecretFault};

/// The header fields of Standard Webhooks.
const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Why the files of a webhook cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each carries its part's own error")]
pub enum WebhookFault {
    #[error(transparent)]
    Secret(#[from] SecretFault),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A server that receives alerts.
pub struct Target {
    rule: Webhook,
    secret: PathBuf,
    tls: Option<Arc<Tls>>,
}

impl Target {
    /// Reads the files of a webhook, which are relative to `root`.
    ///
    /// # Errors
    /// Returns an error if a file cannot be used.
    pub fn new(rule: &Webhook, root: &Path) -> Result<Self, WebhookFault> {
        let secret = root.join(rule.secret_file());
        Secret::read(&secret)?;
        let tls = || client_tls(root, rule.ca().map(BackendTls::of_authorities));
        let tls = rule.tls().then(tls);
        Ok(Self {
            rule: rule.clone(),
            secret,
            tls: tls.transpose()?,
        })
    }

    /// The policy's entry.
    pub const fn rule(&self) -> &Webhook {
        &self.rule
    }

    /// Checks files that may have been replaced. Certificates that cannot be used leave the
    /// previous ones in force.
    ///
    /// # Errors
    /// Returns an error if a file cannot be used.
    pub fn reload(&self) -> Result<(), WebhookFault> {
        Secret::read(&self.secret)?;
        self.tls.as_ref().map_or(Ok(()), |tls| tls.reload())?;
        Ok(())
    }

    /// Whether the webhook takes messages of this severity.
    pub(super) fn takes(&self, message: &Message) -> bool {
        message.severity >= self.rule().severity()
    }

    /// Sends a message once. `sender` bounds concurrent name lookups.
    pub(super) async fn send(
        &self,
        message: &Message,
        resolver: &dyn Resolve,
        sender: &Arc<str>,
    ) -> Result<(), String> {
        let path = self.secret.clone();
        let reading = tokio::task::spawn_blocking(move || Secret::read(&path)).await;
        let secret = reading.map_err(|error| error.to_string())?;
        let secret = secret.map_err(|error| error.to_string())?;
        let timestamp = now_unix_s();
        let signature = secret.sign(&message.id, timestamp, &message.body);
        let text = |text: String| HeaderValue::try_from(text).map_err(|error| error.to_string());
        let request = Post {
            server: self.rule.server(),
            port: self.rule.port(),
            path: self.rule.path(),
            tls: self.tls.as_ref(),
            fields: vec![
                (CONTENT_TYPE, HeaderValue::from_static("application/json")),
                (ID, text(message.id.clone())?),
                (TIMESTAMP, timestamp.into()),
                (SIGNATURE, text(signature)?),
            ],
            body: message.body.clone(),
        };
        let admits = |address| self.rule.admits(address);
        let status = post_to(request, (resolver, sender), admits).await?;
        if status.is_success() {
            Ok(())
        } else {
            Err(format!("the server responded with {status}"))
        }
    }
}
